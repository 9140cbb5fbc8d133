"""The arithmetic of accuracies: which pairs count, and how many of them are close enough (PROTOCOL section 4).

Arrays: N points, T frames. Positions are (x, y) raster pixels. A pair is one point in one frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vcorr.errors import UsageError
from vcorr.geometry import TokenGrid
from vcorr.metrics.variants import check_variant

Floats = NDArray[np.floating[Any]]


class Share(NamedTuple):
    """The share of pairs that hit, in [0, 1] (NaN when there is no pair), and how many pairs it is a share of."""

    value: float
    pairs: int


def scored_pairs(
    reference: Floats, visible: NDArray[np.bool_], grid: TokenGrid, *, moving: bool = False
) -> NDArray[np.bool_]:
    """The pairs that count, (N, T) bool.

    A point counts where it is visible, if it is visible in the query frame (frame 0); the query frame itself does not
    count, since its answer is given.

    Args:
        reference: (N, T, 2) pixels; may be anything, NaN included, where `visible` is False.
        visible: (N, T) bool, True where the point can be seen.
        grid: gives the stride.
        moving: only pairs whose reference is more than one stride, hypot(dx/sx, dy/sy) > 1, from where it was in the
            query frame.
    """
    pairs = visible & visible[:, :1]
    pairs[:, :1] = False
    if moving:
        point, frame = np.nonzero(pairs)
        offsets = reference[point, frame].astype(np.float64) - reference[point, 0]
        pairs[point, frame] = _lengths(grid.in_strides(offsets)) > 1
    return pairs


def accuracy(
    tracks: Floats,
    reference: Floats,
    visible: NDArray[np.bool_],
    grid: TokenGrid,
    *,
    variant: str = "corrected",
    threshold: float | None = None,
    moving: bool = False,
) -> Share:
    """Matching accuracy: the share of pairs whose track is close to the reference, pooled in the clip.

    Source: DiffTrack (arXiv 2506.17220), matching accuracy, whose 8 px at 480x720 are half a stride; PROTOCOL
    section 4.

    Args:
        tracks: (N, T, 2) pixels. A position that is NaN is a miss.
        reference: (N, T, 2) pixels, finite where visible.
        visible: (N, T) bool, True where the point can be seen.
        grid: the grid the tracks were read from.
        variant: "corrected".
        threshold: None for half a stride, hypot(dx/sx, dy/sy) < 1/2; else pixels, hypot(dx, dy) < threshold. Strict.
        moving: only pairs whose reference moved more than one stride since the query frame.

    Raises:
        UsageError: shapes, dtypes or numbers that cannot be scored, or an unknown variant.
    """
    check_variant(variant, "matching_accuracy")
    check_tracks(tracks, reference, visible)
    if threshold is not None and not (np.isfinite(threshold) and threshold > 0):
        raise UsageError(
            f"threshold: expected a positive number of pixels or None for half a stride, got {threshold!r}."
        )
    pairs = scored_pairs(reference, visible, grid, moving=moving)
    offsets = tracks[pairs].astype(np.float64) - reference[pairs]
    if threshold is None:
        return shares_within(grid.in_strides(offsets), [0.5])[0]
    return shares_within(offsets, [threshold])[0]


def shares_within(offsets: Floats, thresholds: Sequence[float]) -> list[Share]:
    """For each threshold the share of `offsets`, (P, 2), that are strictly shorter; NaN when P is 0."""
    if not len(offsets):
        return [Share(float("nan"), 0) for _ in thresholds]
    hits = _lengths(offsets)[:, None] < np.asarray(thresholds, dtype=np.float64)  # NaN compares false: a miss
    return [Share(float(value), len(offsets)) for value in hits.mean(axis=0)]


def check_tracks(tracks: Floats, reference: Floats, visible: NDArray[np.bool_]) -> None:
    """Checks that tracks, reference and visibility belong together.

    Raises:
        UsageError: the message names the argument.
    """
    if reference.ndim != 3 or reference.shape[-1] != 2:
        raise UsageError(f"reference: expected shape (N, T, 2), got {reference.shape}.")
    if tracks.shape != reference.shape:
        raise UsageError(f"tracks: expected the reference's shape {reference.shape}, got {tracks.shape}.")
    if visible.shape != reference.shape[:2] or visible.dtype != np.bool_:
        raise UsageError(
            f"visible: expected bool of shape {reference.shape[:2]}, got {visible.dtype} of shape {visible.shape}."
        )
    if not np.isfinite(reference[visible]).all():
        raise UsageError("reference: NaN or infinite at a visible point.")


def _lengths(offsets: Floats) -> NDArray[np.float64]:
    return np.hypot(offsets[..., 0], offsets[..., 1], dtype=np.float64)
