"""Reads the generated videos of a run with their scores, and writes them as mp4 to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vcorr.contract.metric_columns import lower_is_better, read_columns
from vcorr.contract.records import DEFAULT_FPS
from vcorr.data.video.browser_videos import enlarge, enlargement, pad_to_even, write_mp4
from vcorr.runner.plan import Plan
from vcorr.runner.row_words import STATUS_OK
from vcorr.runner.track import VIDEOS, is_video_kept, read_video
from vcorr.stats.intervals import Interval, mean_interval
from vcorr.store.rundir import RunDirectory
from vcorr.store.shards import SUFFIX, shard_name

MP4 = ".mp4"


@dataclass(frozen=True)
class ColumnSummary:
    """One column of scores over the clips of a run.

    values: by clip; NaN where not scored. interval: of the mean over clips.
    """

    column: str
    values: Mapping[str, float]
    interval: Interval
    lower_is_better: bool = False


@dataclass(frozen=True)
class GeneratedScores:
    """The scores of a run's generated videos. unscored: clips without scores, each with the reason."""

    columns: tuple[ColumnSummary, ...]
    unscored: Mapping[str, str]

    def values_of(self, column: str) -> Mapping[str, float]:
        """Returns the values of a column by clip; none for a column that there is not."""
        return next((one.values for one in self.columns if one.column == column), {})


def read_generated(run: RunDirectory, clips: Sequence[str]) -> GeneratedScores:
    """Reads the scores of these clips, in the order of the metrics and their columns.

    Raises:
        StoreError: a shard is damaged.
    """
    record = run.record()
    found: dict[str, dict[str, float]] = {}
    unscored: dict[str, str] = {}
    for clip in clips:
        for row in _read_rows(run, clip):
            if row["metric"]:
                found.setdefault(row["metric"], {})[clip] = row["value"] if row["status"] == STATUS_OK else np.nan
            else:
                unscored[clip] = row["error"]
    named = [column for one in read_columns(record) for column in one.columns]
    order = [*(name for name in named if name in found), *(name for name in found if name not in named)]
    lower = lower_is_better(record)
    return GeneratedScores(tuple(_summarise(name, found[name], name in lower) for name in order), unscored)


def _read_rows(run: RunDirectory, clip: str) -> list[dict[str, Any]]:
    names = ["metric", "value", "status", "error"]
    return [row for table in run.iter_shards("scores", [clip]) for row in table.select(names).to_pylist()]


def _summarise(name: str, values: Mapping[str, float], is_error: bool) -> ColumnSummary:
    return ColumnSummary(name, values, mean_interval(np.array(list(values.values()))), is_error)


def write_videos(plan: Plan, run: RunDirectory) -> list[Path]:
    """Writes `videos/<clip>.mp4` for every generated video of a plan that has none yet, and returns all of them.

    A small video is enlarged. A clip that failed has no video.

    Raises:
        StoreError: a video is damaged, a file cannot be written, or another process is writing the run.
    """
    with run.write_lock():
        return [_write(run, clip) for clip in plan.selection.clips if is_video_kept(run, clip)]


def _write(run: RunDirectory, clip_id: str) -> Path:
    video = read_video(run, clip_id)
    path = run.path / VIDEOS / f"{shard_name(clip_id).removesuffix(SUFFIX)}{MP4}"
    factor = enlargement(*video.shape[1:3])
    write_mp4(path, (pad_to_even(enlarge(frame, factor)) for frame in video), DEFAULT_FPS)
    return path
