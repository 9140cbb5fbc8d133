"""Propagation: masks are carried from frame 0 through every frame (`vcorr propagate --data`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcorr.contract.protocols import Probe
from vcorr.contract.records import Clip
from vcorr.contract.tasks import PROPAGATION
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.carried import carry
from vcorr.runner.followed import SiteChoice
from vcorr.runner.judges import Judge
from vcorr.runner.parts import Part
from vcorr.runner.plan import Plan
from vcorr.runner.predict import ClipFacts, Predicted, Prepared
from vcorr.runner.predicted_masks import predict_masks
from vcorr.runner.row_words import STATUS_OK
from vcorr.runner.run_data import ClipReader
from vcorr.runner.run_tasks.one_site_task import OneSiteStages, OneSiteTask
from vcorr.runner.score import RowContext, score_table
from vcorr.runner.spec import RunSpec
from vcorr.runner.stored_masks import check_masks, keep_masks, read_masks
from vcorr.runner.track import row_without_points
from vcorr.runner.tracking import Propagation, check_reads_videos
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import TrackRow


class PropagationTask(OneSiteTask):
    """Carries the mask of frame 0, against masks that the data bring."""

    name = PROPAGATION
    command = "propagate"
    own_flags = ("tracker", "task", "from_run")
    stages = f"{__name__}:PropagationStages"
    scores_objects = True

    def check_words(self, spec: RunSpec) -> None:
        """Refuses modes that make videos."""
        check_reads_videos(spec)

    def choose_acting(
        self, spec: RunSpec, model: Part, probes: Mapping[str, Probe], parts: Sequence[Part], asked: SiteChoice
    ) -> tuple[Part, Propagation]:
        """Returns what carries the masks, and how; raises as `carried.carry`."""
        return carry(spec, model, probes, parts, asked)

    def read_masks(self, dataset: ClipReader, clip: Clip) -> NDArray[np.uint8]:
        """Returns the reference masks of a clip; raises as `ClipReader.masks`."""
        return dataset.masks(clip)


class PropagationStages(OneSiteStages):
    """Stores the masks of each clip in a file of the run."""

    def predict(
        self, plan: Plan, probes: dict[str, Probe], prepared: Prepared, on_step: Callable[[], None]
    ) -> Predicted:
        """Carries the mask of frame 0 through a clip; raises as `predict_masks`."""
        return predict_masks(plan, prepared)

    def keep_files(self, plan: Plan, run: RunDirectory, predicted: Predicted) -> dict[str, Any]:
        """Stores the masks, and returns the hash of their file and what the clip cost."""
        assert predicted.masks is not None  # `predict_masks` made them
        return {**super().keep_files(plan, run, predicted), **keep_masks(run, predicted.clip.id, predicted.masks)}

    def check_files(self, plan: Plan, run: RunDirectory, clip_id: str) -> None:
        """Checks that the masks are the ones that were made; raises as `check_masks`."""
        check_masks(run, clip_id)

    def rows_of_tracks(
        self, plan: Plan, run: RunDirectory, clip: Clip, tracker: CalledTracker | None, facts: ClipFacts
    ) -> list[TrackRow]:
        """Returns a row without points, which says what the reference is."""
        return row_without_points(plan, run, clip, facts)

    def score(
        self, run: RunDirectory, context: RowContext, judges: Sequence[Judge], predictions: pa.Table, tracks: pa.Table
    ) -> pa.Table:
        """Scores the masks of a clip; one that failed has none. Raises as `score_table` and `read_masks`."""
        is_made = predictions["status"][0].as_py() == STATUS_OK
        masks = read_masks(run, str(predictions["clip"][0].as_py())) if is_made else None
        return score_table(context, judges, predictions, tracks, masks)
