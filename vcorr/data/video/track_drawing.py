"""Draws tracks over a video, as an mp4 that every browser plays.

A prediction is a disc whose colour is its error, with a tail of its last positions and a line to its reference. A
reference is a white ring, or a diagonal cross while it is hidden. A query is an upright cross that stays. A legend
below the picture explains all of them. Without a reference, discs can have a colour per query instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Queries, Tracks
from vcorr.data.video.browser_videos import READABLE_SIDE, enlarge, enlargement, pad_to_even, write_mp4
from vcorr.data.video.drawing_canvas import PAPER, WHITE, Canvas, Colour, FadedLine
from vcorr.data.video.error_colours import UNKNOWN, ErrorScale
from vcorr.data.video.overlay_legend import Entry, Legend
from vcorr.data.video.query_colours import query_colours

TAIL = 6
"""Number of earlier frames that a tail shows."""
PREDICTED: Colour = (255, 120, 0)
"""Colour of predictions that have no reference at all."""
_SMALL = 0.6
"""Size of the markers of hidden points."""
_HOLLOW = 0.8
"""Size of the rings of hidden points that have a colour of their own."""
_FAINTEST = 0.1
"""Opacity towards which tails fade, frame by frame."""
_SWATCH = np.array([6.0, 0.0])
"""Half of the line that the legend shows, in units of the canvas."""


@dataclass(frozen=True)
class Drawing:
    """What is drawn over a video of T frames.

    size: (width, height) of the video in whose pixels positions count; None for the video that is drawn on. queries:
    query points, drawn from their own frame on, or (N, 2) pixels in frame 0; None for the first positions of the
    tracks. predicted, reference: tracks (N, T, 2), or the same with visibility. scale: the colours of errors; None for
    pixels. title: what is shown, such as model, probe and layer, in parts that may go to lines of their own.
    max_points: if there are more points, a regular subset of them is drawn. by_query: predictions without a reference
    have the colours of their queries, and queries are drawn in their own frame alone. tail: earlier frames that a tail
    shows.
    """

    queries: Queries | NDArray[np.float32] | None = None
    predicted: Tracks | NDArray[np.floating[Any]] | None = None
    reference: Tracks | NDArray[np.floating[Any]] | None = None
    size: tuple[float, float] | None = None
    scale: ErrorScale | None = None
    title: Sequence[str] = ()
    max_points: int = 100
    by_query: bool = False
    tail: int = TAIL


@dataclass(frozen=True)
class _Layer:
    """Tracks to draw. xy: (N, T, 2) positions. visible: (N, T)."""

    xy: NDArray[np.float64]
    visible: NDArray[np.bool_]


@dataclass(frozen=True)
class _Scene:
    """What is drawn, checked and reduced to the points that are shown.

    total: number of points before. errors: (N, T) in units of the scale; NaN for none. colours: (N, 3) RGB of the
    queries; None if they have none of their own. tail: earlier frames that a tail shows.
    """

    queries: Queries
    total: int
    predicted: _Layer | None
    reference: _Layer | None
    errors: NDArray[np.float64] | None
    scale: ErrorScale
    colours: NDArray[np.uint8] | None
    tail: int

    def draw_hidden(self, canvas: Canvas, xy: NDArray[Any], colour: Colour) -> None:
        """Draws a prediction that is hidden: a ring, larger and bold where its colour says which point it is."""
        if self.colours is None:
            canvas.ring(xy, colour, _SMALL)
        else:
            canvas.ring(xy, colour, _HOLLOW, bold=True)


def write_overlay(path: Path, video: NDArray[np.uint8], drawing: Drawing, *, fps: float) -> None:
    """Writes a video (T, H, W, 3) uint8 with tracks drawn over it, as H.264 in mp4; atomic. fps: frames per second.

    Raises:
        UsageError: the arrays do not fit one another.
        StoreError: the file cannot be written.
    """
    write_mp4(path, draw_overlay(video, drawing), fps)


def draw_overlay(video: NDArray[np.uint8], drawing: Drawing) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames that `write_overlay` writes: (H', W', 3) uint8 RGB with even H' and W'.

    The picture is at the top left: the video's own frames, `enlargement` times as large. The legend is below.

    Raises:
        UsageError: the arrays do not fit one another.
    """
    frames, height, width = video.shape[:3]
    overlay = Overlay(frames, (width, height), drawing)
    return (overlay.draw(video[t], t) for t in range(frames))


