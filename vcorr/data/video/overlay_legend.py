"""The legend below an overlay: it names every marker, the colour scale with its unit, and the frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcorr.data.video.drawing_canvas import INK, PAPER, Canvas, measure_text
from vcorr.data.video.error_colours import ErrorScale

Marker = Callable[[Canvas, NDArray[np.float64]], None]
"""Draws a marker at a position, as it is drawn in the picture."""

LEAST_WIDTH = 360
"""Least width of a legend in units of the canvas; narrower pictures get a margin at their right."""

_LINE, _MARGIN, _MARKER, _GAP, _BAR = 22, 10, 20, 16, 150
"""Height of a line, margin, width of a marker, gap between entries and width of the colour bar, in units."""


@dataclass(frozen=True)
class Entry:
    """A part of the legend: a text, with a marker before it or alone."""

    text: str
    marker: Marker | None = None


class Legend:
    """A legend for pictures of one width, laid out once.

    entries: in the order in which they are shown; they flow into as many lines as they need. scale: the colour scale;
    None for no colours. frames: number of frames of the video. unit: pixels per unit of the canvas.
    """

    def __init__(
        self, width: int, entries: Sequence[Entry], scale: ErrorScale | None, frames: int, unit: float
    ) -> None:
        self.width = max(width, round(LEAST_WIDTH * unit))
        self._last, self._unit, self._scale = frames - 1, unit, scale
        counter = Entry(self._count(self._last))
        self._lines = _flow([counter, *_split(entries, self.width, unit)], self.width, unit)
        self._bar = _split([Entry(f"error in {scale.words}")], self.width, unit) if scale else []
        self._still = self._draw()

    def draw(self, frame: int) -> NDArray[np.uint8]:
        """Returns the legend (H, width, 3) uint8 RGB with the number of a frame. H is equal for all frames."""
        image = self._still.copy()
        Canvas(image, unit=self._unit).text(self._count(frame), _MARGIN * self._unit, self._baseline(0))
        return image

    def _count(self, frame: int) -> str:
        return f"frame {frame} of 0-{self._last}"

    def _baseline(self, line: int) -> float:
        return (line + 1) * _LINE * self._unit

    def _draw(self) -> NDArray[np.uint8]:
        lines = len(self._lines) + (2 + len(self._bar) if self._scale else 0)
        image = np.full((round((lines * _LINE + _MARGIN) * self._unit), self.width, 3), PAPER, dtype=np.uint8)
        canvas = Canvas(image, unit=self._unit)
        for number, line in enumerate(self._lines):
            for entry, x in line:
                # the counter, first of all entries, changes from frame to frame
                if (number, entry) != (0, self._lines[0][0][0]):
                    self._draw_entry(canvas, entry, x, number)
        if self._scale:
            self._draw_scale(canvas, self._scale, len(self._lines))
        return image

    def _draw_entry(self, canvas: Canvas, entry: Entry, x: float, line: int) -> None:
        baseline = self._baseline(line)
        if entry.marker is not None:
            entry.marker(canvas, np.array([x + _MARKER * self._unit / 2, baseline - 4 * self._unit]))
            x += _MARKER * self._unit
        canvas.text(entry.text, x, baseline)

    def _draw_scale(self, canvas: Canvas, scale: ErrorScale, line: int) -> None:
        """Draws the words of the scale, below them the bar, and numbers below the bar."""
        unit = self._unit
        for number, entry in enumerate(self._bar):
            canvas.text(entry.text, _MARGIN * unit, self._baseline(line + number))
        left, width = round(2 * _MARGIN * unit), round(min(_BAR * 2 * unit, self.width - 5 * _MARGIN * unit))
        bottom = round(self._baseline(line + len(self._bar)))
        top = round(bottom - 0.5 * _LINE * unit)
        canvas.image[top:bottom, left : left + width] = scale.colours(np.linspace(0, scale.most, width))[None]
        for share, text in scale.ticks():
            x = left + share * (width - 1)
            canvas.image[bottom : bottom + round(3 * unit), round(x) : round(x + max(1, unit))] = INK
            canvas.text(text, x - measure_text(text.rstrip("+"), unit) / 2, bottom + 0.8 * _LINE * unit)


def _flow(entries: Sequence[Entry], width: int, unit: float) -> list[list[tuple[Entry, float]]]:
    """Returns lines of entries with the x at which each begins; an entry that does not fit begins a new line."""
    lines: list[list[tuple[Entry, float]]] = [[]]
    x = _MARGIN * unit
    for entry in entries:
        needed = _width_of(entry, unit)
        if lines[-1] and x + needed > width - _MARGIN * unit:
            lines.append([])
            x = _MARGIN * unit
        lines[-1].append((entry, x))
        x += needed + _GAP * unit
    return lines


def _width_of(entry: Entry, unit: float) -> float:
    return measure_text(entry.text, unit) + (_MARKER * unit if entry.marker else 0)


def _split(entries: Sequence[Entry], width: int, unit: float) -> list[Entry]:
    """Returns the entries with every text that is wider than a line cut into several, between words where possible."""
    found: list[Entry] = []
    for entry in entries:
        rest = Entry(_to_ascii(entry.text), entry.marker)
        while _width_of(rest, unit) > width - 2 * _MARGIN * unit and len(rest.text) > 1:
            head = _longest_head(rest, width - 2 * _MARGIN * unit, unit)
            found.append(Entry(rest.text[:head].rstrip(), rest.marker))
            rest = Entry(rest.text[head:].lstrip())
        found.append(rest)
    return found


def _longest_head(entry: Entry, room: float, unit: float) -> int:
    """Returns how many characters of an entry fit, up to the end of a word where there is one."""
    count = len(entry.text) - 1
    while count > 1 and _width_of(Entry(entry.text[:count], entry.marker), unit) > room:
        count -= 1
    return entry.text.rfind(" ", 1, count + 1) + 1 or count


def _to_ascii(text: str) -> str:
    """Returns the text as OpenCV's letters can show it, which are ASCII alone."""
    return text.encode("ascii", "replace").decode()
