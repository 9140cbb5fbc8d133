"""Markers, lines and text on an image, at positions with fractions of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
"""RGB, 0 to 255."""

INK: Colour = (240, 240, 240)
PAPER: Colour = (24, 24, 24)
WHITE: Colour = (255, 255, 255)
BLACK: Colour = (0, 0, 0)

FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_SIZE = 0.45
"""Size of letters at unit 1: capitals are about 10 pixels high."""

_SHIFT = 4
"""Fractional bits of the coordinates that OpenCV draws at."""

_FAR = 1e5
"""Pixels. Positions further outside are not drawn, because OpenCV computes in 32-bit integers."""


@dataclass(frozen=True)
class FadedLine:
    """A line between two positions. opacity: share of its colour, in (0, 1]; the rest is the picture."""

    first: NDArray[Any]
    second: NDArray[Any]
    colour: Colour
    opacity: float


class Canvas:
    """An image (H, W, 3) to draw on, in place.

    Positions are (x, y), scaled by `scale` to pixels of the image. `unit` is the size of markers, lines and letters: 1
    for a picture of 640x640 pixels. Light markers have a dark rim, so that they show on any picture.
    """

    def __init__(self, image: NDArray[np.uint8], scale: tuple[float, float] = (1.0, 1.0), unit: float = 1.0) -> None:
        self.image = image
        self.unit = unit
        self._scale = np.asarray(scale, dtype=np.float64)
        self._thin = max(1, round(unit))

    def disc(self, xy: NDArray[Any], colour: Colour, size: float = 1.0) -> None:
        """Draws a filled disc with a dark rim. size: 1 for a radius of 4 units."""
        self._circle(xy, 4 * size * self.unit + self._thin, BLACK, -1)
        self._circle(xy, 4 * size * self.unit, colour, -1)

    def ring(self, xy: NDArray[Any], colour: Colour, size: float = 1.0, *, bold: bool = False) -> None:
        """Draws a circle with a dark rim; a bold one is twice as wide. size: 1 for a radius of 6 units."""
        width = (2 if bold else 1) * self._thin
        self._circle(xy, 6 * size * self.unit, BLACK, width + 2 * self._thin)
        self._circle(xy, 6 * size * self.unit, colour, width)

    def plus(self, xy: NDArray[Any], colour: Colour) -> None:
        """Draws an upright cross with a dark rim."""
        self._arms(xy, colour, np.array([[1, 0], [0, 1]]) * 6 * self.unit)

    def saltire(self, xy: NDArray[Any], colour: Colour) -> None:
        """Draws a diagonal cross with a dark rim."""
        self._arms(xy, colour, np.array([[1, 1], [1, -1]]) * 4 * self.unit)

    def line(self, first: NDArray[Any], second: NDArray[Any], colour: Colour, *, bold: bool = False) -> None:
        """Draws a line between two positions; a bold one is twice as wide and has a dark rim.

        Nothing is drawn if a position is NaN or far outside.
        """
        begin, end = self._place(first), self._place(second)
        if begin is None or end is None:
            return
        if bold:
            self._segment(begin, end, BLACK, 4 * self._thin)
        self._segment(begin, end, colour, (2 if bold else 1) * self._thin)

    def fade(self, lines: Sequence[FadedLine]) -> None:
        """Draws lines that let the picture through, in order: where two cross, the later one shows."""
        paint, share = self.image.copy(), np.zeros(self.image.shape[:2], np.uint8)
        for line in lines:
            begin, end = self._place(line.first), self._place(line.second)
            if begin is not None and end is not None:
                ends = _to_fixed(begin), _to_fixed(end)
                cv2.line(paint, *ends, line.colour, self._thin + 2, cv2.LINE_8, _SHIFT)
                cv2.line(share, *ends, round(255 * line.opacity), self._thin, cv2.LINE_AA, _SHIFT)
        covered = share > 0
        weight = share[covered][:, None] / 255
        mixed = (1 - weight) * self.image[covered] + weight * paint[covered]
        self.image[covered] = mixed.round().astype(np.uint8)

    def text(self, text: str, x: float, baseline: float) -> None:
        """Writes text from x on, in pixels of the image."""
        size = FONT_SIZE * self.unit
        cv2.putText(self.image, text, (round(x), round(baseline)), FONT, size, INK, self._thin, cv2.LINE_AA)

    def _arms(self, xy: NDArray[Any], colour: Colour, arms: NDArray[Any]) -> None:
        centre = self._place(xy)
        if centre is None:
            return
        for width, ink in ((3 * self._thin, BLACK), (self._thin, colour)):
            for arm in arms:
                self._segment(centre - arm, centre + arm, ink, width)

    def _circle(self, xy: NDArray[Any], radius: float, colour: Colour, width: int) -> None:
        if (centre := self._place(xy)) is not None:
            size = round(radius * (1 << _SHIFT))
            cv2.circle(self.image, _to_fixed(centre), size, colour, width, cv2.LINE_AA, _SHIFT)

    def _segment(self, begin: NDArray[Any], end: NDArray[Any], colour: Colour, width: int) -> None:
        cv2.line(self.image, _to_fixed(begin), _to_fixed(end), colour, width, cv2.LINE_AA, _SHIFT)

    def _place(self, xy: NDArray[Any]) -> NDArray[np.float64] | None:
        """Returns a position in OpenCV's pixels, whose origin is the centre of the first one; None if out of reach."""
        placed = np.asarray(xy, dtype=np.float64) * self._scale - 0.5
        return placed if np.isfinite(placed).all() and np.abs(placed).max() <= _FAR else None


def measure_text(text: str, unit: float) -> float:
    """Returns the width of a text in pixels, as `Canvas.text` writes it."""
    return float(cv2.getTextSize(text, FONT, FONT_SIZE * unit, max(1, round(unit)))[0][0])


def _to_fixed(xy: NDArray[Any]) -> tuple[int, int]:
    x, y = (xy * (1 << _SHIFT)).round().astype(int).tolist()
    return x, y
