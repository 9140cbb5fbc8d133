"""How alike two videos are, pixel by pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError

EQUAL_DB = 100.0
"""What equal videos have, whose ratio is infinite; rounding to whole pixel values reaches about 59."""


def psnr(video: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two videos in dB, 20 log10(255 / root mean square difference), at most 100.

    Args:
        video: (T, H, W, 3) uint8.
        other: likewise.

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
