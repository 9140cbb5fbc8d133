"""Scores how the pixels of a generated video change along its own motion: warp error and flicker.

The motion is dense optical flow between neighbouring frames (`dense_flow`), of the video that is scored. So a flow that
explains a fault as motion hides it, and scores compare only between videos of one size. A pixel counts where the flow
and its way back agree. Shapes: T frames of H x W pixels; colours and brightness are in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vcorr.contract.records import Score
from vcorr.metrics.dense_flow import MEDIUM, grey_of, make_flow, one_thread, usual_scale

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

LEAST_SIDE = 16
"""Least length, in pixels, of the shorter side of a frame for optical flow."""
RELATIVE, ABSOLUTE = 0.01, 0.5
"""A flow and its way back agree if the squared length of their sum is at most 0.01 of both squares, plus 0.5."""


@dataclass(frozen=True)
class Neighbour:
    """A frame, moved to where the pixels of a neighbouring frame are.

    colours: (H, W, 3) float32 in [0, 1]. known: (H, W) bool, True where flow and way back agree inside the frame.
    """

    colours: Floats
    known: Bools


@dataclass(frozen=True)
class FrameScores:
    """Warp error and flicker of a video."""

    warp_error: Score
    flicker: Score


def score_frames(video: NDArray[np.uint8]) -> FrameScores:
    """Returns warp error and flicker of a video (T, H, W, 3). Less is better in both.

    `warp_error`: mean squared difference of colours between a frame and the next one moved onto it. The mean is over
    the pixels that count, then over the pairs of frames. n is the number of pairs with such a pixel. Source: Lai et
    al., Learning Blind Video Temporal Consistency, ECCV 2018, with occlusions by Sundaram et al., ECCV 2010.

    `flicker`: mean absolute difference of brightness between a frame and the mean of its two neighbours moved onto it.
    The mean is over the pixels that count, then over the frames. A steady change of light has none. n is the number of
    frames with such a pixel.

    Both are NaN, with n = 0, if no pixel counts, if there are too few frames, or if a side is under 16 pixels.
    """
    if len(video) < 2 or min(video.shape[1:3]) < LEAST_SIDE:
        return FrameScores(average([]), average([]))
    errors: list[float] = []
    flickers: list[float] = []
    with one_thread():
        motion = PairFlows(video)
        earlier = None
        for now in range(len(video) - 1):
            frame, later = to_colours(video[now]), motion.move_next(now)
            errors.append(compare_pair(frame, later))
            if earlier is not None:
                flickers.append(compare_three(earlier, frame, later))
            earlier = motion.move_last(now + 1)
    return FrameScores(average(errors), average(flickers))


class PairFlows:
    """Optical flow between neighbouring frames of a video (T, H, W, 3), both ways."""

    def __init__(self, video: NDArray[np.uint8]) -> None:
        self._video, self._grey = video, grey_of(video)
        self._algorithm = make_flow(MEDIUM, usual_scale(min(video.shape[1:3])))
        self._at, self._both = -1, (np.empty(0, np.float32), np.empty(0, np.float32))

    def move_next(self, now: int) -> Neighbour:
        """Returns frame now + 1, moved onto frame `now`."""
        there, back = self._flows(now)
        return move(self._video[now + 1], there, back)

    def move_last(self, now: int) -> Neighbour:
        """Returns frame now - 1, moved onto frame `now`."""
        there, back = self._flows(now - 1)
        return move(self._video[now - 1], back, there)

    def _flows(self, first: int) -> tuple[Floats, Floats]:
        """Returns the flow from frame `first` to the next one, and back; the last pair is kept."""
        if self._at != first:
            one, two = self._grey[first], self._grey[first + 1]
            self._both = (self._algorithm.calc(one, two, None), self._algorithm.calc(two, one, None))
            self._at = first
        return self._both


def move(frame: NDArray[np.uint8], flow: Floats, back: Floats) -> Neighbour:
    """Moves a frame (H, W, 3) onto the frame from which `flow` leads to it. back: the flow from it. Each (H, W, 2)."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = x + flow[..., 0], y + flow[..., 1]
    colours = _look_up(to_colours(frame), x, y)
    returned = _look_up(back, x, y)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    gap, sizes = ((flow + returned) ** 2).sum(-1), (flow**2).sum(-1) + (returned**2).sum(-1)
    return Neighbour(colours, np.asarray(inside & (gap <= RELATIVE * sizes + ABSOLUTE)))


def _look_up(values: Floats, x: Floats, y: Floats) -> Floats:
    found: Any = cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, dtype=np.float32)


def compare_pair(frame: Floats, later: Neighbour) -> float:
    """Returns the mean squared difference of colours between a frame (H, W, 3) and the next; NaN without pixels."""
    if not later.known.any():
        return math.nan
    return float(((frame - later.colours) ** 2)[later.known].mean(dtype=np.float64))


def compare_three(earlier: Neighbour, frame: Floats, later: Neighbour) -> float:
    """Returns the mean absolute difference of brightness between a frame and its neighbours; NaN without pixels."""
    known = earlier.known & later.known
    if not known.any():
        return math.nan
    change = to_brightness(np.asarray((earlier.colours + later.colours) / 2 - frame, dtype=np.float32))
    return float(np.abs(change)[known].mean(dtype=np.float64))


def to_colours(frame: NDArray[np.uint8]) -> Floats:
    """Returns a frame (H, W, 3) with colours in [0, 1]."""
    return np.asarray(frame.astype(np.float32) / 255, dtype=np.float32)


def to_brightness(colours: Floats) -> Floats:
    """Returns the brightness (H, W) of colours (H, W, 3), with the weights of ITU-R BT.601."""
    return np.asarray(colours @ np.array([0.299, 0.587, 0.114], dtype=np.float32), dtype=np.float32)


def average(values: Sequence[float]) -> Score:
    """Returns the mean of numbers as a score; NaN are left out and not counted."""
    known = [value for value in values if not math.isnan(value)]
    return Score(float(np.mean(known)) if known else math.nan, len(known))
