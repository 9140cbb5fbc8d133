"""Draws tracks over a video, as an mp4 that every browser plays.

A track is a dot with a tail of its last positions. A hidden point is a ring. A query point is a small cross that stays
at its position. A line joins a prediction with its reference while both are visible.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Queries, Tracks
from vcorr.data.video.lossless import encode
from vcorr.store.atomic_files import atomic_file

READABLE_SIDE = 640
"""Least length in pixels of the longer side; smaller videos are enlarged by a whole factor."""
LARGEST_SIDE = 1280
STRIP = 30
"""Height of the legend below the frame, pixels."""
TAIL = 6
"""Number of earlier frames that a tail shows."""
PREDICTED, REFERENCE, QUERY, LINK = (255, 120, 0), (0, 230, 255), (255, 255, 255), (255, 80, 80)
_INK, _PAPER = (240, 240, 240), (24, 24, 24)
_SHIFT = 4
"""Fractional bits of the coordinates that OpenCV draws at."""


@dataclass(frozen=True)
class _Layer:
    """One set of tracks to draw. xy: (N, T, 2) pixels of the video. visible: (N, T). size: of the dots (1: normal)."""

    name: str
    colour: tuple[int, int, int]
    size: float
    xy: NDArray[np.float64]
    visible: NDArray[np.bool_]

    @property
    def tail(self) -> int:
        """Width of the tails in pixels."""
        return 3 if self.size > 1 else 1


def write_overlay(
    path: Path,
    video: NDArray[np.uint8],
    *,
    fps: float,
    queries: Queries | NDArray[np.float32] | None = None,
    predicted: Tracks | NDArray[np.floating[Any]] | None = None,
    reference: Tracks | NDArray[np.floating[Any]] | None = None,
    title: str = "",
    max_points: int = 100,
) -> None:
    """Writes a video (T, H, W, 3) uint8 with tracks drawn over it, as H.264 in mp4; atomic.

    Args:
        path: the mp4.
        video: the frames.
        fps: frames per second.
        queries: query points, drawn from their own frame on, or (N, 2) pixels in frame 0. None for the first
            positions of the tracks.
        predicted: (N, T, 2) pixels, or tracks with visibility.
        reference: the same.
        title: text at the right of the legend, such as model and layer.
        max_points: if there are more points, only a regular subset of them is drawn.

    Raises:
        UsageError: the arrays do not fit one another.
        StoreError: the file cannot be written.
    """
    drawn = draw_overlay(
        video, queries=queries, predicted=predicted, reference=reference, title=title, max_points=max_points
    )
    frames = list(drawn)
    with atomic_file(path) as temporary:
        options = {"crf": "18", "preset": "fast"}
        encode(temporary, frames, fps, codec="libx264", pixels="yuv420p", container="mp4", options=options)


def draw_overlay(
    video: NDArray[np.uint8],
    *,
    queries: Queries | NDArray[np.float32] | None = None,
    predicted: Tracks | NDArray[np.floating[Any]] | None = None,
    reference: Tracks | NDArray[np.floating[Any]] | None = None,
    title: str = "",
    max_points: int = 100,
) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames that `write_overlay` writes: (H', W', 3) uint8 RGB with even H' and W'. Same arguments.

    Raises:
        UsageError: the arrays do not fit one another.
    """
    # predictions are drawn on top and smaller, so that the reference shows as a rim where both agree
    layers = [] if reference is None else [_make_layer("reference", REFERENCE, 1.3, reference, len(video))]
    layers += [] if predicted is None else [_make_layer("predicted", PREDICTED, 0.8, predicted, len(video))]
    if queries is None:
        queries = layers[0].xy[:, 0].astype(np.float32) if layers else np.zeros((0, 2), dtype=np.float32)
    known = Queries.of(queries)
    if any(len(layer.xy) != len(known) for layer in layers):
        raise UsageError("Overlay: queries, predicted and reference tracks must have one number of points.")
    chosen = choose_points(len(known), max_points)
    layers = [replace(one, xy=one.xy[chosen], visible=one.visible[chosen]) for one in layers]
    asked = known[chosen]
    return (_draw_frame(video, t, asked.xy[asked.t <= t], layers, title) for t in range(len(video)))


def choose_points(count: int, most: int) -> NDArray[np.int64]:
    """Returns indices of at most `most` of `count` points: a coarser grid of a square grid, else evenly spaced ones."""
    if count <= most:
        return np.arange(count)
    side = round(count**0.5)
    if side * side == count and (few := int(most**0.5)):
        step = -(-side // few)
        line = np.arange(step // 2, side, step)
        return np.asarray((line[:, None] * side + line).ravel())
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.int64))


def _make_layer(
    name: str, colour: tuple[int, int, int], size: float, tracks: Tracks | NDArray[Any], frames: int
) -> _Layer:
    xy = np.asarray(tracks.xy if isinstance(tracks, Tracks) else tracks, dtype=np.float64)
    if xy.ndim != 3 or xy.shape[1:] != (frames, 2):
        raise UsageError(f"Overlay: {name} tracks must have shape (N, {frames}, 2), got {xy.shape}.")
    visible = tracks.visible if isinstance(tracks, Tracks) else np.ones(xy.shape[:2], dtype=bool)
    return _Layer(name, colour, size, xy, visible)


