"""What depends on the task of a run: the class that every task extends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcorr.contract.modes import RunMode
from vcorr.contract.protocols import Probe
from vcorr.contract.records import Clip, ModelCard, RunSettings
from vcorr.contract.tasks import AT_ONE_SITE, MAKING_VIDEOS
from vcorr.plugins.registry import Registry
from vcorr.runner import track
from vcorr.runner.called_model import CalledModel
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.chosen_site import ChosenSite, choose_best_site
from vcorr.runner.followed import SiteChoice
from vcorr.runner.judges import Judge
from vcorr.runner.parts import Part, model_part
from vcorr.runner.predict import ClipFacts, Predicted, Prepared, predict_clip, prediction_rows
from vcorr.runner.run_data import ClipReader
from vcorr.runner.score import RowContext, score_clip
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import Propagation, Tracking
from vcorr.runner.tracking_site import SitedSpec
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import PredictionRow, ScoreRow, TrackRow

if TYPE_CHECKING:
    from vcorr.runner.plan import Plan
    from vcorr.runner.plan_steps import FoundModel, NamedParts


class RunTask(ABC):
    """What a run measures, and how: the words it takes, what the model does with a clip, and what is stored.

    It has no state. Its methods are called in the order in which they are written here.
    """

    name: ClassVar[str]
    command: ClassVar[str] = "run"
    """The command of vcorr that makes such a run."""
    own_flags: ClassVar[tuple[str, ...]] = ()
    """Fields of the spec that `vcorr run` takes by `--set`, and that this command has a flag for, or is itself."""
    asks_probes: ClassVar[bool] = False
    """Whether the probes of the run are asked at every site and step. If False, the model asks them, or nothing does.
    """
    needs_tracks: ClassVar[bool] = False
    """Whether the data must bring tracks, against which points are measured."""
    scores_objects: ClassVar[bool] = False
    """Whether clips have objects with scores of their own."""

    @property
    def at_one_site(self) -> bool:
        """Whether a tracker, or a model at one site that was chosen before, is measured, in place of all sites."""
        return self.name in AT_ONE_SITE

    @property
    def makes_videos(self) -> bool:
        """Whether videos are made and scored, and no attention is read."""
        return self.name in MAKING_VIDEOS

    @abstractmethod
    def check_words(self, spec: RunSpec) -> None:
        """Checks that a spec sets nothing that another task has alone, before a name is looked up.

        Raises:
            UsageError: it does.
        """

    def find_measured(self, spec: RunSpec, registry: Registry) -> Part:
        """Returns the model that a run measures, or what takes its place.

        Raises:
            UsageError: an unknown name or option, or nothing is named.
        """
        return model_part(spec, registry)

    def fill_site(self, spec: RunSpec, model: CalledModel, card: ModelCard | None, weights: str) -> SitedSpec:
        """Returns the spec with the site or the layers that it leaves open; raises UsageError if nothing names them."""
        return SitedSpec(spec)

    def choose_mode_word(self, spec: RunSpec) -> str | None:
        """Returns the mode of the run; None if the data decide."""
        return spec.mode

    def fit_settings(self, model: FoundModel, named: NamedParts, mode: RunMode, settings: RunSettings) -> RunSettings:
        """Returns the settings of the run, after checking what the model starts from.

        Raises:
            UsageError, MissingError: the model cannot start from it.
        """
        return settings

    def choose_acting(
        self, spec: RunSpec, model: Part, probes: Mapping[str, Probe], parts: Sequence[Part], asked: SiteChoice
    ) -> tuple[Part, Tracking | Propagation | None]:
        """Returns the part that runs, and how it follows points or carries masks; arguments as of `followed.follow`.

        Raises:
            UsageError: options that nothing takes, or a probe, layers or steps that the task cannot use.
        """
        return model, None

    def read_masks(self, dataset: ClipReader, clip: Clip) -> NDArray[np.uint8] | None:
        """Returns the reference masks of a clip, (T, H, W) labels; None for a task that reads none."""
        return None

    def predict(
        self, plan: Plan, probes: dict[str, Probe], prepared: Prepared, on_step: Callable[[], None]
    ) -> Predicted:
        """Runs the model on a clip; raises as `predict.predict_clip`. on_step: called at the end of each step."""
        return predict_clip(plan, probes, prepared, on_step)

    def keep_files(self, plan: Plan, run: RunDirectory, predicted: Predicted) -> dict[str, Any]:
        """Stores what a clip has besides its tables, and returns what its predictions shard says about it.

        Raises:
            StoreError: a file cannot be written.
        """
        makes_video = plan.selection.mode.makes_video
        return {"video": track.keep_video(run, predicted.clip)} if makes_video else {}

    def check_files(self, plan: Plan, run: RunDirectory, clip_id: str) -> None:
        """Checks the files that `keep_files` stored; raises `kept_files.DamagedFileError` if one must be made again."""
        if plan.selection.mode.makes_video:
            track.check_video(run, clip_id)

    def rows_of_tracks(
        self, plan: Plan, run: RunDirectory, clip: Clip, tracker: CalledTracker | None, facts: ClipFacts
    ) -> list[TrackRow]:
        """Returns the rows of a clip's tracks shard; arguments and errors as of `track.rows_of_tracks`."""
        return track.rows_of_tracks(plan, run, clip, tracker, facts)

    def rows_of_predictions(self, plan: Plan, run_id: str, predicted: Predicted) -> list[PredictionRow]:
        """Returns the rows of a clip's predictions shard."""
        made = predicted.reconstruction
        return prediction_rows(run_id, predicted.clip, predicted.predictions, reconstruction=made, task=self.name)

    def score(
        self, run: RunDirectory, context: RowContext, judges: Sequence[Judge], predictions: pa.Table, tracks: pa.Table
    ) -> list[ScoreRow]:
        """Returns the rows of a clip's scores shard; arguments and errors as of `score.score_clip`."""
        return score_clip(context, judges, predictions, tracks)

    def choose_site(
        self, run: RunDirectory, record: Mapping[str, Any], probe: Mapping[str, Any], *, one_head: bool
    ) -> ChosenSite:
        """Returns the site that a finished run of the task has, for a later run; as `chosen_site.choose_best_site`."""
        return choose_best_site(run, record, probe, one_head=one_head)
