"""Computes exact squared L2 distances between pixels, and finds the nearest, with a rule for ties.

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


def nearest(cost: NDArray[np.floating[Any]], distance: NDArray[np.float64]) -> NDArray[np.int64]:
    """Returns the index b with the least cost for each a, (A,); among equal costs, with the least distance."""
    least = cost.min(axis=1, keepdims=True)
    return np.asarray(np.where(cost == least, distance, np.inf).argmin(axis=1))
