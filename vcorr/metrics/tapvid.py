"""The metrics of TAP-Vid for one video (docs/functional.md), in numpy.

Shapes: N points, T frames. A pair is a point and a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError, unknown_name

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
QueryMode = Literal["first", "strided"]

THRESHOLDS = (1, 2, 4, 8, 16)
"""Pixels of a 256x256 frame; a distance must be strictly smaller."""

COLUMNS = (
    "occlusion_accuracy",
    *(f"{name}_{threshold}" for threshold in THRESHOLDS for name in ("pts_within", "jaccard")),
    "average_pts_within_thresh",
    "average_jaccard",
)
"""TAP-Vid's own names of its metrics."""


@dataclass(frozen=True)
class ComparedPairs:
    """Predicted tracks, compared with reference tracks.

    counted: (N, T) bool, the pairs that count. visible: (N, T) bool, True where the reference can be seen. shown:
    (N, T) bool, True where the prediction says so. squares: (N, T), squared distances in pixels of a 256x256 frame; NaN
    where a position is not known.
    """

    counted: Bools
    visible: Bools
    shown: Bools
    squares: Floats

    def find_hits(self, threshold: float) -> Bools:
        """Returns which pairs count, can be seen, and are closer than `threshold` pixels, (N, T)."""
        with np.errstate(invalid="ignore"):
            return np.asarray((self.squares < threshold**2) & self.visible & self.counted)


def tapvid(
    query_points_tyx: Floats,
    occluded: Bools,
    tracks: Floats,
    pred_occluded: Bools,
    pred_tracks: Floats,
    *,
    mode: QueryMode,
) -> dict[str, float]:
    """Returns position accuracy, occlusion accuracy and Jaccard for one video, pooled over its points and frames.

    Source: TAP-Vid (arXiv 2211.03726) and its public evaluation. The benchmark reports the mean over videos.

    Args:
        query_points_tyx: (N, 3) as (t, y, x); only the frame t is used here.
        occluded: (N, T) bool, True where the reference point cannot be seen.
        tracks: (N, T, 2), reference tracks, (x, y) pixels of a 256x256 frame.
        pred_occluded: (N, T) bool, True where the prediction says that the point cannot be seen.
        pred_tracks: (N, T, 2), predicted tracks; NaN is a miss.
        mode: "first": the frames strictly after a point's query frame count. "strided": all but the query frame.

    Returns:
        Values in [0, 1], NaN where nothing counts. "occlusion_accuracy": the share of the counted pairs with the right
        visibility. For x in 1, 2, 4, 8, 16, "pts_within_x": the share of hits among the pairs visible in the reference.
        "jaccard_x": the true positives, divided by the sum of the pairs visible in the reference and the false
        positives. A false positive is predicted visible, but occluded or too far. "average_pts_within_thresh" and
        "average_jaccard": the means over x.

    Raises:
        UsageError: shapes or dtypes do not fit together, the mode is unknown, or a query frame is outside the video.
    """
    _check(query_points_tyx, occluded, tracks, pred_occluded, pred_tracks)
    counted = select_frames(query_points_tyx[:, 0], occluded.shape[1], mode)
    return score_pairs(ComparedPairs(counted, ~occluded, ~pred_occluded, measure_squares(pred_tracks, tracks)))


def score_pairs(pairs: ComparedPairs) -> dict[str, float]:
    """Returns what `tapvid` returns, for given pairs."""
    counted, visible, shown = pairs.counted, pairs.visible & pairs.counted, pairs.shown & pairs.counted
    result = {"occlusion_accuracy": _ratio((pairs.visible == pairs.shown) & counted, counted.sum())}
    for threshold in THRESHOLDS:
        correct = pairs.find_hits(threshold)
        result[f"pts_within_{threshold}"] = _ratio(correct, visible.sum())
        result[f"jaccard_{threshold}"] = _ratio(correct & shown, visible.sum() + (shown & ~correct).sum())
    for average, name in (("average_pts_within_thresh", "pts_within"), ("average_jaccard", "jaccard")):
        result[average] = float(np.mean([result[f"{name}_{threshold}"] for threshold in THRESHOLDS]))
    return result


def select_frames(query_frames: Floats | NDArray[np.int64], frames: int, mode: QueryMode) -> Bools:
    """Returns which frames count for every point, (N, T)."""
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


def measure_squares(pred_tracks: Floats, tracks: Floats) -> Floats:
    """Returns squared distances (N, T) in the arrays' own precision, as the public evaluation does.

    In float32, a square that is rounded up to 16 is not below 16.
    """
    precision = np.promote_types(np.result_type(pred_tracks, tracks), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # NaN and infinity are misses
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
