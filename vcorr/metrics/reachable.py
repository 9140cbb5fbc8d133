"""The positions that a read-out can predict for each query point, and the latents that decide each video frame.

Shapes: N points, F latents, T frames, A reachable values of x and B reachable values of y. A "chain" is one position
per latent for one point; in the latent that covers the query's frame, it is the query.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.geometry import TokenGrid
from vcorr.metrics.hit_distances import Floats
from vcorr.metrics.published_field import field_samples
from vcorr.metrics.timemap import FrameMap

Ints = NDArray[np.int64]

MOST_VALUES = 128
"""A point with more reachable values on an axis is bounded by their whole range (`field_values`)."""

ROUNDING = 1e-6
"""Rounding errors of float32 positions, as a share of the frame's longer side."""


@dataclass(frozen=True)
class Values:
    """The values that x or y of one read-out can take, point by point.

    values: (N, A) float32 pixels, ascending; a point with fewer values has NaN at the end.
    ends: (N, 2) the least and the largest value.
    many: (N,) True for a point whose values are too many to list; its `values` are NaN.
    """

    values: NDArray[np.float32]
    ends: Floats
    many: NDArray[np.bool_]


@dataclass(frozen=True)
class Chains:
    """All chains of the points of a clip.

    At every latent but a point's own, x is any of its values and y any of its values, independently of each other.

    axes: the values of x and of y.
    queries: (N, 2) float32 pixels.
    own: (N,) the latent that covers the frame of each query.
    reference: (N, T, 2) pixels.
    near: (N, F, 2) pixels, about where the reference is at each latent; finite.
    times: the latents before and after every frame.
    slack: pixels by which a position may be farther away and still hit, because its rounding is not known.
    """

    axes: tuple[Values, Values]
    queries: NDArray[np.float32]
    own: Ints
    reference: Floats
    near: NDArray[np.float64]
    times: FrameMap
    slack: float = 0.0

    @property
    def latents(self) -> int:
        """F, the number of latents."""
        return int(self.near.shape[1])

    @cached_property
    def at(self) -> tuple[Ints, ...]:
        """The frames that each latent decides alone."""
        alone = ~self._mixed
        return tuple(np.flatnonzero(alone & (self.times.before == j)) for j in range(self.latents))

    @cached_property
    def between(self) -> tuple[Ints, ...]:
        """The frames that latents j and j + 1 decide together, for each j but the last; in order of time."""
        return tuple(np.flatnonzero(self._mixed & (self.times.before == j)) for j in range(self.latents - 1))

    @property
    def _mixed(self) -> NDArray[np.bool_]:
        return (self.times.fraction > 0) & (self.times.before < self.times.after)

    def blend(self, start: Floats, end: Floats, frame: int) -> NDArray[np.float32]:
        """Returns positions in a frame between two latents, by the arithmetic of `to_frames`."""
        first = start.astype(np.float64)
        return np.asarray(first + self.times.fraction[frame] * (end.astype(np.float64) - first)).astype(np.float32)


def token_values(grid: TokenGrid, queries: NDArray[np.float32]) -> tuple[Values, Values]:
    """Returns the values of query + centre(y) - centre(x*), y any token and x* the token under the query.

    The tokens y form a rectangle, so x and y are independent.
    """
    rows, cols = np.divmod(grid.tokens_at(queries), grid.cols)
    across = grid.token_centres(0, np.arange(grid.cols))[:, 0]
    down = grid.token_centres(np.arange(grid.rows), 0)[:, 1]
    return _list_values(queries[:, :1] + (across - across[cols][:, None])), _list_values(
        queries[:, 1:] + (down - down[rows][:, None])
    )


def token_slack(grid: TokenGrid) -> float:
    """Returns the slack of `token_values`: 0 where float32 holds the centres of the tokens exactly.

    Where it does not, programs that add in another order round differently.
    """
    cols, rows = (np.arange(max(grid.rows, grid.cols)) + 0.5 for _ in range(2))
    exact = np.stack([cols * grid.stride[0], rows * grid.stride[1]])
    return 0.0 if (exact.astype(np.float32) == exact).all() else field_slack(grid)


def field_slack(grid: TokenGrid) -> float:
    """Returns the slack of `field_values`: sums of four float32 products, whose order is not known."""
    return ROUNDING * max(grid.width, grid.height)


def field_values(grid: TokenGrid, queries: NDArray[np.float32]) -> tuple[Values, Values]:
    """Returns the values of difftrack's sampled field: a weighted sum of four tokens, each any token of the grid.

    Each of the four tokens has any column and any row. So x and y are independent, and each is a sum of four products.
    """
    samples = field_samples(grid, queries)
    across, down = samples.weights.transpose(1, 0, 2)
    weights = (down[:, :, None] * across[:, None]).reshape(-1, 4).astype(np.float32)
    return _sums(weights, grid.cols, grid.stride[0]), _sums(weights, grid.rows, grid.stride[1])


def _list_values(values: NDArray[np.float32]) -> Values:
    return Values(values, values[:, [0, -1]].astype(np.float64), np.zeros(len(values), dtype=np.bool_))


def _sums(weights: NDArray[np.float32], tokens: int, stride: float) -> Values:
    positions = (np.arange(tokens) * stride).astype(np.float32)
    total = weights.sum(axis=1, dtype=np.float64)
    many = tokens ** np.count_nonzero(weights, axis=1).astype(np.float64) > MOST_VALUES
    found = [np.zeros(0) if skip else _sums_of(w[w > 0], positions) for w, skip in zip(weights, many, strict=True)]
    values = np.full((len(weights), max(map(len, found), default=0)), np.nan, dtype=np.float32)
    for row, one in zip(values, found, strict=True):
        row[: len(one)] = one
    return Values(values, np.stack([np.zeros(len(total)), total * positions[-1]], axis=1), many)


def _sums_of(weights: NDArray[np.float32], positions: NDArray[np.float32]) -> NDArray[np.float64]:
    sums = np.zeros(1)
    for weight in weights:
        sums = np.unique(sums[:, None] + weight * positions)
    return sums
