"""Distances of predicted positions from a reference, one axis at a time, and which of them are hits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


def axis_squares(found: Floats, reference: Floats, unit: float, *, single: bool) -> Floats:
    """Returns the squares of (found - reference) / unit along one axis; the arrays broadcast.

    found: float32 pixels. single: compute in float32 throughout, as the published code does; if not, in float64.
    """
    kind = np.float32 if single else np.float64
    with np.errstate(over="ignore", invalid="ignore"):  # an infinite square is a miss, and so is NaN
        offsets = np.asarray(found.astype(kind, copy=False) - reference.astype(kind, copy=False))
        offsets /= kind(unit)
        offsets *= offsets
    return offsets


def add_squares(x: Floats, y: Floats, *, single: bool) -> NDArray[np.float64]:
    """Returns the squares of distances with these squares along x and along y.

    Source for `single`: DiffTrack's published code, utils/evaluation.py, 192-200, which rounds the root to float32. A
    square of 24 bits is exact in float64, so comparing squares gives the same result as comparing the distances.
    """
    with np.errstate(over="ignore"):
        squares = np.asarray(x + y)
        return np.square(np.sqrt(squares).astype(np.float64)) if single else squares
