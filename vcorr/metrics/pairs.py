"""Which (point, frame) pairs of a clip count, and how far predicted tracks are from the reference there.

Arrays: N points, T frames, P pairs that count. Positions are (x, y) raster pixels. Everything about pairs depends on
the reference alone: a metric that scores many predictions of one clip remembers it (`PairsMemo`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Tracks
from vcorr.contract.variants import Variant, switches_of
from vcorr.metrics.query_frames import query_frames

Floats = NDArray[np.floating[Any]]
_T = TypeVar("_T")


class Share(NamedTuple):
    """The share of pairs that hit, in [0, 1] (NaN when there is no pair), and how many pairs it is a share of."""

    value: float
    pairs: int


@dataclass(frozen=True)
class Pairs:
    """The pairs that count, those of moving points first.

    shape: (N, T, 2), what tracks must have. index: (P,) int64 into the N*T points and frames, row-major. xy: (P, 2)
    float64 pixels, the reference there. moving: how many of them moved more than one stride since the query frame.
    single: whether distances are rounded to float32, as the published code has them.
    """

    shape: tuple[int, ...]
    index: NDArray[np.int64]
    xy: NDArray[np.float64]
    moving: int
    single: bool = False

    @classmethod
    def of(
        cls,
        reference: Floats,
        visible: NDArray[np.bool_],
        grid: TokenGrid,
        variant: Variant,
        query_frame: ArrayLike = 0,
    ) -> Pairs:
        """The pairs of a reference that `check_reference` accepts; see `scored_pairs`."""
        pairs = scored_pairs(reference, visible, grid, query_frame=query_frame, variant=variant)
        moved = scored_pairs(reference, visible, grid, query_frame=query_frame, variant=variant, moving=True)
        moving, still = np.flatnonzero(moved), np.flatnonzero(pairs & ~moved)
        index = np.concatenate([moving, still])
        single = switches_of(variant).pooling == "everything"
        return cls(reference.shape, index, reference.reshape(-1, 2)[index].astype(np.float64), len(moving), single)

    def squared_distances(self, tracks: Floats, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """(P,) squares of |track - reference| / unit, with unit (2,) pixels in x and in y. NaN where a track is NaN.

        Raises:
            UsageError: tracks and reference differ in shape.
        """
        if tracks.shape != self.shape:
            raise UsageError(f"tracks: expected the reference's shape {self.shape}, got {tracks.shape}.")
        found = tracks.reshape(-1, 2).take(self.index, axis=0)
        if self.single:
            return _published_squares(found, self.xy, unit)
        offsets = found - self.xy
        offsets /= unit
        with np.errstate(over="ignore"):  # too large for a square is too far
            offsets *= offsets
            return offsets[:, 0] + offsets[:, 1]

    def shares(self, squares: NDArray[np.float64], limits: Sequence[float], *, moving: bool) -> list[Share]:
        """For each limit the share of distances strictly below it, over all pairs or over the moving ones."""
        counted = squares[: self.moving] if moving else squares
        if not len(counted):
            return [Share(float("nan"), 0) for _ in limits]
        return [Share(np.count_nonzero(counted < limit * limit) / len(counted), len(counted)) for limit in limits]


def _published_squares(found: Floats, reference: Floats, unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squares of the distances (P, 2) as float32 rounds every operation on the way to them, the root included.

    Source: DiffTrack's published code, utils/evaluation.py, 192-200. A square of 24 bits is exact in float64, so that
    comparing squares is comparing those distances.
    """
    with np.errstate(over="ignore"):
        offsets = (found.astype(np.float32) - reference.astype(np.float32)) / unit.astype(np.float32)
        squares = offsets * offsets
        return np.square(np.sqrt(squares[:, 0] + squares[:, 1]).astype(np.float64))


class ReferenceMemo(Generic[_T]):
    """What `make` makes of the reference asked for last, kept for as long as it lives.

    The reference's arrays are not to change meanwhile.
    """

    def __init__(self, make: Callable[[Tracks, TokenGrid], _T]) -> None:
        self._make = make
        self._last: tuple[weakref.ref[Tracks] | None, dict[TokenGrid, _T]] = (None, {})

    def get(self, reference: Tracks, grid: TokenGrid) -> _T:
        """What is made of `reference` on `grid`."""
        known, made = self._last
        if known is None or known() is not reference:
            made = {}
            self._last = (weakref.ref(reference), made)  # one assignment: threads may share a metric
        if grid not in made:
            made[grid] = self._make(reference, grid)
        return made[grid]


class PairsMemo:
    """`Pairs` of the reference asked for last; see `ReferenceMemo`."""

    def __init__(self, variant: Variant) -> None:
        switches = switches_of(variant)
        self._memo = ReferenceMemo(
            lambda tracks, grid: Pairs.of(tracks.xy, tracks.visible, grid, switches, tracks.asked_in)
        )

    def pairs(self, reference: Tracks, grid: TokenGrid) -> Pairs:
        """The pairs of `reference` that count on `grid`."""
        return self._memo.get(reference, grid)


def scored_pairs(
    reference: Floats,
    visible: NDArray[np.bool_],
    grid: TokenGrid,
    *,
    query_frame: ArrayLike = 0,
    variant: Variant = "corrected",
    moving: bool = False,
) -> NDArray[np.bool_]:
    """The pairs that count, (N, T) bool.

    corrected: a point counts where it is visible, if it is visible in its query frame; the query frame itself does not
    count, since its answer is given. difftrack: every visible point in every frame.

    Args:
        reference: (N, T, 2) pixels; may be anything, NaN included, where `visible` is False.
        visible: (N, T) bool, True where the point can be seen.
        grid: gives the stride.
        query_frame: the video frame of the queries, or (N,) of each.
        variant: "corrected", "difftrack" or `Switches` (`pooling`).
        moving: only pairs whose reference is more than one stride, hypot(dx/sx, dy/sy) > 1, from where it was in the
            query frame.
    """
    pairs, points = visible.copy(), np.arange(len(visible))
    asked_in = query_frames(query_frame, *visible.shape)
    if switches_of(variant).pooling == "queries":
        pairs &= visible[points, asked_in][:, None]
        pairs[points, asked_in] = False
    if moving:
        point, frame = np.nonzero(pairs)
        with np.errstate(invalid="ignore"):  # a point hidden in the query frame may have any position there
            offsets = grid.in_strides(reference[point, frame].astype(np.float64) - reference[point, asked_in[point]])
        pairs[point, frame] = np.hypot(offsets[:, 0], offsets[:, 1]) > 1
    return pairs


def check_reference(reference: Floats, visible: NDArray[np.bool_]) -> None:
    """Checks that reference and visibility belong together.

    Raises:
        UsageError: the message names the argument.
    """
    if reference.ndim != 3 or reference.shape[-1] != 2:
        raise UsageError(f"reference: expected shape (N, T, 2), got {reference.shape}.")
    if visible.shape != reference.shape[:2] or visible.dtype != np.bool_:
        raise UsageError(
            f"visible: expected bool of shape {reference.shape[:2]}, got {visible.dtype} of shape {visible.shape}."
        )
    if not np.isfinite(reference[visible]).all():
        raise UsageError("reference: NaN or infinite at a visible point.")
