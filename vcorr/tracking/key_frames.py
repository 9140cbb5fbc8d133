"""Chooses key frames: those where correspondence to the frames that are kept breaks down.

The coverage of a frame is the share of its points that are found again in any kept frame. A point is found again if a
tracker that starts in this frame calls it visible there; for trackers by correspondence this means that the way back
ends near the start. Key frames are chosen one by one. The first is frame 0; each next one is the frame with the least
coverage by those before. Of equally covered frames, the one farthest in time from the kept frames is taken.

Shape legend: T frames, P points per frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.protocols import Tracker
from vcorr.contract.records import Queries
from vcorr.data.query_grids import check_grid, query_grid

Found = NDArray[np.bool_]
"""(T, P, T): whether point p of the first frame is found again in the second."""


@dataclass(frozen=True)
class KeyFrames:
    """Frames that are kept, in the order in which they were chosen.

    mean: coverage, averaged over all frames; a kept frame covers itself. least: the coverage of the worst frame.
    """

    frames: tuple[int, ...]
    mean: float
    least: float


def find_again(tracker: Tracker, video: NDArray[np.uint8], grid: int = 12) -> Found:
    """Returns which points of each frame a tracker finds again in which frames, (T, P, T).

    Args:
        tracker: follows the points of every frame through all frames.
        video: (T, H, W, 3) uint8.
        grid: points along one side of the regular grid in every frame.

    Raises:
        UsageError: the video cannot be tracked.
    """
    frames, height, width = video.shape[:3]
    check_grid(grid, height, width)
    points = query_grid(grid, height, width)
    queries = Queries(np.repeat(np.arange(frames, dtype=np.int32), len(points)), np.tile(points, (frames, 1)))
    found = tracker.track(video, queries).visible.reshape(frames, len(points), frames)
    return found | np.eye(frames, dtype=bool)[:, None]


def choose_key_frames(found: Found, count: int) -> KeyFrames:
    """Returns `count` key frames; see the module.

    Raises:
        UsageError: there are fewer frames, or count is less than 1.
    """
    frames = len(found)
    _check_count(frames, count)
    kept = [0]
    for _ in range(count - 1):
        covered = cover(found, kept)
        away = np.abs(np.arange(frames)[:, None] - kept).min(axis=1)
        covered[kept] = np.inf
        kept.append(int(np.lexsort((-away, covered))[0]))
    return rate_frames(found, kept)


def space_evenly(found: Found, count: int) -> KeyFrames:
    """Returns `count` frames in the middle of equal parts of the video; raises as `choose_key_frames`."""
    frames = len(found)
    _check_count(frames, count)
    return rate_frames(found, [int((index + 0.5) * frames / count) for index in range(count)])


def rate_frames(found: Found, kept: Sequence[int]) -> KeyFrames:
    """Returns frames to keep with their coverage."""
    covered = cover(found, kept)
    return KeyFrames(tuple(kept), float(covered.mean()), float(covered.min()))


def cover(found: Found, kept: Sequence[int]) -> NDArray[np.float64]:
    """Returns the coverage of each frame by the kept frames, (T,)."""
    return np.asarray(found[:, :, list(kept)].any(axis=2).mean(axis=1), dtype=np.float64)


def _check_count(frames: int, count: int) -> None:
    if not 1 <= count <= frames:
        raise UsageError(f"-k {count}: the video has {frames} frames to choose from.")
