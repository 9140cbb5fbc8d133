"""The exact largest number of hits of a chain (`vcorr.metrics.reachable`), for jobs that bounds did not decide.

Shapes: N points, F latents, T frames, J jobs, A values of x and B values of y.

A dynamic programme keeps, for every position (y, x) of a latent, the most hits in the frames before this latent. Two
facts make it fast, and neither changes the maximum:

- A step to the next latent with no hit in between can start from the best position, so all positions get its value
  first. Only pairs of positions that hit a frame in between can raise this. A hit needs x and y to be close. So the
  pairs come from a list of pairs of columns and a list of pairs of rows.
- A position is followed only if its value, and the upper bound of the hits from there on, pass the lower bound. A chain
  that passes the lower bound has only such positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcorr.metrics.hit_distances import Floats
from vcorr.metrics.hit_windows import Bounds, Counts, Flags, Jobs, Ruler, Windows
from vcorr.metrics.reachable import Chains, Ints


def most_hits(chains: Chains, windows: Windows, jobs: Jobs, ruler: Ruler, bounds: Bounds) -> Counts:
    """Returns the largest number of hits of each job, (J,). bounds: of these jobs, from these windows."""
    return _Search(chains, windows, jobs, ruler, bounds).run()


@dataclass(frozen=True)
class _Pairs:
    """Pairs of positions at two latents, P of them: point, and indices of the values of x and y at both."""

    point: Ints
    x: tuple[Ints, Ints]
    y: tuple[Ints, Ints]

    def take(self, chosen: Flags) -> _Pairs:
        """Returns the chosen pairs."""
        return _Pairs(
            self.point[chosen],
            (self.x[0][chosen], self.x[1][chosen]),
            (self.y[0][chosen], self.y[1][chosen]),
        )


class _Search:
    def __init__(self, chains: Chains, windows: Windows, jobs: Jobs, ruler: Ruler, bounds: Bounds) -> None:
        self._points, self._first, self._of = np.unique(jobs.point, return_index=True, return_inverse=True)
        self._chains, self._ruler, self._bounds, self._counted = chains, ruler, bounds, jobs.counted
        self._windows = tuple(window.take(self._points) for window in windows)
        self._reference = chains.reference[self._points]
        self._values = [[self._values_at(axis, latent) for latent in range(chains.latents)] for axis in range(2)]
        self._shape = (len(jobs), chains.axes[1].values.shape[1], chains.axes[0].values.shape[1])

    def run(self) -> Counts:
        """Returns the largest number of hits of each job, (J,)."""
        value = np.zeros(self._shape, np.int32)
        for latent in range(self._chains.latents - 1):
            followed = value + self._rest(latent) > self._bounds.low[:, None, None]
            value = self._step(value + self._at(latent), followed, latent)
        value += self._at(self._chains.latents - 1)
        return np.asarray(np.maximum(self._bounds.low, value.max(axis=(1, 2))))

    def _values_at(self, axis: int, latent: int) -> NDArray[np.float32]:
        """Returns the values at a latent, (points, A or B); in a point's own latent, the query and then NaN."""
        values = self._chains.axes[axis].values[self._points]
        own = self._chains.own[self._points] == latent
        values[own] = np.nan
        values[own, 0] = self._chains.queries[self._points[own], axis]
        return values

    def _rest(self, latent: int) -> Counts:
        """Returns an upper bound of the hits from each position on, (J, B, A)."""
        suffix = self._bounds.suffix[latent]
        rest = np.broadcast_to(suffix[:, -1, None, None], self._shape).copy()
        x, y = (w.first[self._of, latent, None] + np.arange(w.near.shape[-1]) for w in self._windows)
        inside = suffix[:, :-1].reshape(len(x), y.shape[1], x.shape[1])
        rest[np.arange(len(x))[:, None, None], y[:, :, None], x[:, None]] = inside
        return rest

    def _at(self, latent: int) -> Counts:
        """Returns the hits in the frames of one latent, (J, B, A)."""
        total = np.zeros(self._shape, np.int32)
        for frame in self._chains.at[latent]:
            x, y = (
                self._ruler.squares(self._values[axis][latent], self._reference[:, frame, axis, None], axis)
                for axis in range(2)
            )
            hits = self._ruler.hits(x[:, None], y[:, :, None])
            total += hits[self._of] & self._counted[:, frame, None, None]
        return total

    def _step(self, value: Counts, followed: Flags, latent: int) -> Counts:
        """Returns the most hits before the next latent, (J, B, A). value: the most hits up to `latent`."""
        best = np.broadcast_to(value.max(axis=(1, 2))[:, None, None], self._shape).copy()
        starts = np.asarray(np.logical_or.reduceat(followed, self._first))
        for frame in self._chains.between[latent]:
            pairs = self._hitting(starts, latent, frame)
            which, job = _join(pairs.point, self._of, len(self._points))
            found = value[job, pairs.y[0][which], pairs.x[0][which]] + self._counted[job, frame]
            for other in self._chains.between[latent]:
                if other != frame:
                    found += self._hits(pairs, latent, other)[which] & self._counted[job, other]
            end = (job, pairs.y[1][which], pairs.x[1][which])
            better = found > best[end]
            np.maximum.at(best, tuple(part[better] for part in end), found[better])
        return best

    def _hitting(self, starts: Flags, latent: int, frame: int) -> _Pairs:
        """Returns the pairs of positions that hit a frame in between. starts: (points, B, A) positions to begin at."""
        counted = np.asarray(np.logical_or.reduceat(self._counted[:, frame], self._first))
        across = np.asarray(starts.any(axis=1)) & counted[:, None]
        down = np.asarray(starts.any(axis=2))
        point_x, *x = _find_true(self._close(0, latent, frame) & across[:, :, None])
        point_y, *y = _find_true(self._close(1, latent, frame) & down[:, :, None])
        left, right = _join(point_x, point_y, len(self._points))
        pairs = _Pairs(point_x[left], (x[0][left], x[1][left]), (y[0][right], y[1][right]))
        pairs = pairs.take(starts[pairs.point, pairs.y[0], pairs.x[0]])
        return pairs.take(self._hits(pairs, latent, frame))

    def _close(self, axis: int, latent: int, frame: int) -> Flags:
        """Returns which pairs of values at two latents may hit a frame along one axis, (points, A, A) or (.., B, B)."""
        weight = self._chains.times.fraction[frame]
        start, end = (self._values[axis][one].astype(np.float64) for one in (latent, latent + 1))
        rest = self._reference[:, frame, axis, None] - (1 - weight) * start
        with np.errstate(invalid="ignore"):
            offsets = rest[:, :, None] - weight * end[:, None]
        return np.asarray(np.abs(offsets, out=offsets) < self._ruler.radius(axis))

    def _hits(self, pairs: _Pairs, latent: int, frame: int) -> Flags:
        """Returns which pairs hit a frame, (P,)."""
        squares: list[Floats] = []
        for axis, (first, last) in enumerate((pairs.x, pairs.y)):
            start, end = (self._values[axis][one] for one in (latent, latent + 1))
            found = self._chains.blend(start[pairs.point, first], end[pairs.point, last], frame)
            squares.append(self._ruler.squares(found, self._reference[pairs.point, frame, axis], axis))
        return self._ruler.hits(*squares)


def _find_true(flags: Flags) -> tuple[Ints, ...]:
    """Returns what `np.nonzero` does, which is several times slower for more than one axis."""
    return np.unravel_index(np.flatnonzero(flags), flags.shape)


def _join(left: Ints, right: Ints, groups: int) -> tuple[Ints, Ints]:
    """Returns the indices (i, k) of all pairs with left[i] == right[k]; both hold numbers from 0 to groups - 1."""
    order = np.argsort(right, kind="stable")
    count = np.bincount(right, minlength=groups)
    first = np.cumsum(count) - count
    each = count[left]
    i = np.repeat(np.arange(len(left)), each)
    place = np.arange(len(i)) - np.repeat(np.cumsum(each) - each, each)
    return i, order[first[left[i]] + place]
