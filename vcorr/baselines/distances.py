"""Computes squared L2 distances and correlations of pixels, and finds the nearest, with a rule for ties.

Shapes: A and B items to compare, D values each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXACT_FLOAT32 = 2**24
"""Whole numbers below this are exact in float32, as are their sums that stay below it."""


def around_zero(pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
    """Returns pixels (..., D) minus 128, in the smallest float type in which their `square_distances` are exact.

    No term and no partial sum of |a|² - 2 a·b + |b|² then exceeds 4 · 128² · D.
    """
    exact = np.dtype(np.float32 if 4 * 128**2 * pixels.shape[-1] < _EXACT_FLOAT32 else np.float64)
    moved: NDArray[np.floating[Any]] = pixels.astype(exact) - 128
    return moved


def square_distances(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Returns |a - b|² = |a|² - 2 a·b + |b|², (A, B), for a (A, D) and b (B, D)."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None]
    return np.asarray(squares - 2 * (a @ b.T))


def correlations(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Returns the correlation of each a with each b, (A, B), for a (A, D) and b (B, D) from `around_zero`.

    D Σab - Σa Σb and the two variances are whole numbers, and exact. Only their quotient is rounded. It is 0 where one
    of the two has no variance.
    """
    (sums_a, spread_a), (sums_b, spread_b) = _spread(a), _spread(b)
    found = (a @ b.T).astype(np.float64)
    found *= a.shape[1]
    found -= sums_a[:, None] * sums_b[None]
    found *= spread_a[:, None]
    found *= spread_b[None]
    return found


def _spread(items: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the sum of each item, and 1/sqrt(D Σx² - (Σx)²), or 0 for an item without variance."""
    sums = items.sum(1).astype(np.float64)
    squares = np.einsum("ad,ad->a", items, items).astype(np.float64)
    variance = items.shape[1] * squares - sums**2
    return sums, np.where(variance > 0, 1 / np.sqrt(np.where(variance > 0, variance, 1)), 0)


def nearest(cost: NDArray[np.floating[Any]], distance: NDArray[np.float64], tie: float = 0.0) -> NDArray[np.int64]:
    """Returns the index b with the least cost for each a, (A,); among equal costs, with the least distance.

    tie: costs of at most this much above the least one are equal to it.
    """
    least = cost.min(axis=1, keepdims=True)
    return np.asarray(np.where(cost <= least + tie, distance, np.inf).argmin(axis=1))
