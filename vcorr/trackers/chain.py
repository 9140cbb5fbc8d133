"""Following points from frame to frame: what the trackers share.

Positions are raster pixels with (0, 0) the outer corner of the first pixel. OpenCV puts (0, 0) at that pixel's centre:
`to_opencv` and `from_opencv` are the only places that know.

A point that is lost stays lost, away from its query in either direction: chained steps cannot tell a point that
reappears from whatever hid it, and a reference that is wrong is worse than one that is short. From then on its position
is the last one seen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Queries, Tracks
from vcorr.trackers.both_ways import track_both_ways

Floats: TypeAlias = NDArray[np.float32]
Bools: TypeAlias = NDArray[np.bool_]

LEAST_SIDE = 16
"""Pixels the shorter side of a frame must have; OpenCV's pyramids need about as many."""

THRESHOLD_SIDE = 256
"""Thresholds are pixels of a frame of this height and width."""


class ChainOptions(Protocol):
    """The options every chained tracker has (`vcorr.trackers.tracker_options` says what they mean)."""

    @property
    def threshold(self) -> float:
        """Pixels of a 256x256 frame."""

    @property
    def cycle(self) -> float:
        """The same, for the way back over all frames; 0 for none."""

    @property
    def max_side(self) -> int:
        """Pixels of the longer side that is tracked; 0 for the video's own."""


class Motion(Protocol):
    """Steps between neighbouring frames of one video, for any points (N, 2) pixels."""

    def step(self, first: int, second: int, xy: Floats) -> tuple[Floats, Bools]:
        """Where points of frame `first` are in `second`, and (N,) True where the step could be computed."""
        ...


@dataclass(frozen=True)
class Limits:
    """When a point is lost.

    step, cycle: pixels of a 256x256 frame, as in the options; cycle 0 is no check. height, width: of the frames.
    """

    step: float
    cycle: float
    height: int
    width: int

    def inside(self, xy: Floats) -> Bools:
        """(N,) True for points (N, 2) in the frame, its border included."""
        return np.asarray(((xy >= 0) & (xy <= [self.width, self.height])).all(axis=1), dtype=bool)

    def within(self, first: Floats, second: Floats, limit: float) -> Bools:
        """(N,) True where two points (N, 2) are at most `limit` apart."""
        unit = np.array([THRESHOLD_SIDE / self.width, THRESHOLD_SIDE / self.height])
        return np.asarray(np.linalg.norm((first - second) * unit, axis=1) <= limit, dtype=bool)


def follow(motion: Motion, order: Sequence[int], points: Floats, limits: Limits) -> tuple[Floats, Bools]:
    """Chains the steps through S frames: positions (N, S, 2) and visibility (N, S) of points (N, 2) in the first."""
    xy = np.repeat(points[:, None].astype(np.float32), len(order), axis=1)
    visible = np.repeat(limits.inside(points)[:, None], len(order), axis=1)
    for index, (now, following) in enumerate(pairwise(order)):
        here = xy[:, index]
        landed, found = motion.step(now, following, here)
        returned, found_back = motion.step(following, now, landed)
        kept = visible[:, index] & found & found_back & limits.inside(landed)
        kept &= limits.within(returned, here, limits.step)
        if limits.cycle:
            kept &= limits.within(_rewound(motion, order[: index + 1], returned), points, limits.cycle)
        xy[:, index + 1] = np.where(kept[:, None], landed, here)
        visible[:, index + 1] = kept
    return xy, visible


def _rewound(motion: Motion, order: Sequence[int], xy: Floats) -> Floats:
    """Points of the last frame of `order`, followed back to its first."""
    for now, before in pairwise(reversed(order)):
        xy, _ = motion.step(now, before, xy)
    return xy


def check_tracking_input(video: NDArray[np.uint8], queries: Queries | Floats) -> Queries:
    """The queries, given as `Queries.of` takes them; refuses what cannot be tracked.

    Raises:
        UsageError: not a uint8 video (T, H, W, 3), frames too small, or queries that are not places in its frames.
    """
    if not isinstance(video, np.ndarray):
        raise UsageError(f"Tracking needs the video as a numpy array, got {type(video).__name__}.")
    if video.ndim != 4 or video.shape[3] != 3 or video.dtype != np.uint8 or not len(video):
        raise UsageError(f"Tracking needs a uint8 video of shape (T, H, W, 3), got {video.dtype} {video.shape}.")
    if min(video.shape[1:3]) < LEAST_SIDE:
        raise UsageError(
            f"Frames of {video.shape[2]}x{video.shape[1]} pixels are too small to track in: {LEAST_SIDE} are needed."
        )
    known = Queries.of(queries)
    late = known.t[known.t >= len(video)]
    if len(late):
        raise UsageError(
            f"{len(late)} queries are after the last of {len(video)} frames; the first is in frame {late[0]}."
        )
    return known


def grey_frames(video: NDArray[np.uint8], max_side: int) -> tuple[list[NDArray[np.uint8]], Floats]:
    """Grey frames whose longer side has at most `max_side` pixels (0: any), and their size over the video's, (x, y)."""
    height, width = video.shape[1:3]
    ratio = min(1.0, max_side / max(height, width)) if max_side else 1.0
    size = (max(LEAST_SIDE, round(width * ratio)), max(LEAST_SIDE, round(height * ratio)))
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in video]
    if ratio < 1:
        grey = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in grey]
    found = np.array([grey[0].shape[1] / width, grey[0].shape[0] / height], dtype=np.float32)
    return [np.ascontiguousarray(frame, dtype=np.uint8) for frame in grey], found


def track_with(
    make_motion: Callable[[list[NDArray[np.uint8]], bool], Motion],
    video: NDArray[np.uint8],
    queries: Queries | Floats,
    options: ChainOptions,
    tracker: str,
    version: int,
) -> Tracks:
    """Follows queries through a video (T, H, W, 3) uint8, forwards and backwards, on one thread.

    make_motion: from the grey frames, at the size they are tracked in, to what moves points between them; also told
    whether steps will be asked for again, because queries are in other frames than the first.

    Raises:
        UsageError: a video or queries that cannot be tracked.
    """
    known = check_tracking_input(video, queries)
    with one_thread():
        frames, scale = grey_frames(video, options.max_side)
        limits = Limits(options.threshold, options.cycle, *frames[0].shape)
        motion = make_motion(frames, bool(known.t.any()))

        def chained(order: NDArray[np.intp], points: Floats) -> tuple[Floats, Bools]:
            xy, visible = follow(motion, order.tolist(), points * scale, limits)
            return (xy / scale).astype(np.float32), visible

        xy, visible = track_both_ways(chained, len(frames), known)
    return Tracks(xy, visible, tracker, version)


def to_opencv(xy: Floats) -> Floats:
    """Raster positions in OpenCV's convention, where whole numbers are the centres of pixels."""
    return (xy - 0.5).astype(np.float32)


def from_opencv(xy: Floats) -> Floats:
    """OpenCV's positions in raster coordinates."""
    return (xy + 0.5).astype(np.float32)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV on one thread: DIS splits a frame into as many stripes as there are threads, and each moves its answer."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
