"""Compares two videos pixel by pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError

EQUAL_DB = 100.0
"""Value for equal videos, whose ratio is infinite. Videos that differ by rounding alone reach about 59."""


def psnr(video: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Returns the peak signal-to-noise ratio of two videos in dB, at most 100: 20 log10(255 / root mean square error).

    Args:
        video: (T, H, W, 3) uint8.
        other: a video of the same shape and dtype.

    Raises:
        UsageError: they are not uint8 of one shape.
    """
    if video.shape != other.shape or video.dtype != np.uint8 or other.dtype != np.uint8:
        raise UsageError(
            f"psnr: expected two uint8 videos of one shape, got {video.dtype} {video.shape} and {other.dtype} "
            f"{other.shape}."
        )
    square = np.mean((video.astype(np.float32) - other.astype(np.float32)) ** 2, dtype=np.float64)
    return min(EQUAL_DB, float(10 * np.log10(255**2 / square))) if square else EQUAL_DB
