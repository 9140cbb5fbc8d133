"""Writes videos that every browser plays: H.264 in mp4."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vcorr.data.video.lossless import encode
from vcorr.store.atomic_files import atomic_file

READABLE_SIDE = 640
"""Least length in pixels of the longer side; smaller videos are enlarged by a whole factor, pixel by pixel."""


def write_mp4(path: Path, frames: Iterable[NDArray[np.uint8]], fps: float) -> None:
    """Writes frames (H, W, 3) uint8 RGB with even H and W as H.264 in mp4; atomic. fps: frames per second.

    Raises:
        UsageError: fps is not a positive number.
        StoreError: the file cannot be written.
    """
    with atomic_file(path) as temporary:
        options = {"crf": "18", "preset": "fast"}
        encode(temporary, frames, fps, codec="libx264", pixels="yuv420p", container="mp4", options=options)


def enlargement(height: int, width: int) -> int:
    """Returns the whole factor by which a video is enlarged: 1 from `READABLE_SIDE` on."""
    return max(1, -(-READABLE_SIDE // max(height, width)))


def enlarge(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Returns a copy of an image (H, W, ...) uint8 that is `factor` times as large, pixel by pixel."""
    height, width = image.shape[:2]
    large = cv2.resize(image, (width * factor, height * factor), interpolation=cv2.INTER_NEAREST)
    return np.asarray(large, dtype=np.uint8) if factor > 1 else image.copy()


def pad_to_even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeats the last row or column of an image where their number is odd: H.264 in yuv420p needs even sizes."""
    rows, columns = image.shape[0] % 2, image.shape[1] % 2
    return np.pad(image, ((0, rows), (0, columns), (0, 0)), mode="edge") if rows or columns else image
