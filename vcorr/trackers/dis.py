"""The tracker `dis`: dense inverse search optical flow (Kroeger et al., ECCV 2016; OpenCV), chained."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import TrackerBase
from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.records import Queries, Tracks
from vcorr.metrics.dense_flow import make_flow, usual_scale
from vcorr.trackers.chain import (
    Bools,
    Floats,
    to_opencv,
    track_with,
)
from vcorr.trackers.tracker_options import DIS_VERSION, PRESETS, DisConfig

POINTS_AT_ONCE = 1 << 14
"""Number of positions per call; OpenCV reads at most 32766."""


class Dis(TrackerBase):
    """Computes dense flow between neighbouring frames and reads it at the points.

    Raises:
        UsageError: an option is out of range.
    """

    def __init__(self, config: DisConfig) -> None:
        if config.preset not in PRESETS:
            raise unknown_name("preset of dis", config.preset, PRESETS)
        if config.threshold <= 0 or config.cycle < 0 or config.max_side < 0 or not -1 <= config.finest_scale <= 4:
            raise UsageError("dis: threshold must be positive, cycle and max_side at least 0, finest_scale -1 to 4.")
        self.config = config

    def track(self, video: NDArray[np.uint8], queries: Queries | Floats) -> Tracks:
        """Follows queries in any frame through a video (T, H, W, 3) uint8; an array (N, 2) means pixels in frame 0.

        Raises:
            UsageError: the video or the queries cannot be tracked.
        """
        return track_with(
            lambda frames, again: _Flow(frames, self.config, again), video, queries, self.config, "dis", DIS_VERSION
        )


class _Flow:
    """Dense flow (h, w, 2) between two frames.

    Flows to an earlier frame are kept for the way back over all frames. With `again`, flows to a later frame are kept
    too, because queries in several frames take the same steps.
    """

    def __init__(self, frames: list[NDArray[np.uint8]], config: DisConfig, again: bool) -> None:
        self._frames = frames
        self._algorithm = make_flow(PRESETS.index(config.preset), _finest_scale(config, min(frames[0].shape)))
        self._again = again
        self._kept: dict[tuple[int, int], Floats] = {}

    def step(self, first: int, second: int, xy: Floats) -> tuple[Floats, Bools]:
        return _move(self._flow(first, second), xy), np.ones(len(xy), dtype=bool)

    def _flow(self, first: int, second: int) -> Floats:
        known = self._kept.get((first, second))
        if known is not None:
            return known
        flow: Floats = self._algorithm.calc(self._frames[first], self._frames[second], None)
        if self._again or second < first:
            self._kept[first, second] = flow
        return flow


def _finest_scale(config: DisConfig, side: int) -> int:
    return config.finest_scale if config.finest_scale >= 0 else usual_scale(side)


def _move(flow: Floats, xy: Floats) -> Floats:
    """Moves points (N, 2) by the flow (h, w, 2) under them, read bilinearly; outside, the border's flow applies."""
    if not len(xy):
        return xy
    parts = np.array_split(to_opencv(xy), math.ceil(len(xy) / POINTS_AT_ONCE))
    steps = [cv2.remap(flow, p[:, :1], p[:, 1:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for p in parts]
    return (xy + np.concatenate(steps)[:, 0]).astype(np.float32)
