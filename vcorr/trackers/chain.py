"""Follows points from frame to frame, for all trackers that chain steps.

Positions are raster pixels, with (0, 0) at the outer corner of the first pixel. OpenCV puts (0, 0) at the centre of
this pixel; only `to_opencv` and `from_opencv` convert.

A lost point stays lost, in either direction away from its query. The reason: chained steps cannot distinguish a point
that reappears from the object that hid it, and wrong reference tracks are worse than short ones. After the loss, the
point keeps its last visible position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Queries, Tracks
from vcorr.metrics.dense_flow import grey_of, one_thread
from vcorr.trackers.both_ways import track_both_ways

Floats: TypeAlias = NDArray[np.float32]
Bools: TypeAlias = NDArray[np.bool_]

LEAST_SIDE = 16
"""Least length, in pixels, of the shorter side of a frame; OpenCV's pyramids need about as many."""

THRESHOLD_SIDE = 256
"""Height and width of the frame in whose pixels thresholds are given."""


class ChainOptions(Protocol):
    """The options of every chained tracker; `vcorr.trackers.tracker_options` explains them."""

    @property
    def threshold(self) -> float:
        """Largest distance between a point and its way back over one step, in pixels of a 256x256 frame."""

    @property
    def cycle(self) -> float:
        """The same for the way back over all frames; 0 for no such check."""

    @property
    def max_side(self) -> int:
        """Longer side, in pixels, of the frames to track in; 0 for the video's own."""


class Motion(Protocol):
    """Moves points between neighbouring frames of one video."""

    def step(self, first: int, second: int, xy: Floats) -> tuple[Floats, Bools]:
        """Returns the positions in frame `second` of points (N, 2) in frame `first`, and (N,) True where it has one."""
        ...


@dataclass(frozen=True)
class Limits:
    """The limits beyond which a point is lost.

    step, cycle: pixels of a 256x256 frame, as `threshold` and `cycle` in the options; cycle 0 for no check.
    height, width: size of the frames in pixels.
    """

    step: float
    cycle: float
    height: int
    width: int

    def inside(self, xy: Floats) -> Bools:
        """Returns which points (N, 2) are in the frame, its border included, (N,)."""
        return np.asarray(((xy >= 0) & (xy <= [self.width, self.height])).all(axis=1), dtype=bool)

    def within(self, first: Floats, second: Floats, limit: float) -> Bools:
        """Returns where two points (N, 2) are at most `limit` apart, (N,)."""
        unit = np.array([THRESHOLD_SIDE / self.width, THRESHOLD_SIDE / self.height])
        return np.asarray(np.linalg.norm((first - second) * unit, axis=1) <= limit, dtype=bool)


def follow(motion: Motion, order: Sequence[int], points: Floats, limits: Limits) -> tuple[Floats, Bools]:
    """Chains steps through S frames; returns positions (N, S, 2) and visibility (N, S) of points in the first frame."""
    xy = np.repeat(points[:, None].astype(np.float32), len(order), axis=1)
    visible = np.repeat(limits.inside(points)[:, None], len(order), axis=1)
    for index, (now, following) in enumerate(pairwise(order)):
        here = xy[:, index]
        landed, found = motion.step(now, following, here)
        returned, found_back = motion.step(following, now, landed)
        kept = visible[:, index] & found & found_back & limits.inside(landed)
        kept &= limits.within(returned, here, limits.step)
        if limits.cycle:
            kept &= limits.within(_rewind(motion, order[: index + 1], returned), points, limits.cycle)
        xy[:, index + 1] = np.where(kept[:, None], landed, here)
        visible[:, index + 1] = kept
    return xy, visible


def _rewind(motion: Motion, order: Sequence[int], xy: Floats) -> Floats:
    """Follows points of the last frame of `order` back to the first."""
    for now, before in pairwise(reversed(order)):
        xy, _ = motion.step(now, before, xy)
    return xy


def check_tracking_input(video: NDArray[np.uint8], queries: Queries | Floats) -> Queries:
    """Checks a video and queries for tracking; returns the queries. `Queries.of` says what they may be.

    Raises:
        UsageError: the video is not uint8 (T, H, W, 3), its frames are too small, or a query is not in a frame of it.
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
    """Returns grey frames whose longer side has at most `max_side` pixels (0: any), and their scale in x and y."""
    height, width = video.shape[1:3]
    ratio = min(1.0, max_side / max(height, width)) if max_side else 1.0
    size = (max(LEAST_SIDE, round(width * ratio)), max(LEAST_SIDE, round(height * ratio)))
    grey = grey_of(video)
    if ratio < 1:
        resized = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in grey]
        grey = [np.ascontiguousarray(frame, dtype=np.uint8) for frame in resized]
    return grey, np.array([grey[0].shape[1] / width, grey[0].shape[0] / height], dtype=np.float32)


def track_with(
    make_motion: Callable[[list[NDArray[np.uint8]], bool], Motion],
    video: NDArray[np.uint8],
    queries: Queries | Floats,
    options: ChainOptions,
    tracker: str,
    version: int,
) -> Tracks:
    """Follows queries through a video (T, H, W, 3) uint8, forwards and backwards, on one thread.

    make_motion: makes what moves points between the grey frames. It gets these frames, at the size to track in, and
    whether steps will be repeated because queries are in other frames than the first.

    Raises:
        UsageError: the video or the queries cannot be tracked.
    """
    known = check_tracking_input(video, queries)
    with one_thread():
        frames, scale = grey_frames(video, options.max_side)
        limits = Limits(options.threshold, options.cycle, *frames[0].shape)
        motion = make_motion(frames, bool(known.t.any()))

        def follow_chain(order: NDArray[np.intp], points: Floats) -> tuple[Floats, Bools]:
            xy, visible = follow(motion, order.tolist(), points * scale, limits)
            return (xy / scale).astype(np.float32), visible

        xy, visible = track_both_ways(follow_chain, len(frames), known)
    return Tracks(xy, visible, tracker, version)


def to_opencv(xy: Floats) -> Floats:
    """Converts raster positions to OpenCV's convention, where whole numbers are the centres of pixels."""
    return (xy - 0.5).astype(np.float32)


def from_opencv(xy: Floats) -> Floats:
    """Converts OpenCV's positions to raster positions."""
    return (xy + 0.5).astype(np.float32)
