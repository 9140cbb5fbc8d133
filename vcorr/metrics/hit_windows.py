"""Bounds on the largest number of hits of a chain (`vcorr.metrics.reachable`), from positions near the reference.

Shapes: N points, F latents, T frames, J jobs, K positions in a window. A "window" holds, for each point and latent, the
values nearest to the reference on each axis. All other positions of the read-out are "outside".

A dynamic programme over the latents keeps, for every position of the window, the most hits from this latent on. The
lower bound uses windows alone: its chain exists. The upper bound has one more state, "outside", whose hits are counted
generously. Where both bounds agree, they are the maximum over all chains.

Why the upper bound holds. Let a and b be the positions at latents j and j + 1. A frame in between is at a + f (b - a).
Let two frames be hit, one with fraction f and reference p, the other with g > f and reference q. They are then within
the radius r of p and q. Solving for a and b gives two discs, in which a and b must lie:

    a: radius r (f + g) / (g - f),      centre (g p - f q) / (g - f)
    b: radius r (2 - f - g) / (g - f),  centre ((1 - f) q - (1 - g) p) / (g - f)

If the disc lies within the window, no position outside hits both frames. So the first and the last frame that a
position outside hits have a disc that leaves the window. It hits at most the frames from the first to the last.
Let the position at the other latent be known. Then a frame counts only if some position outside brings it within r of
its reference along both axes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.metrics.hit_distances import Floats, add_squares, axis_squares
from vcorr.metrics.reachable import Chains, Ints

Counts = NDArray[np.int32]
Flags = NDArray[np.bool_]
NEVER = -(2**20)
"""Hits of a state that does not exist; sums with it stay far below 0."""


@dataclass(frozen=True)
class Ruler:
    """How the distance of a pair is measured; see `vcorr.HitRule`. slack: pixels that are added to the limit."""

    limit: float
    unit: tuple[float, float]
    single: bool
    slack: float

    @property
    def reach(self) -> float:
        """The limit with the slack, in units."""
        return self.limit + self.slack / min(self.unit)

    def radius(self, axis: int) -> float:
        """Returns the largest distance of a hit along an axis in pixels, rounded up."""
        return self.reach * self.unit[axis] * (1 + 1e-6) + 1e-3

    def squares(self, found: Floats, reference: Floats, axis: int) -> Floats:
        """Returns the squares of distances along one axis, in units."""
        return axis_squares(found, reference, self.unit[axis], single=self.single)

    def hits(self, x: Floats, y: Floats) -> Flags:
        """Returns which squares along x and y belong to hits."""
        return np.asarray(add_squares(x, y, single=self.single) < self.reach * self.reach)


@dataclass(frozen=True)
class Jobs:
    """Sets of frames of single points, whose largest number of hits is wanted; jobs of one point follow one another.

    point: (J,) the point, ascending. counted: (J, T) bool, the frames that count.
    """

    point: Ints
    counted: Flags

    def __len__(self) -> int:
        return len(self.point)

    def take(self, chosen: Any) -> Jobs:
        """Returns the jobs with these indices."""
        return Jobs(self.point[chosen], self.counted[chosen])


@dataclass(frozen=True)
class AxisWindow:
    """The window of one axis, for every point and latent.

    near: (N, F, k) float32 pixels; in a point's own latent, the query k times.
    first: (N, F) index of the first of them among all values; 0 in the own latent.
    below, above: (N, F) the nearest values outside; infinite where there is none.
    ends: (N, F, 2) the least and the largest of all values.
    """

    near: NDArray[np.float32]
    first: Ints
    below: Floats
    above: Floats
    ends: Floats

    @classmethod
    def of(cls, chains: Chains, axis: int, side: int) -> AxisWindow:
        """Returns the windows of up to `side` values around the reference."""
        values, point = chains.axes[axis].values, np.arange(len(chains.own))
        counts = np.maximum(np.count_nonzero(~np.isnan(values), axis=1), 1)[:, None]
        size = min(side, values.shape[1])
        first = np.clip(_nearest(values, chains.near[..., axis]) - size // 2, 0, np.maximum(counts - size, 0))
        near = values[point[:, None, None], first[..., None] + np.arange(size)]
        last = first + size
        below = np.where(first > 0, values[point[:, None], np.maximum(first - 1, 0)], -np.inf)
        above = np.where(last < counts, values[point[:, None], np.minimum(last, values.shape[1] - 1)], np.inf)
        ends = np.repeat(chains.axes[axis].ends[:, None], chains.latents, axis=1)
        own = (point, chains.own)
        near[own], first[own], below[own], above[own] = chains.queries[:, [axis]], 0, -np.inf, np.inf
        ends[own] = chains.queries[:, [axis]]
        return cls(near, first, below, above, ends)

    def take(self, points: Ints) -> AxisWindow:
        """Returns the windows of these points."""
        return AxisWindow(*(getattr(self, field.name)[points] for field in fields(self)))


Windows = tuple[AxisWindow, AxisWindow]


def make_windows(chains: Chains, side: int) -> Windows:
    """Returns the windows of up to side x side positions for all points."""
    return AxisWindow.of(chains, 0, side), AxisWindow.of(chains, 1, side)


def _nearest(values: NDArray[np.float32], wanted: NDArray[np.float64]) -> Ints:
    distance = np.abs(values[:, None, :] - wanted[:, :, None])
    return np.asarray(np.where(np.isnan(distance), np.inf, distance).argmin(axis=-1))


@dataclass(frozen=True)
class Bounds:
    """Bounds on the largest number of hits of each job.

    low: (J,) hits of a chain within the windows. high: (J,) no chain has more.
    suffix: (F, J, K + 1) no chain from this position on has more hits in the frames of this and later latents; the last
    one is the position "outside".
    """

    low: Counts
    high: Counts
    suffix: Counts

    def take(self, chosen: Any) -> Bounds:
        """Returns the bounds of the jobs with these indices."""
        return Bounds(self.low[chosen], self.high[chosen], self.suffix[:, chosen])


def find_bounds(chains: Chains, windows: Windows, jobs: Jobs, ruler: Ruler) -> Bounds:
    """Returns bounds on the hits of every job; see the module."""
    counter = _Counter(chains, windows, jobs, ruler)
    low, outside = np.zeros((len(jobs), counter.positions), np.int32), np.zeros(len(jobs), np.int32)
    high, suffix = low, []
    for latent in reversed(range(chains.latents)):
        if latent < chains.latents - 1:
            step = counter.between(latent)
            leave = np.maximum((step.from_outside + high).max(axis=1), step.outside + outside)
            stay = (step.inside + high[:, None]).max(axis=2)
            low = (step.inside + low[:, None]).max(axis=2)
            high, outside = np.maximum(stay, step.to_outside + outside[:, None]), leave
        inside, beyond = counter.at(latent)
        low, high = low + inside, high + inside
        outside = np.where(counter.has_outside(latent), outside + beyond, NEVER)
        suffix.append(np.concatenate([high, outside[:, None]], axis=1))
    return Bounds(low.max(axis=1), suffix[-1].max(axis=1), np.stack(suffix[::-1]))


@dataclass(frozen=True)
class _Step:
    """Hits in the frames between two latents, (J, ...): exact inside the windows, at most so many outside.

    inside: (J, K, K). to_outside: (J, K) from a position to outside. from_outside: (J, K) from outside to a position.
    outside: (J,) from outside to outside.
    """

    inside: NDArray[np.int16]
    to_outside: Counts
    from_outside: Counts
    outside: Counts


class _Counter:
    """Counts the hits of jobs in the frames of one latent, or between two latents.

    Work that does not depend on the counted frames is done once per point; `_of` says which point a job has.
    """

    def __init__(self, chains: Chains, windows: Windows, jobs: Jobs, ruler: Ruler) -> None:
        points, self._of = np.unique(jobs.point, return_inverse=True)
        self._chains, self._ruler, self._counted = chains, ruler, jobs.counted
        self._windows = tuple(window.take(points) for window in windows)
        self._reference = chains.reference[points].astype(np.float64)
        self._single = chains.reference[points]
        self.positions = self._windows[0].near.shape[-1] * self._windows[1].near.shape[-1]

    def has_outside(self, latent: int) -> Flags:
        """Returns whether there are positions outside the window, (J,)."""
        x, y = (np.isfinite(w.below[:, latent]) | np.isfinite(w.above[:, latent]) for w in self._windows)
        return np.asarray((x | y)[self._of])

    def at(self, latent: int) -> tuple[Counts, Counts]:
        """Returns the hits in the frames of one latent: of the window's positions (J, K), and outside at most (J,)."""
        jobs = len(self._of)
        inside, outside = np.zeros((jobs, self.positions), np.int32), np.zeros(jobs, np.int32)
        for frame in self._chains.at[latent]:
            x, y = (self._squares(w.near[:, latent], axis, frame) for axis, w in enumerate(self._windows))
            hits = self._ruler.hits(x[:, None], y[:, :, None]).reshape(len(x), -1)
            counted = self._counted[:, frame]
            inside += hits[self._of] & counted[:, None]
            outside += self._leaves(latent, self._reference[:, frame], 1.0)[self._of] & counted
        return inside, outside

    def between(self, latent: int) -> _Step:
        """Returns the hits in the frames between `latent` and the next one."""
        jobs, frames = len(self._of), self._chains.between[latent]
        inside = np.zeros((jobs, self.positions, self.positions), np.int16)
        to_outside, from_outside = (np.zeros((jobs, self.positions), np.int32) for _ in range(2))
        for frame in frames:
            counted, fraction = self._counted[:, frame], float(self._chains.times.fraction[frame])
            inside += self._hits(latent, frame)[self._of] & counted[:, None, None]
            to_outside += self._reaches(latent, latent + 1, fraction, frame)[self._of] & counted[:, None]
            from_outside += self._reaches(latent + 1, latent, 1 - fraction, frame)[self._of] & counted[:, None]
        most_to, most_from = self._most_outside(latent, frames)
        return _Step(
            inside,
            np.minimum(to_outside, most_to[:, None]),
            np.minimum(from_outside, most_from[:, None]),
            np.minimum(most_to, most_from),
        )

    def _hits(self, latent: int, frame: int) -> Flags:
        """Returns which pairs of window positions hit a frame between their latents, (points, K, K)."""
        x, y = (
            self._squares(
                self._chains.blend(w.near[:, latent, :, None], w.near[:, latent + 1, None], frame), axis, frame
            )
            for axis, w in enumerate(self._windows)
        )
        hits = self._ruler.hits(x[:, None, :, None, :], y[:, :, None, :, None])
        return hits.reshape(len(x), self.positions, self.positions)

    def _squares(self, found: NDArray[np.float32], axis: int, frame: int) -> Floats:
        reference = self._single[:, frame, axis].reshape(-1, *(1,) * (found.ndim - 1))
        return self._ruler.squares(found, reference, axis)

    def _leaves(self, latent: int, centre: Floats, factor: float) -> Flags:
        """Returns whether a disc may hold a position outside the window, (points,).

        centre: (points, 2) pixels. factor: its radius, as a multiple of the radius of a hit.
        """
        found = np.zeros(len(centre), dtype=np.bool_)
        with np.errstate(invalid="ignore"):  # frames that do not count may have any reference
            for axis, w in enumerate(self._windows):
                radius = self._ruler.radius(axis) * factor
                found |= centre[:, axis] - radius <= w.below[:, latent]
                found |= centre[:, axis] + radius >= w.above[:, latent]
        return found

    def _reaches(self, known: int, free: int, weight: float, frame: int) -> Flags:
        """Returns for which window positions at latent `known` a position outside at `free` may hit, (points, K).

        weight: of the position at `free`.
        """
        outside, anywhere = [], []
        for axis, w in enumerate(self._windows):
            radius = self._ruler.radius(axis)
            rest = self._reference[:, frame, axis, None] - (1 - weight) * w.near[:, known].astype(np.float64)
            low, high = rest - radius, rest + radius
            least, most = (weight * w.ends[:, free, end, None] for end in range(2))
            below, above = (weight * side[:, free, None] for side in (w.below, w.above))
            anywhere.append((least <= high) & (most >= low))
            outside.append(((least <= high) & (below >= low)) | ((above <= high) & (most >= low)))
        x = outside[0][:, None] & anywhere[1][:, :, None]
        y = anywhere[0][:, None] & outside[1][:, :, None]
        return np.asarray((x | y).reshape(len(x), -1))

    def _most_outside(self, latent: int, frames: Ints) -> tuple[Counts, Counts]:
        """Returns the most hits with a position outside the later window, and outside the earlier one, (J,) each."""
        to: Counts = np.asarray(self._counted[:, frames].any(axis=1), np.int32)
        back = to.copy()
        fraction = self._chains.times.fraction
        for i, one in enumerate(frames):
            for k, other in enumerate(frames[i + 1 :], start=i + 1):
                f, g = float(fraction[one]), float(fraction[other])
                p, q = self._reference[:, one], self._reference[:, other]
                ends = self._counted[:, one] & self._counted[:, other]
                hits = np.where(ends, self._counted[:, frames[i : k + 1]].sum(axis=1), 0)
                end = self._leaves(latent + 1, ((1 - f) * q - (1 - g) * p) / (g - f), (2 - f - g) / (g - f))
                start = self._leaves(latent, (g * p - f * q) / (g - f), (f + g) / (g - f))
                np.maximum(to, np.where(end[self._of], hits, 0), out=to)
                np.maximum(back, np.where(start[self._of], hits, 0), out=back)
        return to, back