class Overlay:
    """Draws over one frame at a time, so that a long video need not be in memory.

    frames: T of the video. size: its (width, height).

    Raises:
        UsageError: the arrays of the drawing do not fit one another, or the video.
    """

    def __init__(self, frames: int, size: tuple[int, int], drawing: Drawing) -> None:
        width, height = size
        self._factor = enlargement(height, width)
        counted = drawing.size or size
        self._scene = _make_scene(drawing, frames, counted)
        self._unit = max(1.0, self._factor * (height * width) ** 0.5 / READABLE_SIDE)
        entries, scale = _entries(drawing, self._scene), _find_scale(self._scene)
        self._legend = Legend(width * self._factor, entries, scale, frames, self._unit)
        self._per_pixel = self._factor * width / counted[0], self._factor * height / counted[1]

    def draw(self, image: NDArray[np.uint8], t: int) -> NDArray[np.uint8]:
        """Returns frame t of the video with tracks and legend, as `draw_overlay` yields it. image: (H, W, 3) uint8."""
        picture = enlarge(image, self._factor)
        _draw_tracks(Canvas(picture, self._per_pixel, self._unit), self._scene, t)
        return pad_to_even(np.vstack([_widen(picture, self._legend.width), self._legend.draw(t)]))


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


def _make_scene(drawing: Drawing, frames: int, size: tuple[float, float]) -> _Scene:
    predicted = _make_layer("predicted", drawing.predicted, frames)
    reference = _make_layer("reference", drawing.reference, frames)
    layers = [layer for layer in (reference, predicted) if layer is not None]
    queries = drawing.queries
    if queries is None:
        queries = layers[0].xy[:, 0].astype(np.float32) if layers else np.zeros((0, 2), dtype=np.float32)
    known = Queries.of(queries)
    if any(len(layer.xy) != len(known) for layer in layers):
        raise UsageError("Overlay: queries, predicted and reference tracks must have one number of points.")
    chosen = choose_points(len(known), drawing.max_points)
    predicted, reference = _choose(predicted, chosen), _choose(reference, chosen)
    scale = drawing.scale or ErrorScale.in_pixels(round(size[0]), round(size[1]))
    errors = _measure(predicted, reference, scale)
    colours = query_colours(len(chosen)) if drawing.by_query and errors is None else None
    return _Scene(known[chosen], len(known), predicted, reference, errors, scale, colours, drawing.tail)


def _make_layer(name: str, tracks: Tracks | NDArray[Any] | None, frames: int) -> _Layer | None:
    if tracks is None:
        return None
    xy = np.asarray(tracks.xy if isinstance(tracks, Tracks) else tracks, dtype=np.float64)
    if xy.ndim != 3 or xy.shape[1:] != (frames, 2):
        raise UsageError(f"Overlay: {name} tracks must have shape (N, {frames}, 2), got {xy.shape}.")
    visible = tracks.visible if isinstance(tracks, Tracks) else np.ones(xy.shape[:2], dtype=bool)
    return _Layer(xy, visible)


def _choose(layer: _Layer | None, chosen: NDArray[np.int64]) -> _Layer | None:
    return None if layer is None else _Layer(layer.xy[chosen], layer.visible[chosen])


def _measure(predicted: _Layer | None, reference: _Layer | None, scale: ErrorScale) -> NDArray[np.float64] | None:
    """Returns the errors (N, T) of predictions in units of the scale; NaN where the reference is hidden."""
    if predicted is None or reference is None:
        return None
    return np.where(reference.visible, scale.measure(predicted.xy - reference.xy), np.nan)


def _entries(drawing: Drawing, scene: _Scene) -> list[Entry]:
    """Returns the legend's entries: the title, how many points are shown, and every kind of marker."""
    shown = [Entry(f"{len(scene.queries)} of {scene.total} points")] if len(scene.queries) < scene.total else []
    has_tracks = scene.predicted is not None or scene.reference is not None
    tails = [Entry(f"tails: the last {scene.tail} frames")] if has_tracks else []
    query = Entry("query" if scene.colours is None else "query, in its own frame", _draw_query)
    return [*map(Entry, drawing.title), *shown, query, *_track_entries(drawing, scene), *tails]


