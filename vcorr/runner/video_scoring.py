"""Scores a generated video from what its run stores: the video, the tracks in it, and their ways back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vcorr.contract.errors import StoreError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.video_tracks import VideoTracks
from vcorr.metrics.score_checks import lock_arrays
from vcorr.runner.judges import Judge, Versioned, ask, join
from vcorr.runner.row_words import STATUS_FAILED, STATUS_NOT_SCORED
from vcorr.runner.score import RowContext, clip_columns, empty_row, run_columns, score_columns, site_columns
from vcorr.runner.unpacking import APART, unpack_tracks
from vcorr.store.arrow_rows import rows_of
from vcorr.store.schema import ScoreRow


def score_video_clip(
    context: RowContext,
    judges: Sequence[Judge],
    predictions: pa.Table,
    tracks: pa.Table,
    read_video: Callable[[str], NDArray[np.uint8]],
) -> list[ScoreRow]:
    """Returns the rows of a clip's scores shard: one per column of a metric, without floor and ceiling.

    A clip that failed, or that no metric scores, has one row that says so; see `vcorr.runner.score.score_clip`.

    Args:
        context: the columns that all rows of the run share.
        judges: the metrics; scores of videos have a single variant.
        predictions: the row of the generated video.
        tracks: the row of the tracks, and the row of their ways back.
        read_video: reads the video (T, H, W, 3) uint8 of a clip, by its id.

    Raises:
        StoreError: the video cannot be read, or the tables do not belong together.
        PluginError: a metric breaks its contract.
    """
    (judge,) = judges
    made = rows_of(predictions)[0]
    if made["status"] == STATUS_FAILED:
        return [empty_row(context, judge.variant, made["clip"], STATUS_FAILED, made["error"])]
    if not judge.metrics:
        return [empty_row(context, judge.variant, made["clip"], STATUS_NOT_SCORED, "no metric scores videos")]
    stored = rows_of(tracks)
    found_tracks, video = read_both_ways(made["clip"], tracks), read_video(made["clip"])
    found = score_video(judge, video, found_tracks)
    grid = TokenGrid.from_dict(json.loads(made["grid"]))
    common = {**run_columns(context, judge.variant), **clip_columns(stored[0]), **site_columns(made, grid)}
    return [ScoreRow(**common, **score_columns(name, *versioned)) for name, versioned in found.items()]


def score_video(judge: Judge, video: NDArray[np.uint8], tracks: VideoTracks) -> dict[str, Versioned]:
    """Returns the scores of a generated video by column, from all metrics of a judge.

    Args:
        judge: its metrics score videos.
        video: (T, H, W, 3); it is locked, so that no metric changes it.
        tracks: in the video, and their ways back.

    Raises:
        PluginError: a metric breaks its contract.
    """
    video.flags.writeable = False
    return join(
        [(one, ask(one, "score_video()", lambda metric: metric.score_video(video, tracks))) for one in judge.metrics]
    )


def read_both_ways(clip_id: str, tracks: pa.Table) -> VideoTracks:
    """Returns the tracks in a generated video and their ways back, from the tracks shard of its clip.

    Raises:
        StoreError: the shard has other rows.
    """
    rows = rows_of(tracks)
    if len(rows) != 2:
        raise StoreError(f"Clip {clip_id}: its tracks have {len(rows)} rows, for two ways.", hint=APART)
    forward, backward = (unpack_tracks(row) for row in rows)
    for one in (forward, backward):
        lock_arrays(one)
    return VideoTracks(forward, backward)
