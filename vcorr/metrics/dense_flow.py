"""Dense optical flow between two frames: dense inverse search (Kroeger et al., ECCV 2016), as OpenCV computes it.

A flow (h, w, 2) float32 says, in pixels (x, y), how far each pixel of the first frame moves to the second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

MEDIUM = 2
"""OpenCV's number of the preset that is exact and slow; 0 and 1 are faster."""

FULL_RESOLUTION_BELOW = 256
"""Shorter side, in pixels, below which flow is computed at full resolution by default."""


def make_flow(preset: int, finest_scale: int) -> Any:
    """Returns OpenCV's algorithm; its `calc(first, second, None)` gives the flow between two grey frames.

    preset: OpenCV's number. finest_scale: finest level of the pyramid, 0 for the full resolution.
    """
    create: Any = getattr(cv2, "DISOpticalFlow_create")  # noqa: B009  # not in OpenCV's stubs
    algorithm = create(preset)
    algorithm.setFinestScale(finest_scale)
    return algorithm


def usual_scale(side: int) -> int:
    """Returns the finest level for frames whose shorter side is `side` pixels: 0 below 256, else 1.

    Half resolution is a sixth of the work, but too coarse for small frames.
    """
    return 0 if side < FULL_RESOLUTION_BELOW else 1


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Runs OpenCV on one thread: DIS splits a frame into one stripe per thread, and the split changes the flow."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def grey_of(video: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Returns the frames of a video (T, H, W, 3) in grey, (H, W) uint8 each."""
    return [np.ascontiguousarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.uint8) for frame in video]
