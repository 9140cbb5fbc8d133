"""The matching accuracy of one clip (docs/protocol.md). `vcorr.metrics.pairs` says which pairs count."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid, check_grid, is_positive
from vcorr.contract.variants import Variant
from vcorr.metrics.hit_distances import Floats
from vcorr.metrics.pairs import Pairs, Share, check_reference

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
    """Returns the matching accuracy: the share of all pairs in the clip whose track is close to the reference.

    Source: DiffTrack (arXiv 2506.17220), matching accuracy, whose 8 px at 480x720 are half a stride; docs/protocol.md.

    Args:
        tracks: (N, T, 2) pixels, the predicted tracks. A position that is NaN is a miss.
        reference: (N, T, 2) pixels, the reference tracks, finite where visible.
        visible: (N, T) bool, True where the point can be seen.
        grid: the grid that the tracks were read from.
        query_frame: video frame of all queries, or (N,) the frame of each.
        variant: "corrected": points visible in the query frame, in all other frames. "difftrack": all visible points in
            all frames. Or `Switches` (`pooling`).
        threshold: pixels, a hit if hypot(dx, dy) < threshold. None for half a stride, hypot(dx/sx, dy/sy) < 1/2.
        moving: count only pairs whose reference moved by more than one stride since the query frame, whatever the
            threshold. (The columns `pck_*_moving` have their own limit, 16 px of a 256x256 frame.)

    Raises:
        UsageError: shapes, dtypes or numbers cannot be scored, or the variant is unknown.
    """
    check_grid(grid)
    check_reference(reference, visible)
    if threshold is not None and not is_positive(threshold):
        raise UsageError(
            f"threshold: expected a positive number of pixels or None for half a stride, got {threshold!r}."
        )
    pairs = Pairs.of(reference, visible, grid, variant, query_frame)
    unit = np.array(grid.stride if threshold is None else (1.0, 1.0))
    squares = pairs.square_distances(tracks, unit)
    return pairs.shares(squares, [HALF_A_STRIDE if threshold is None else threshold], moving=moving)[0]
