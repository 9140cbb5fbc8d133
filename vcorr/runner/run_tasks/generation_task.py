"""Generation: videos are sampled and scored, and no attention is read (`vcorr generate`)."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pyarrow as pa

from vcorr.contract.modes import Generate
from vcorr.contract.records import Clip, ModelCard
from vcorr.contract.tasks import GENERATION
from vcorr.runner.called_model import CalledModel
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.chosen_layers import fill_layers
from vcorr.runner.generation import check_generation_words, video_row
from vcorr.runner.judges import Judge
from vcorr.runner.plan import Plan
from vcorr.runner.predict import ClipFacts, Predicted
from vcorr.runner.run_tasks.clip_stages import ClipStages
from vcorr.runner.run_tasks.run_task import RunTask
from vcorr.runner.score import RowContext
from vcorr.runner.spec import RunSpec
from vcorr.runner.track import read_video, rows_of_both_ways
from vcorr.runner.tracking import refuse_propagating, refuse_tracking
from vcorr.runner.tracking_site import SitedSpec
from vcorr.runner.video_scoring import score_video_clip
from vcorr.store.columns import to_table
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import SCORES, PredictionRow, TrackRow


class GenerationTask(RunTask):
    """Makes a video per clip, with or without a guidance."""

    name = GENERATION
    command = "generate"
    own_flags = ("tracker", "task", "from_run", "guidance", "num_steps")
    stages = f"{__name__}:GenerationStages"

    def check_words(self, spec: RunSpec) -> None:
        """Refuses what reading attention, tracking or propagation have alone."""
        refuse_propagating(spec)
        refuse_tracking(spec, ("preset",))
        check_generation_words(spec)

    def fill_site(self, spec: RunSpec, model: CalledModel, card: ModelCard | None, weights: str) -> SitedSpec:
        """Returns the spec with the layers of its guidance; raises as `fill_layers`."""
        return SitedSpec(*fill_layers(spec, model.sites(), card))

    def choose_mode_word(self, spec: RunSpec) -> str:
        """Returns the one mode that makes videos."""
        return Generate.name


class GenerationStages(ClipStages):
    """Stores each video, and follows points through it forth and back."""

    def rows_of_tracks(
        self, plan: Plan, run: RunDirectory, clip: Clip, tracker: CalledTracker | None, facts: ClipFacts
    ) -> list[TrackRow]:
        """Returns a row for the tracks, and one for the ways back from their ends."""
        assert tracker is not None  # a video that was made has no tracks of its own
        return rows_of_both_ways(plan, run, clip, tracker, facts)

    def rows_of_predictions(self, plan: Plan, run_id: str, predicted: Predicted) -> list[PredictionRow]:
        """Returns one row: a video was made, and nothing was read."""
        return [video_row(run_id, predicted.clip, predicted.grid, plan.selection.sites[0].attention)]

    def score(
        self, run: RunDirectory, context: RowContext, judges: Sequence[Judge], predictions: pa.Table, tracks: pa.Table
    ) -> pa.Table:
        """Scores the video of a clip; raises as `score_video_clip`."""
        rows = score_video_clip(context, judges, predictions, tracks, functools.partial(read_video, run))
        return to_table(rows, SCORES)