def _track_entries(drawing: Drawing, scene: _Scene) -> Iterator[Entry]:
    if scene.reference is not None:
        tracker = drawing.reference.tracker if isinstance(drawing.reference, Tracks) else ""
        yield Entry(f"reference{f' (tracks: {tracker})' if tracker else ''}", lambda c, xy: c.ring(xy, WHITE))
        yield Entry("reference, hidden", lambda c, xy: c.saltire(xy, WHITE))
    if scene.predicted is None:
        return
    own = PREDICTED if scene.colours is None else _colour(scene.colours[len(scene.colours) // 2])
    hidden_colour = UNKNOWN if scene.colours is None else own
    if scene.errors is None:
        text = "prediction" if scene.colours is None else "point, in the colour of its query"
        yield Entry(text, lambda c, xy: c.disc(xy, own))
    else:
        some = _colour(scene.scale.colours(np.array([scene.scale.most / 2]))[0])
        yield Entry("prediction, coloured by its error", lambda c, xy: c.disc(xy, some))
        yield Entry(
            "line from it to its reference",
            lambda c, xy: _draw_link(c, xy - c.unit * _SWATCH, xy + c.unit * _SWATCH, some),
        )
        yield Entry("prediction while the reference is hidden", lambda c, xy: c.disc(xy, UNKNOWN, _SMALL))
    if not scene.predicted.visible.all():
        yield Entry("predicted to be hidden", lambda c, xy: scene.draw_hidden(c, xy, hidden_colour))


def _find_scale(scene: _Scene) -> ErrorScale | None:
    return None if scene.errors is None else scene.scale


def _draw_tracks(canvas: Canvas, scene: _Scene, t: int) -> None:
    begun = scene.queries.t <= t if scene.colours is None else scene.queries.t == t
    for query in scene.queries.xy[begun]:
        _draw_query(canvas, query)
    colours = _point_colours(scene, t)
    if scene.reference is not None:
        _draw_tails(canvas, scene.reference, t, [WHITE] * len(colours), scene.tail)
    if scene.predicted is not None:
        _draw_tails(canvas, scene.predicted, t, colours, scene.tail)
    if scene.reference is not None:
        _draw_reference(canvas, scene.reference, t)
    if scene.predicted is not None:
        _draw_predictions(canvas, scene, t, colours)


def _point_colours(scene: _Scene, t: int) -> list[Colour]:
    if scene.colours is not None:
        return [_colour(one) for one in scene.colours]
    if scene.errors is None:
        return [PREDICTED] * len(scene.queries)
    return [_colour(one) for one in scene.scale.colours(scene.errors[:, t])]


def _draw_query(canvas: Canvas, xy: NDArray[Any]) -> None:
    canvas.plus(xy, WHITE)


def _draw_reference(canvas: Canvas, reference: _Layer, t: int) -> None:
    for xy, visible in zip(reference.xy[:, t], reference.visible[:, t], strict=True):
        (canvas.ring if visible else canvas.saltire)(xy, WHITE)


def _draw_predictions(canvas: Canvas, scene: _Scene, t: int, colours: Sequence[Colour]) -> None:
    """Draws discs, on top of everything, and lines to visible references. Large errors come last, so that they show."""
    assert scene.predicted is not None
    errors = np.zeros(len(colours)) if scene.errors is None else np.nan_to_num(scene.errors[:, t], nan=-1.0)
    order = np.argsort(errors, kind="stable")
    for n in order:
        if scene.reference is not None and scene.reference.visible[n, t]:
            _draw_link(canvas, scene.reference.xy[n, t], scene.predicted.xy[n, t], colours[n])
    for n in order:
        xy = scene.predicted.xy[n, t]
        known = scene.reference is None or scene.reference.visible[n, t]
        if scene.predicted.visible[n, t]:
            canvas.disc(xy, colours[n], 1.0 if known else _SMALL)
        else:
            scene.draw_hidden(canvas, xy, colours[n])


def _draw_link(canvas: Canvas, first: NDArray[Any], second: NDArray[Any], colour: Colour) -> None:
    canvas.line(first, second, colour, bold=True)


def _draw_tails(canvas: Canvas, layer: _Layer, t: int, colours: Sequence[Colour], length: int) -> None:
    """Draws the last positions, fainter the older they are; the newest come last, on top."""
    canvas.fade(
        [
            FadedLine(layer.xy[n, earlier], layer.xy[n, earlier + 1], colour, 1 - (1 - _FAINTEST) * age / length)
            for earlier in range(max(0, t - length), t)
            for age in [t - 1 - earlier]
            for n, colour in enumerate(colours)
            if layer.visible[n, earlier] and layer.visible[n, earlier + 1]
        ]
    )


def _colour(rgb: NDArray[np.uint8]) -> Colour:
    red, green, blue = (int(value) for value in rgb)
    return red, green, blue


def _widen(picture: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Adds a dark margin at the right of a picture that is narrower than its legend."""
    missing = width - picture.shape[1]
    if missing <= 0:
        return picture
    margin = np.full((picture.shape[0], missing, 3), PAPER, dtype=np.uint8)
    return np.hstack([picture, margin])
