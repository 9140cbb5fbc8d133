"""Colours for errors: a continuous scale that people with any colour vision can read, and its unit in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

UNKNOWN = (160, 160, 160)
"""RGB of a point without an error: its reference is hidden."""

STRIDES = 2.0
"""Error in token strides that has the last colour of the scale."""

SHARE = 0.05
"""Error that has the last colour, as a share of the longer side of the video, where errors are in pixels."""


@dataclass(frozen=True)
class ErrorScale:
    """Maps errors to colours, from violet (no error) through green to yellow (`most` and above): OpenCV's viridis.

    words: the unit, as the legend says it. unit: (x, y) pixels of the tracks that make one unit. most: error in units.
    """

    words: str
    unit: tuple[float, float]
    most: float

    @classmethod
    def in_strides(cls, stride: Sequence[float]) -> ErrorScale:
        """Returns a scale in token strides (x, y) of the model's grid, in pixels of the video that the model read."""
        x, y = stride
        size = f"{x:g} px" if x == y else f"{x:g} x {y:g} px"
        return cls(f"token strides (1 stride = {size} of the video as the model read it)", (x, y), STRIDES)

    @classmethod
    def in_pixels(cls, width: int, height: int) -> ErrorScale:
        """Returns a scale in pixels for tracks in a video of this size."""
        return cls(f"pixels of a {width}x{height} video", (1.0, 1.0), max(1.0, round(SHARE * max(width, height))))

    def measure(self, offsets: NDArray[Any]) -> NDArray[np.float64]:
        """Returns the lengths (...) of offsets (..., 2) in pixels, in units of the scale."""
        return np.asarray(np.hypot(*np.moveaxis(offsets / np.asarray(self.unit), -1, 0)), dtype=np.float64)

    def colours(self, errors: NDArray[Any]) -> NDArray[np.uint8]:
        """Returns RGB colours (N, 3) of errors (N,) in units; `UNKNOWN` for NaN."""
        share = np.clip(np.nan_to_num(errors) / self.most, 0, 1)
        bgr = cv2.applyColorMap((255 * share).round().astype(np.uint8).reshape(-1, 1), cv2.COLORMAP_VIRIDIS)
        rgb = np.asarray(bgr, dtype=np.uint8).reshape(-1, 3)[:, ::-1].copy()
        rgb[np.isnan(errors)] = UNKNOWN
        return rgb

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Returns the places on the scale (0 to 1) that have a number, with the number as text."""
        shares = (0.0, 0.25, 0.5, 0.75, 1.0)
        return tuple((share, f"{share * self.most:g}{'+' if share == 1 else ''}") for share in shares)
