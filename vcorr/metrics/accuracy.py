"""Matching accuracy of one clip (docs/protocol.md). Which pairs count is in `vcorr.metrics.pairs`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid, check_grid, is_positive
from vcorr.contract.variants import Variant
from vcorr.metrics.pairs import Floats, Pairs, Share, check_reference

HALF_A_STRIDE = 0.5


def accuracy(
    tracks: Floats,
    reference: Floats,
    visible: NDArray[np.bool_],
    grid: TokenGrid,
    *,
    query_frame: ArrayLike = 0,
    variant: Variant = "corrected",
    threshold: float | None = None,
    moving: bool = False,
) -> Share:
    """Matching accuracy: the share of pairs whose track is close to the reference, pooled in the clip.

    Source: DiffTrack (arXiv 2506.17220), matching accuracy, whose 8 px at 480x720 are half a stride; docs/protocol.md.

    Args:
        tracks: (N, T, 2) pixels. A position that is NaN is a miss.
        reference: (N, T, 2) pixels, finite where visible.
        visible: (N, T) bool, True where the point can be seen.
        grid: the grid the tracks were read from.
        query_frame: the video frame of the queries, or (N,) of each.
        variant: "corrected": points visible in the query frame, without that frame. "difftrack": all visible points of
            all frames. Or `Switches` (`pooling`).
        threshold: None for half a stride, hypot(dx/sx, dy/sy) < 1/2; else pixels, hypot(dx, dy) < threshold. Strict.
        moving: only pairs whose reference moved more than one stride since the query frame.

    Raises:
        UsageError: shapes, dtypes or numbers that cannot be scored, or an unknown variant.
    """
    check_grid(grid)
    check_reference(reference, visible)
    if threshold is not None and not is_positive(threshold):
        raise UsageError(
            f"threshold: expected a positive number of pixels or None for half a stride, got {threshold!r}."
        )
    pairs = Pairs.of(reference, visible, grid, variant, query_frame)
    unit = np.array(grid.stride if threshold is None else (1.0, 1.0))
    squares = pairs.squared_distances(tracks, unit)
    return pairs.shares(squares, [HALF_A_STRIDE if threshold is None else threshold], moving=moving)[0]
