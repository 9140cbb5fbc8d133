"""The regular grid of query points in frame 0 (docs/datasets.md)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError

MARGIN = 1 / 64
"""Distance of the outermost query points from the border, as a share of the video's width."""


def query_grid(side: int, height: int, width: int) -> NDArray[np.float32]:
    """Returns a regular grid of points (side², 2) in pixels (x, y), row by row.

    The outermost points lie `MARGIN` of the width from every border. A grid of one point is the centre.
    """
    if side == 1:
        return np.array([[width / 2, height / 2]], dtype=np.float32)
    margin = width * MARGIN
    y, x = np.meshgrid(
        np.linspace(margin, height - margin, side), np.linspace(margin, width - margin, side), indexing="ij"
    )
    return np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)


def check_grid(side: int, height: int, width: int) -> None:
    """Checks the number of points along one side of a grid, for frames of this size; raises UsageError."""
    if not isinstance(side, int | np.integer) or side < 1:
        raise UsageError(f"A grid has at least 1 point along its side, a whole number, got {side}.")
    most = max(height, width)
    if side > most:
        raise UsageError(f"A grid has at most {most} points along its side in frames of {width}x{height}, got {side}.")