def _draw_frame(
    video: NDArray[np.uint8], t: int, queries: NDArray[np.float32], layers: list[_Layer], title: str
) -> NDArray[np.uint8]:
    height, width = video.shape[1:3]
    scale = _choose_scale(height, width)
    size = max(2, round(width * scale)), max(2, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    image = cv2.resize(video[t], size, interpolation=method)
    canvas = _Canvas(image, np.array([size[0] / width, size[1] / height]))
    for query in queries:
        canvas.cross(query)
    if len(layers) == 2:
        _draw_links(canvas, layers[0], layers[1], t)
    for layer in layers:
        _draw_layer(canvas, layer, t)
    return _pad_to_even(np.vstack([canvas.image, _draw_legend(size[0], layers, title, t, len(video))]))


def _choose_scale(height: int, width: int) -> float:
    side = max(height, width)
    return LARGEST_SIDE / side if side > LARGEST_SIDE else float(max(1, -(-READABLE_SIDE // side)))


class _Canvas:
    """An enlarged frame to draw on. Positions are pixels of the video."""

    def __init__(self, image: NDArray[np.uint8], scale: NDArray[np.float64]) -> None:
        self.image = image
        self._scale = scale
        self.radius = max(3.0, max(image.shape[:2]) / 200)

    def locate(self, xy: NDArray[Any]) -> tuple[int, int] | None:
        """Returns OpenCV's fixed-point coordinates of a position; None if it is NaN or far outside."""
        placed = xy * self._scale - 0.5
        if not np.isfinite(placed).all() or np.abs(placed).max() > 1e5:
            return None
        x, y = (placed * (1 << _SHIFT)).round().astype(int).tolist()
        return x, y

    def dot(self, xy: NDArray[Any], colour: tuple[int, int, int], *, hollow: bool, size: float = 1.0) -> None:
        """Draws a disc with a dark rim, or a ring, with `size` times the usual radius."""
        if (centre := self.locate(xy)) is None:
            return
        radius = int(size * self.radius * (1 << _SHIFT))
        if hollow:
            self._circle(centre, radius, colour, 1)
            return
        self._circle(centre, radius + (1 << _SHIFT), (0, 0, 0), -1)
        self._circle(centre, radius, colour, -1)

    def line(self, first: NDArray[Any], second: NDArray[Any], colour: tuple[int, int, int], width: int = 1) -> None:
        """Draws a line between two positions."""
        begin, end = self.locate(first), self.locate(second)
        if begin is not None and end is not None:
            cv2.line(self.image, begin, end, colour, width, cv2.LINE_AA, _SHIFT)

    def cross(self, xy: NDArray[Any]) -> None:
        """Draws a small cross."""
        if (centre := self.locate(xy)) is None:
            return
        arm = int(self.radius * (1 << _SHIFT))
        x, y = centre
        cv2.line(self.image, (x - arm, y), (x + arm, y), QUERY, 1, cv2.LINE_AA, _SHIFT)
        cv2.line(self.image, (x, y - arm), (x, y + arm), QUERY, 1, cv2.LINE_AA, _SHIFT)

    def _circle(self, centre: tuple[int, int], radius: int, colour: tuple[int, int, int], width: int) -> None:
        cv2.circle(self.image, centre, radius, colour, width, cv2.LINE_AA, _SHIFT)


def _draw_links(canvas: _Canvas, reference: _Layer, predicted: _Layer, t: int) -> None:
    for n in np.flatnonzero(reference.visible[:, t] & predicted.visible[:, t]):
        canvas.line(reference.xy[n, t], predicted.xy[n, t], LINK)


def _draw_layer(canvas: _Canvas, layer: _Layer, t: int) -> None:
    for n in range(len(layer.xy)):
        for earlier in range(max(0, t - TAIL), t):
            if layer.visible[n, earlier] and layer.visible[n, earlier + 1]:
                canvas.line(layer.xy[n, earlier], layer.xy[n, earlier + 1], layer.colour, layer.tail)
    for n in range(len(layer.xy)):
        canvas.dot(layer.xy[n, t], layer.colour, hollow=not layer.visible[n, t], size=layer.size)


def _draw_legend(width: int, layers: list[_Layer], title: str, t: int, frames: int) -> NDArray[np.uint8]:
    """Returns a strip (STRIP, width, 3) that explains the colours and shows the frame's number."""
    strip = np.full((STRIP, width, 3), _PAPER, dtype=np.uint8)
    canvas = _Canvas(strip, np.ones(2))
    canvas.radius = 4.0
    x = 12
    canvas.cross(np.array([x, STRIP / 2]))
    x = _write(strip, "query", x + 10) + 16
    for layer in layers:
        canvas.dot(np.array([x, STRIP / 2]), layer.colour, hollow=False)
        x = _write(strip, layer.name, x + 10) + 16
    if layers:
        canvas.dot(np.array([x, STRIP / 2]), _INK, hollow=True)
        x = _write(strip, "hidden", x + 10) + 16
    _write_right(strip, "   ".join(filter(None, [title, f"frame {t}/{frames - 1}"])), x)
    return strip


_FONT, _FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.42


def _write(strip: NDArray[np.uint8], text: str, x: int) -> int:
    """Writes text at x, and returns the x at which it ends."""
    cv2.putText(strip, text, (x, STRIP - 11), _FONT, _FONT_SCALE, _INK, 1, cv2.LINE_AA)
    return int(x + cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0])


def _write_right(strip: NDArray[np.uint8], text: str, least: int) -> None:
    """Writes text at the right border, shortened from the left if it does not fit."""
    width = strip.shape[1]
    while text and width - cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0] - 10 < least:
        text = text[1:]
    if text:
        _write(strip, text, width - int(cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0]) - 10)


def _pad_to_even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Repeats the last row or column of an image where their number is odd: H.264 in yuv420p needs even sizes."""
    rows, columns = image.shape[0] % 2, image.shape[1] % 2
    return np.pad(image, ((0, rows), (0, columns), (0, 0)), mode="edge") if rows or columns else image
