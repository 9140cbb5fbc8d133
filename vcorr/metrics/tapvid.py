"""TAP-Vid's metrics of one video (docs/functional.md), in numpy."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError, unknown_name

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
QueryMode = Literal["first", "strided"]

THRESHOLDS = (1, 2, 4, 8, 16)
"""Pixels of a 256x256 frame; a distance must be strictly smaller."""


def tapvid(
    query_points_tyx: Floats,
    occluded: Bools,
    tracks: Floats,
    pred_occluded: Bools,
    pred_tracks: Floats,
    *,
    mode: QueryMode,
) -> dict[str, float]:
    """Position accuracy, occlusion accuracy and Jaccard of the tracks of one video, pooled over its points and frames.

    Source: TAP-Vid (arXiv 2211.03726) and its public evaluation. The benchmark's number is the mean over videos.

    Args:
        query_points_tyx: (N, 3) as (t, y, x); only the frame t is used here.
        occluded: (N, T) bool, True where the reference cannot be seen.
        tracks: (N, T, 2) reference, (x, y) pixels of a 256x256 frame.
        pred_occluded: (N, T) bool, True where the prediction says it cannot be seen.
        pred_tracks: (N, T, 2) prediction; NaN is too far.
        mode: "first": the frames strictly after a point's query frame count. "strided": all but the query frame.

    Returns:
        In [0, 1], NaN where nothing counts: "occlusion_accuracy" over all counted pairs; for x in 1, 2, 4, 8, 16
        "pts_within_x" over those visible in the reference, and "jaccard_x", true positives over visible in the
        reference + false positives (predicted visible, and occluded or too far); "average_pts_within_thresh" and
        "average_jaccard", the means over x.

    Raises:
        UsageError: shapes or dtypes do not belong together, an unknown mode, or a query frame outside the video.
    """
    _check(query_points_tyx, occluded, tracks, pred_occluded, pred_tracks)
    counted = _counted(query_points_tyx[:, 0], occluded.shape[1], mode)
    visible, shown = ~occluded & counted, ~pred_occluded & counted
    squares = _squared_distances(pred_tracks, tracks)
    result = {"occlusion_accuracy": _ratio((occluded == pred_occluded) & counted, counted.sum())}
    for threshold in THRESHOLDS:
        correct = (squares < threshold**2) & visible
        result[f"pts_within_{threshold}"] = _ratio(correct, visible.sum())
        result[f"jaccard_{threshold}"] = _ratio(correct & shown, visible.sum() + (shown & ~correct).sum())
    for average, name in (("average_pts_within_thresh", "pts_within"), ("average_jaccard", "jaccard")):
        result[average] = float(np.mean([result[f"{name}_{threshold}"] for threshold in THRESHOLDS]))
    return result


def _counted(query_frames: Floats, frames: int, mode: QueryMode) -> Bools:
    """(N, T): the frames that count for every point."""
    if not isinstance(mode, str) or mode not in get_args(QueryMode):
        raise unknown_name("TAP-Vid query mode", str(mode), get_args(QueryMode))
    if not np.isfinite(query_frames).all():
        raise UsageError("query_points_tyx: t is NaN or infinite.")
    queried = np.rint(query_frames)[:, None]
    if ((queried < 0) | (queried >= frames)).any():
        raise UsageError(f"query_points_tyx: t must be a frame of the video, 0 to {frames - 1} in the first column.")
    time = np.arange(frames)
    return np.asarray(time > queried if mode == "first" else time != queried)


def _ratio(hits: Bools, total: np.integer[Any]) -> float:
    return float(hits.sum() / total) if total else float("nan")


def _squared_distances(pred_tracks: Floats, tracks: Floats) -> Floats:
    """(N, T). In the arrays' own precision, as the public evaluation: a distance of 16 in float32 is not below 16."""
    precision = np.promote_types(np.result_type(pred_tracks, tracks), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # what is NaN or infinite is too far
        offsets = pred_tracks.astype(precision) - tracks.astype(precision)
        return np.asarray(offsets[..., 0] ** 2 + offsets[..., 1] ** 2)


def _check(query_points: Floats, occluded: Bools, tracks: Floats, pred_occluded: Bools, pred_tracks: Floats) -> None:
    if occluded.ndim != 2:
        raise UsageError(f"occluded: expected shape (N, T), got {occluded.shape}.")
    expected = {
        "query_points_tyx": (query_points, (occluded.shape[0], 3)),
        "tracks": (tracks, (*occluded.shape, 2)),
        "pred_occluded": (pred_occluded, occluded.shape),
        "pred_tracks": (pred_tracks, (*occluded.shape, 2)),
    }
    for name, (value, shape) in expected.items():
        if value.shape != shape:
            raise UsageError(f"{name}: expected shape {shape}, got {value.shape}.")
    for name, mask in (("occluded", occluded), ("pred_occluded", pred_occluded)):
        if mask.dtype != np.bool_:
            raise UsageError(f"{name}: expected bool, got {mask.dtype}.")
    if not np.isfinite(tracks[~occluded]).all():
        raise UsageError("tracks: NaN or infinite at a visible point.")
