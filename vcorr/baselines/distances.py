"""Squared L2 distances between pixels, exact, and the nearest of equals.

Shape legend: A and B things compared, D values of each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXACT_FLOAT32 = 2**24
"""Whole numbers below this are exact in float32, and so is any sum of them that stays below it."""


def around_zero(pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
    """Pixels (..., D) less 128, in the smallest float type in which `squared_distances` of them are exact.

    No term and no partial sum of |a|² - 2 a·b + |b|² exceeds 4 · 128² · D then.
    """
    exact = np.dtype(np.float32 if 4 * 128**2 * pixels.shape[-1] < _EXACT_FLOAT32 else np.float64)
    moved: NDArray[np.floating[Any]] = pixels.astype(exact) - 128
    return moved


def squared_distances(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """(A, D) and (B, D) to (A, B): |a - b|² = |a|² - 2 a·b + |b|²."""
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None]
    return np.asarray(squares - 2 * (a @ b.T))


def nearest(cost: NDArray[np.floating[Any]], distance: NDArray[np.float64]) -> NDArray[np.int64]:
    """(A, B) to (A,): where the cost is least and, among equal costs, the distance."""
    least = cost.min(axis=1, keepdims=True)
    return np.asarray(np.where(cost == least, distance, np.inf).argmin(axis=1))
