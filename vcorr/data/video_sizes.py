"""Resizes videos."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def resize_video(video: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Returns a video (T, H, W, 3) uint8 resized to (T, height, width, 3) uint8."""
    if video.shape[1:3] == (height, width):
        return video
    smaller = height * width < video.shape[1] * video.shape[2]
    method = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (width, height), interpolation=method) for frame in video]).astype(np.uint8)
