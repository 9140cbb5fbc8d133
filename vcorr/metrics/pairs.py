"""Selects the (point, frame) pairs of a clip that count, and measures distances of predicted tracks in these pairs.

Shapes: N points, T frames, P pairs that count. Positions are (x, y) raster pixels. Pairs depend on the reference alone,
so a metric that scores many predictions of one clip keeps them (`PairsMemo`).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.hit_rules import HitRule
from vcorr.contract.records import Tracks
from vcorr.contract.variants import Variant, switches_of
from vcorr.metrics.frame_units import one_stride
from vcorr.metrics.hit_distances import Floats, add_squares, axis_squares
from vcorr.metrics.query_frames import query_frames

Motion: TypeAlias = Callable[[TokenGrid], NDArray[np.float64]]
_T = TypeVar("_T")


class Share(NamedTuple):
    """The share of hits among pairs, in [0, 1] (NaN without pairs), and the number of these pairs."""

    value: float
    pairs: int


@dataclass(frozen=True)
class Pairs:
    """The pairs that count, pairs of moving points first.

    shape: (N, T, 2), the shape that predicted tracks must have.
    index: (P,) int64, row-major indices into the N*T pairs of a point and a frame.
    xy: (P, 2) float64 pixels, the reference positions.
    moving: number of pairs whose reference has moved since the query frame; `of` says how far.
    single: whether distances are rounded to float32, as in the published code.
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
        motion: Motion = one_stride,
    ) -> Pairs:
        """Returns the pairs of a reference that `check_reference` accepts; see `select_pairs`."""
        pairs = countable_pairs(visible, query_frame, variant)
        moved = select_moving(pairs, reference, query_frame, motion(grid))
        moving, still = np.flatnonzero(moved), np.flatnonzero(pairs & ~moved)
        index = np.concatenate([moving, still])
        single = switches_of(variant).pooling == "everything"
        return cls(reference.shape, index, reference.reshape(-1, 2)[index].astype(np.float64), len(moving), single)

    def square_distances(self, tracks: Floats, unit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the squares of |track - reference| / unit, (P,); NaN where a track is NaN.

        unit: (2,), the unit of distance in pixels, in x and in y.

        Raises:
            UsageError: tracks and reference differ in shape.
        """
        if tracks.shape != self.shape:
            raise UsageError(f"tracks: expected the reference's shape {self.shape}, got {tracks.shape}.")
        found = tracks.reshape(-1, 2).take(self.index, axis=0)
        x, y = (
            axis_squares(found[:, axis], self.xy[:, axis], float(unit[axis]), single=self.single) for axis in range(2)
        )
        return add_squares(x, y, single=self.single)

    def rule(self, limit: float, unit: Floats, *, moving: bool) -> HitRule:
        """Returns the rule of the column that `shares` computes from `square_distances`; arguments as there."""
        counted = np.zeros(self.shape[:2], dtype=np.bool_)
        counted.flat[self.index[: self.moving] if moving else self.index] = True
        return HitRule(counted, limit, (float(unit[0]), float(unit[1])), self.single)

    def shares(self, squares: NDArray[np.float64], limits: Sequence[float], *, moving: bool) -> list[Share]:
        """Returns the share of distances strictly below each limit, among all pairs or among moving pairs."""
        counted = squares[: self.moving] if moving else squares
        if not len(counted):
            return [Share(float("nan"), 0) for _ in limits]
        return [Share(np.count_nonzero(counted < limit * limit) / len(counted), len(counted)) for limit in limits]


class ReferenceMemo(Generic[_T]):
    """Keeps the results of `make` for the last reference, for as long as the reference exists.

    The arrays of the reference must not change in the meantime.
    """

    def __init__(self, make: Callable[[Tracks, TokenGrid], _T]) -> None:
        self._make = make
        self._last: tuple[weakref.ref[Tracks] | None, dict[TokenGrid, _T]] = (None, {})

    def get(self, reference: Tracks, grid: TokenGrid) -> _T:
        """Returns the result of `make` for `reference` on `grid`, computed at the first call."""
        known, made = self._last
        if known is None or known() is not reference:
            made = {}
            self._last = (weakref.ref(reference), made)  # one assignment, because threads may share a metric
        if grid not in made:
            made[grid] = self._make(reference, grid)
        return made[grid]


class PairsMemo:
    """Keeps the `Pairs` of the last reference; see `ReferenceMemo`. motion: see `select_pairs`."""

    def __init__(self, variant: Variant, motion: Motion = one_stride) -> None:
        switches = switches_of(variant)
        self._memo = ReferenceMemo(
            lambda tracks, grid: Pairs.of(tracks.xy, tracks.visible, grid, switches, tracks.asked_in, motion)
        )

    def pairs(self, reference: Tracks, grid: TokenGrid) -> Pairs:
        """Returns the pairs of `reference` that count on `grid`."""
        return self._memo.get(reference, grid)


def countable_pairs(
    visible: NDArray[np.bool_], query_frame: ArrayLike = 0, variant: Variant = "corrected"
) -> NDArray[np.bool_]:
    """Returns which pairs count, moving or not, (N, T) bool; see `select_pairs`."""
    pairs, points = visible.copy(), np.arange(len(visible))
    asked_in = query_frames(query_frame, *visible.shape)
    if switches_of(variant).pooling == "queries":
        pairs &= visible[points, asked_in][:, None]
        pairs[points, asked_in] = False
    return pairs


def select_moving(
    pairs: NDArray[np.bool_], reference: Floats, query_frame: ArrayLike, motion: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Returns which of `pairs`, (N, T) bool, have a reference that has moved; see `select_pairs`.

    motion: (2,) pixels in x and in y, hypot(dx/mx, dy/my) > 1.
    """
    asked_in = query_frames(query_frame, *pairs.shape)
    moving = pairs.copy()
    point, frame = np.nonzero(pairs)
    with np.errstate(invalid="ignore"):  # a point hidden in the query frame may have any position there
        offsets = (reference[point, frame].astype(np.float64) - reference[point, asked_in[point]]) / motion
    moving[point, frame] = np.hypot(offsets[:, 0], offsets[:, 1]) > 1
    return moving


def select_pairs(
    reference: Floats,
    visible: NDArray[np.bool_],
    grid: TokenGrid,
    *,
    query_frame: ArrayLike = 0,
    variant: Variant = "corrected",
    moving: bool = False,
    motion: Motion = one_stride,
) -> NDArray[np.bool_]:
    """Returns which pairs count, (N, T) bool.

    corrected: a point that is visible in its query frame counts in all other frames in which it is visible. The query
    frame does not count, since the position there is given. difftrack: every visible point counts in every frame.

    Args:
        reference: (N, T, 2) pixels; any values, NaN included, where `visible` is False.
        visible: (N, T) bool, True where the point can be seen.
        grid: says the stride and the size of the frame.
        query_frame: video frame of all queries, or (N,) the frame of each.
        variant: "corrected", "difftrack" or `Switches` (`pooling`).
        moving: only pairs whose reference is away from its position in the query frame by more than `motion`.
        motion: a function of the grid that returns (mx, my) pixels: a pair moves if hypot(dx/mx, dy/my) > 1. By default
            one token stride; `pck_motion` for metrics in pixels.
    """
    pairs = countable_pairs(visible, query_frame, variant)
    return select_moving(pairs, reference, query_frame, motion(grid)) if moving else pairs


def check_reference(reference: Floats, visible: NDArray[np.bool_]) -> None:
    """Checks that reference and visibility fit together.

    Raises:
        UsageError: they do not; the message names the argument.
    """
    if reference.ndim != 3 or reference.shape[-1] != 2:
        raise UsageError(f"reference: expected shape (N, T, 2), got {reference.shape}.")
    if visible.shape != reference.shape[:2] or visible.dtype != np.bool_:
        raise UsageError(
            f"visible: expected bool of shape {reference.shape[:2]}, got {visible.dtype} of shape {visible.shape}."
        )
    if not np.isfinite(reference[visible]).all():
        raise UsageError("reference: NaN or infinite at a visible point.")
