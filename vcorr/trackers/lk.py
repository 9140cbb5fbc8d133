"""The tracker `lk`: pyramidal Lucas-Kanade (Bouguet 2001; OpenCV) on the points alone, chained."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import TrackerBase
from vcorr.contract.errors import UsageError
from vcorr.contract.records import Queries, Tracks
from vcorr.trackers.chain import (
    Bools,
    Floats,
    from_opencv,
    to_opencv,
    track_with,
)
from vcorr.trackers.tracker_options import LK_VERSION, LkConfig

_STOP = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01)


class Lk(TrackerBase):
    """Matches a window around every point by itself. Points without texture are lost at once.

    Raises:
        UsageError: an option is out of range.
    """

    def __init__(self, config: LkConfig) -> None:
        if config.window < 3 or not 0 <= config.levels <= 8:
            raise UsageError("lk: window must be at least 3 pixels, levels 0 to 8.")
        if config.threshold <= 0 or config.cycle < 0 or config.max_side < 0:
            raise UsageError("lk: threshold must be positive, cycle and max_side at least 0.")
        self.config = config

    def track(self, video: NDArray[np.uint8], queries: Queries | Floats) -> Tracks:
        """Follows queries in any frame through a video (T, H, W, 3) uint8; an array (N, 2) means pixels in frame 0.

        Raises:
            UsageError: the video or the queries cannot be tracked.
        """
        return track_with(
            lambda frames, _: _Windows(frames, self.config), video, queries, self.config, "lk", LK_VERSION
        )


class _Windows:
    """Moves single points between neighbouring frames."""

    def __init__(self, frames: list[NDArray[np.uint8]], config: LkConfig) -> None:
        self._frames = frames
        self._window = (config.window, config.window)
        self._levels = config.levels
        self._algorithm: Any = cv2.calcOpticalFlowPyrLK  # its stub does not know that nextPts may be None

    def step(self, first: int, second: int, xy: Floats) -> tuple[Floats, Bools]:
        if not len(xy):
            return xy, np.ones(0, dtype=bool)
        start = to_opencv(xy)[:, None]
        found, status, _ = self._algorithm(
            self._frames[first],
            self._frames[second],
            start,
            None,
            winSize=self._window,
            maxLevel=self._levels,
            criteria=_STOP,
        )
        return from_opencv(found[:, 0]), status[:, 0] > 0
