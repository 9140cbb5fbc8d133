"""Measures how far the layers of a video depart from rigid motion, as the embedded model's training data move.

Every layer of `sprites` moves by similarities: in frame t, the point z of frame 0 is at a_t·z + b_t, which holds pan,
zoom and rotation. Positions are complex numbers x + iy. The departure is how far points are from the similarities that
fit their layer best. Bending, flowing and jumping apart all count; where a layer goes does not.

Shapes: N points, T frames, G layers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from vcorr import MetricBase, Score, Tracks, VideoTracks

SIDE = 256
"""Distances are in pixels of a 256x256 frame."""
FEWEST = 4
"""Fewest points of a layer that are visible in a frame; two points fit any similarity."""
GAPS = (2.0, 4.0, 8.0, 16.0)
"""How far a point may be from the motion of its layer when layers are looked for, in pixels of a 256x256 frame."""
SMALLEST_LAYER, MOST_LAYERS = 4, 5
"""Fewest points of a layer that is looked for, and the most layers: a background and four sprites."""
NEIGHBOURS = (3, 6, 10, 15, 21)
"""Which nearest neighbours of a point propose a motion with it."""

DIGITS = 6
"""Decimals of the departure. Positions have 32 bits, so further ones are rounding."""

Complex = NDArray[np.complex128]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Layers = NDArray[np.int64]


class RigidLayers(MetricBase):
    """`rigid_departure`: the mean distance of tracked points from the rigid motion of their layer (module docstring).

    In pixels of a 256x256 frame; less is better. The layers are found from the tracks (`find_layers`). n is the number
    of pairs of a point and a later frame. NaN, with n = 0, if no layer has four points that are visible in a later
    frame. A tracker's own errors count too, so compare with rendered clips under the same tracker.
    """

    higher_is_better = False
    columns = ("rigid_departure",)
    primary = "rigid_departure"
    lower = 0.0

    def score_video(self, video: NDArray[np.uint8], tracks: VideoTracks) -> dict[str, Score]:
        """Scores the tracks of a video (T, H, W, 3); the pixels are not read."""
        height, width = video.shape[1:3]
        return {self.primary: score_departure(tracks.forward, (height, width))}


def score_departure(tracks: Tracks, size: tuple[int, int], layers: Layers | None = None) -> Score:
    """Returns the mean distance of points from the best similarity of their layer, over pairs of point and later frame.

    Args:
        tracks: of queries in frame 0.
        size: (height, width) of the video in pixels.
        layers: (N,), the layer of every point; None to find the layers from the tracks.
    """
    places, visible = to_plane(tracks, size), tracks.visible & tracks.visible[:, :1]
    given = find_layers(places, visible) if layers is None else layers
    distances = measure_departure(places, visible, given)[:, 1:]
    known = np.isfinite(distances)
    value = float(distances[known].mean()) if known.any() else math.nan
    return Score(round(value, DIGITS), int(known.sum()))


def to_plane(tracks: Tracks, size: tuple[int, int]) -> Complex:
    """Returns positions (N, T) as complex numbers, in pixels of a 256x256 frame."""
    height, width = size
    xy = tracks.xy.astype(np.float64) * (SIDE / width, SIDE / height)
    return np.asarray(xy[..., 0] + 1j * xy[..., 1])


def measure_departure(places: Complex, visible: Bools, layers: Layers) -> Floats:
    """Returns the distances (N, T) of points from the similarity that fits their layer best in each frame.

    NaN where a point is not visible, or where fewer than four points of its layer are.
    """
    distances = np.full(places.shape, np.nan)
    for layer in np.unique(layers):
        own = layers == layer
        turn, shift = fit_similarities(places[own], visible[own])
        enough = visible[own].sum(axis=0) >= FEWEST
        apart = np.abs(turn * places[own, :1] + shift - places[own])
        distances[own] = np.where(visible[own] & enough, apart, np.nan)
    return distances


def fit_similarities(places: Complex, visible: Bools) -> tuple[Complex, Complex]:
    """Returns turn and shift (T,): the least squares fit of places[:, t] by turn[t] · places[:, 0] + shift[t].

    Closed form for complex numbers. Only points that are visible count; NaN in frames with fewer than two of them.
    """
    weight = visible.astype(np.float64)
    count = weight.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        start, end = ((weight * z).sum(axis=0) / count for z in (places[:, :1], np.where(visible, places, 0)))
        from_start, from_end = places[:, :1] - start, np.where(visible, places - end, 0)
        spread = (weight * np.abs(from_start) ** 2).sum(axis=0)
        turn = (weight * np.conj(from_start) * from_end).sum(axis=0) / spread
    turn = np.where((count >= 2) & (spread > 0), turn, np.nan)
    return np.asarray(turn), np.asarray(end - turn * start)


# ------------------------------------------------------------------------------------------------- finding the layers


def find_layers(places: Complex, visible: Bools) -> Layers:
    """Returns the layer (N,) of every point: the largest group that one rigid motion explains, then the next one.

    A motion is proposed by a point and one of its neighbours. It explains the points whose median distance from it,
    over the frames that show them, is at most two pixels. The motion with the most points is fitted to all of them, and
    they are set aside. Points that are left are tried again with larger distances, so layers that bend are found as
    well. At the end every point belongs to the motion from which it is least far on average. A layer that bends
    strongly may be found as several rigid ones; its departure is then too small.
    """
    left = visible.sum(axis=1) > 1
    motions: list[tuple[Complex, Complex]] = []
    proposed = propose_motions(places, visible)
    apart = np.array([typical_distance(places, visible, *motion) for motion in proposed]).reshape(-1, len(places))
    for gap in GAPS:
        while (group := largest_group((apart <= gap) & left)).any() and len(motions) < MOST_LAYERS:
            motions.append(fit_similarities(places[group], visible[group]))
            left &= ~group & (typical_distance(places, visible, *motions[-1]) > gap)
    if not motions:
        return np.zeros(len(places), dtype=np.int64)
    return np.asarray(np.argmin([mean_distance(places, visible, *motion) for motion in motions], axis=0))


def largest_group(explained: Bools) -> Bools:
    """Returns the row (N,) of `explained` (motions, N) with the most points; an empty one if all are too small."""
    counts = explained.sum(axis=1)
    if not len(counts) or counts.max() < SMALLEST_LAYER:
        return np.zeros(explained.shape[1], dtype=bool)
    return np.asarray(explained[int(counts.argmax())])


def propose_motions(places: Complex, visible: Bools) -> list[tuple[Complex, Complex]]:
    """Returns the motions of pairs of neighbours that are visible together in more than half of the frames."""
    start = np.where(visible[:, 0], places[:, 0], np.inf)
    motions = []
    for first in np.flatnonzero(visible[:, 0]):
        order = np.argsort(np.abs(start - places[first, 0]), kind="stable")
        for rank in NEIGHBOURS:
            pair = [first, order[min(rank, len(order) - 1)]]
            together = np.asarray(visible[pair].all(axis=0))
            if 2 * together.sum() > len(together) and pair[0] != pair[1]:
                motions.append(fit_similarities(places[pair], np.broadcast_to(together, (2, len(together)))))
    return motions


def typical_distance(places: Complex, visible: Bools, turn: Complex, shift: Complex) -> Floats:
    """Returns the median over frames of each point's distance from a motion, (N,); infinite if no frame shows both."""
    apart = _distances(places, visible, turn, shift)
    known = np.isfinite(apart).any(axis=1)
    found = np.full(len(places), np.inf)
    found[known] = np.nanmedian(apart[known], axis=1)
    return found


def mean_distance(places: Complex, visible: Bools, turn: Complex, shift: Complex) -> Floats:
    """Returns the mean over frames of each point's distance from a motion, (N,); infinite if no frame shows both."""
    apart = _distances(places, visible, turn, shift)
    known = np.isfinite(apart)
    total = np.where(known, apart, 0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.inf)


def _distances(places: Complex, visible: Bools, turn: Complex, shift: Complex) -> Floats:
    """Returns the distances (N, T - 1) in later frames, NaN where the point or the motion is not known."""
    apart = np.abs(turn * places[:, :1] + shift - places)
    return np.asarray(np.where(visible, apart, np.nan)[:, 1:])
