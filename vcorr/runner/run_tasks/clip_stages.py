"""What depends on the task of a run while its clips are worked off: the class that each task's stages extend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from vcorr.contract.entries import resolve
from vcorr.contract.protocols import Probe
from vcorr.contract.records import Clip
from vcorr.runner import track
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.judges import Judge
from vcorr.runner.plan import Plan
from vcorr.runner.predict import ClipFacts, Predicted, Prepared, predict_clip, prediction_rows
from vcorr.runner.run_tasks.task_table import find_task
from vcorr.runner.score import RowContext, score_table
from vcorr.store.rundir import RunDirectory
from vcorr.store.schema import PredictionRow, TrackRow


class ClipStages:
    """What a worker does with one clip, and what it stores; of correspondence, unless a task overrides it.

    It has no state. Its methods are called in the order in which they are written here.
    """

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
        return prediction_rows(run_id, predicted.clip, predicted.predictions, reconstruction=made, task=plan.task.name)

    def score(
        self, run: RunDirectory, context: RowContext, judges: Sequence[Judge], predictions: pa.Table, tracks: pa.Table
    ) -> pa.Table:
        """Returns the table of a clip's scores shard; arguments and errors as of `score.score_groups`."""
        return score_table(context, judges, predictions, tracks)


def find_stages(task: str) -> ClipStages:
    """Returns the stages of a task, by its name; raises UsageError if there is no such task."""
    stages: ClipStages = resolve(find_task(task).stages, f"task {task!r}")()
    return stages
