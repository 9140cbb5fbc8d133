"""The tracker `dis`: dense inverse search optical flow (Kroeger et al., ECCV 2016; OpenCV), chained."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vcorr.bases import TrackerBase
from vcorr.errors import UsageError, unknown_name
from vcorr.records import Queries, Tracks
from vcorr.trackers.chain import (
    Bools,
    Floats,
    to_opencv,
    track_with,
)
from vcorr.trackers.config import DIS_VERSION, PRESETS, DisConfig

POINTS_AT_ONCE = 1 << 14
"""OpenCV reads no more than 32766 positions in one call."""

FULL_RESOLUTION_BELOW = 256
"""Pixels of the shorter side under which flow is computed at full resolution, unless the options say otherwise."""


class Dis(TrackerBase):
    """Dense flow between neighbouring frames, read at the points (`vcorr.protocols.Tracker`).

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
        """Tracks (N, T) of queries (N, 2) pixels in frame 0 of a video (T, H, W, 3) uint8.

        Raises:
            UsageError: a video or queries that cannot be tracked.
        """
        return track_with(lambda frames: _Flow(frames, self.config), video, queries, self.config, "dis", DIS_VERSION)


class _Flow:
    """Forward flow one pair at a time, backward flows (T-1, h, w, 2) kept for the way back over all frames."""

    def __init__(self, frames: list[NDArray[np.uint8]], config: DisConfig) -> None:
        self._frames = frames
        create: Any = getattr(cv2, "DISOpticalFlow_create")  # noqa: B009  # not in OpenCV's stubs
        self._algorithm = create(PRESETS.index(config.preset))
        self._algorithm.setFinestScale(_finest_scale(config, min(frames[0].shape)))
        self._back: list[Floats] = []

    def forward(self, frame: int, xy: Floats) -> tuple[Floats, Bools]:
        flow = self._flow(self._frames[frame], self._frames[frame + 1])
        return _moved(flow, xy), np.ones(len(xy), dtype=bool)

    def backward(self, frame: int, xy: Floats) -> tuple[Floats, Bools]:
        while len(self._back) <= frame:
            known = len(self._back)
            self._back.append(self._flow(self._frames[known + 1], self._frames[known]))
        return _moved(self._back[frame], xy), np.ones(len(xy), dtype=bool)

    def _flow(self, first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Floats:
        flow: Floats = self._algorithm.calc(first, second, None)
        return flow


def _finest_scale(config: DisConfig, side: int) -> int:
    """Half resolution is a sixth of the work, and small frames cannot afford it."""
    if config.finest_scale >= 0:
        return config.finest_scale
    return 0 if side < FULL_RESOLUTION_BELOW else 1


def _moved(flow: Floats, xy: Floats) -> Floats:
    """Points (N, 2) moved by the flow (h, w, 2) under them, read bilinearly; the border's holds outside."""
    if not len(xy):
        return xy
    parts = np.array_split(to_opencv(xy), math.ceil(len(xy) / POINTS_AT_ONCE))
    steps = [cv2.remap(flow, p[:, :1], p[:, 1:], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for p in parts]
    return (xy + np.concatenate(steps)[:, 0]).astype(np.float32)
