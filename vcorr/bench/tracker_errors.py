"""Measures how far a tracker is from exact tracks.

A pair is (point, frame). A point that is visible in the frame of its query counts in all other frames.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.protocols import Tracker
from vcorr.contract.records import Clip, Queries, Tracks

THRESHOLDS = (1, 2, 4, 8)
"""Pixels of a 256x256 frame, as in `pck`."""

SIDE = 256


@dataclass(frozen=True)
class Errors:
    """Distances between tracker and exact tracks over one set of pairs.

    median, mean: in pixels of the video. within: share of pairs below each of `THRESHOLDS`, in [0, 1]. n: number of
    pairs. With no pair the distances and shares are NaN.
    """

    median: float
    mean: float
    within: tuple[float, ...]
    n: int


@dataclass(frozen=True)
class TrackerReport:
    """Accuracy of a tracker, measured with exact tracks.

    Attributes:
        kept: errors over the pairs that are visible and that the tracker calls visible; a run scores on these.
        seen: errors over all visible pairs.
        precision: share of the pairs called visible that are visible.
        recall: share of the visible pairs that are called visible.
        clips: number of clips.
        seconds: tracking time per clip.
    """

    kept: Errors
    seen: Errors
    precision: float
    recall: float
    clips: int
    seconds: float


def evaluate(tracker: Tracker, clips: Iterable[Clip]) -> TrackerReport:
    """Runs the tracker on every clip and compares with the clip's own tracks; pairs are pooled over the clips.

    Raises:
        UsageError: a clip has no video or no tracks, or there is no clip.
    """
    pooled: list[_Pairs] = []
    seconds = 0.0
    for clip in clips:
        if clip.video is None or clip.tracks is None:
            raise UsageError(f"Clip {clip.id} has no exact tracks to compare with.", hint="For example: --data sprites")
        began = time.perf_counter()
        tracks = tracker.track(clip.video, clip.queries)
        seconds += time.perf_counter() - began
        pooled.append(_pairs(clip.queries, tracks, clip.tracks, *clip.video.shape[1:3]))
    if not pooled:
        raise UsageError("There is no clip to track.")
    return _report(pooled, seconds)


@dataclass(frozen=True)
class _Pairs:
    """Pairs of a clip, (P,) each.

    distance: in pixels. distance_256: in pixels of a 256x256 frame. visible: whether the point is visible. called:
    whether the tracker calls it visible.
    """

    distance: NDArray[np.float64]
    distance_256: NDArray[np.float64]
    visible: NDArray[np.bool_]
    called: NDArray[np.bool_]


def _pairs(queries: Queries, tracks: Tracks, exact: Tracks, height: int, width: int) -> _Pairs:
    counted = _mark_counted(exact, queries)
    off = (tracks.xy - exact.xy)[counted].astype(np.float64)
    unit = np.array([SIDE / width, SIDE / height])
    return _Pairs(
        distance=np.linalg.norm(off, axis=1),
        distance_256=np.linalg.norm(off * unit, axis=1),
        visible=exact.visible[counted],
        called=tracks.visible[counted],
    )


def _mark_counted(exact: Tracks, queries: Queries) -> NDArray[np.bool_]:
    """Returns (N, T), True for the pairs that count."""
    points = np.arange(len(queries))
    counted = np.repeat(exact.visible[points, queries.t][:, None], exact.visible.shape[1], axis=1)
    counted[points, queries.t] = False
    return counted


def _report(pooled: list[_Pairs], seconds: float) -> TrackerReport:
    names = ("distance", "distance_256", "visible", "called")
    pairs = _Pairs(*(np.concatenate([getattr(one, name) for one in pooled]) for name in names))
    both = pairs.visible & pairs.called
    return TrackerReport(
        kept=_errors(pairs, both),
        seen=_errors(pairs, pairs.visible),
        precision=_share(both.sum(), pairs.called.sum()),
        recall=_share(both.sum(), pairs.visible.sum()),
        clips=len(pooled),
        seconds=seconds / len(pooled),
    )


def _errors(pairs: _Pairs, chosen: NDArray[np.bool_]) -> Errors:
    count = int(chosen.sum())
    if not count:
        return Errors(float("nan"), float("nan"), (float("nan"),) * len(THRESHOLDS), 0)
    distance = pairs.distance[chosen]
    within = tuple(float((pairs.distance_256[chosen] < limit).mean()) for limit in THRESHOLDS)
    return Errors(float(np.median(distance)), float(distance.mean()), within, count)


def _share(part: np.integer, whole: np.integer) -> float:
    return float(part / whole) if whole else float("nan")


def table(reports: dict[str, TrackerReport]) -> str:
    """Returns a Markdown table with two rows per tracker."""
    limits = [f"< {limit} px of 256" for limit in THRESHOLDS]
    head = ["tracker", "pairs", "n", "median px", "mean px", *limits, "precision", "recall", "s/clip"]
    lines = [head, ["---", "---", *["---:"] * (len(head) - 2)]]
    for name, report in reports.items():
        visibility = [f"{report.precision:.3f}", f"{report.recall:.3f}", f"{report.seconds:.2f}"]
        lines.append([f"`{name}`", "visible, and called visible", *_cells(report.kept), *visibility])
        lines.append([f"`{name}`", "all visible", *_cells(report.seen), "", "", ""])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(errors: Errors) -> list[str]:
    return [str(errors.n), f"{errors.median:.2f}", f"{errors.mean:.2f}", *(f"{share:.3f}" for share in errors.within)]
