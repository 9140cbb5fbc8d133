"""Matching accuracy by kind of pair (docs/statistics.md), which a mean over all pairs hides.

Shapes: N points, T frames, P pairs that count. A dimension gives every pair a number; its edges divide the pairs into
strata. A stratum "a-b" holds numbers above a and up to b; the first stratum includes its lower end. "b+" holds numbers
above the last edge. A pair whose number is not known is in no stratum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import MetricBase
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.hit_rules import HitRule
from vcorr.contract.option_notes import option
from vcorr.contract.records import UNKNOWN_LAYER, Score, Tracks
from vcorr.contract.variants import Switches, Variant, switches_of
from vcorr.metrics.accuracy import HALF_A_STRIDE
from vcorr.metrics.hit_distances import Floats
from vcorr.metrics.pairs import Pairs, ReferenceMemo

METRIC = "matching_accuracy"
NOWHERE = -1
PairChoice = Literal["all", "moving"]
_SUFFIX: dict[PairChoice, str] = {"all": "", "moving": "_moving"}


@dataclass(frozen=True)
class StrataConfig:
    """Options of `strata`: the upper edges of the strata."""

    displacement: tuple[float, ...] = option(
        (1.0, 2.0, 4.0, 8.0),
        "Upper edges of the strata by the distance of the reference from its position in the query frame.",
        unit="token strides",
    )
    frames: tuple[float, ...] = option(
        (4.0, 8.0, 16.0, 32.0),
        "Upper edges of the strata by the distance from the query frame.",
        unit="frames",
    )
    near: int = option(
        2,
        'Largest distance at which a pair is "near" a frame that hides the point.',
        unit="frames",
        least=1,
    )
    boundary: tuple[float, ...] = option(
        (0.5, 1.0, 2.0),
        "Upper edges of the strata by the distance of the query from the nearest boundary between layers.",
        unit="token strides",
    )
    pairs: tuple[PairChoice, ...] = option(
        ("all",),
        "Which pairs are divided: all, in columns matching_accuracy@…; the pairs of moving points, in columns "
        "matching_accuracy_moving@…; or both.",
        later=True,
    )

    def __post_init__(self) -> None:
        for name in ("displacement", "frames", "boundary"):
            check_edges("strata", name, getattr(self, name))
        if self.near < 1:
            raise UsageError(f"metric 'strata': near must be at least 1 frame, got {self.near!r}.")
        known = set(self.pairs) <= set(_SUFFIX)
        if not self.pairs or not known or len(set(self.pairs)) < len(self.pairs):
            raise UsageError(f"metric 'strata': pairs must be all, moving or both, each once, got {self.pairs!r}.")


@dataclass(frozen=True)
class Dimension:
    """A number by which pairs are divided into strata.

    meaning: the number in words. labels: names of the strata. edges: their upper edges. of: a function of reference and
    grid that returns the number of every pair, (N, T), NaN where it is not known.
    """

    name: str
    meaning: str
    labels: tuple[str, ...]
    edges: tuple[float, ...]
    of: Callable[[Tracks, TokenGrid], NDArray[np.float64]]

    def find_strata(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Returns the index of the stratum of each value; `NOWHERE` for NaN."""
        return np.where(np.isnan(values), NOWHERE, np.searchsorted(self.edges, values, side="left"))


@dataclass(frozen=True)
class _PairStrata:
    """The pairs that count and, per dimension, the stratum of each pair, (P,)."""

    pairs: Pairs
    strata: tuple[NDArray[np.int64], ...]

    def number_of(self, choice: PairChoice) -> int:
        """Returns how many pairs a choice has, counted from the first: pairs of moving points come first."""
        return self.pairs.moving if choice == "moving" else len(self.pairs.index)


class Strata(MetricBase):
    """`matching_accuracy@DIMENSION:STRATUM`: the matching accuracy of the pairs in one stratum.

    Dimensions: displacement, frames, reappeared (was the point hidden since the query frame?), occlusion (is a frame
    that hides it near?), boundary and layer. The last two need `Tracks.boundary` and `Tracks.layer`. Pairs,
    threshold and variants are as in `matching_accuracy`. With the option `pairs`, the pairs of moving points have
    columns `matching_accuracy_moving@DIMENSION:STRATUM`. Values are in [0, 1]; n is the number of pairs. A clip without
    such a pair has NaN and n = 0. The primary column holds the pairs whose point was never hidden: nearly all pairs.
    """

    higher_is_better = True
    lower, upper = 0.0, 1.0

    def __init__(self, config: StrataConfig | None = None, *, variant: Variant = "corrected") -> None:
        self._config = config or StrataConfig()
        self._switches = switches_of(variant)
        self.dimensions = _dimensions(self._config)
        self.columns = tuple(
            f"{METRIC}{_SUFFIX[choice]}@{dim.name}:{label}"
            for choice in self._config.pairs
            for dim in self.dimensions
            for label in dim.labels
        )
        self.primary = f"{METRIC}{_SUFFIX[self._config.pairs[0]]}@reappeared:no"
        self._memo = ReferenceMemo(self._place_pairs)

    def under(self, variant: Switches) -> Strata:
        """Returns the metric for another variant."""
        return Strata(self._config, variant=variant)

    def score(self, tracks: Floats, reference: Tracks, grid: TokenGrid) -> dict[str, Score]:
        """Scores tracks (N, T, 2) in pixels against `reference`.

        Raises:
            UsageError: tracks and reference differ in shape.
        """
        placed = self._memo.get(reference, grid)
        hits = placed.pairs.square_distances(tracks, np.array(grid.stride)) < HALF_A_STRIDE**2
        scores: list[Score] = []
        for choice in self._config.pairs:
            count = placed.number_of(choice)
            for dimension, strata in zip(self.dimensions, placed.strata, strict=True):
                scores += share_by_stratum(hits[:count], strata[:count], len(dimension.labels))
        return dict(zip(self.columns, scores, strict=True))

    def hit_rules(self, reference: Tracks, grid: TokenGrid) -> Mapping[str, HitRule]:
        """Returns the rule of each column, for its ceiling."""
        placed = self._memo.get(reference, grid)
        whole = placed.pairs.rule(HALF_A_STRIDE, np.array(grid.stride), moving=False)
        rules: list[HitRule] = []
        for choice in self._config.pairs:
            index = placed.pairs.index[: placed.number_of(choice)]
            for dimension, strata in zip(self.dimensions, placed.strata, strict=True):
                for stratum in range(len(dimension.labels)):
                    counted = np.zeros_like(whole.counted)
                    counted.flat[index[strata[: len(index)] == stratum]] = True
                    rules.append(replace(whole, counted=counted))
        return dict(zip(self.columns, rules, strict=True))

    def _place_pairs(self, reference: Tracks, grid: TokenGrid) -> _PairStrata:
        pairs = Pairs.of(reference.xy, reference.visible, grid, self._switches, reference.asked_in)
        values = (dimension.of(reference, grid).ravel()[pairs.index] for dimension in self.dimensions)
        strata = (dimension.find_strata(value) for dimension, value in zip(self.dimensions, values, strict=True))
        return _PairStrata(pairs, tuple(strata))


def _dimensions(config: StrataConfig) -> tuple[Dimension, ...]:
    return (
        Dimension(
            "displacement",
            "token strides between the reference and its position in the query frame",
            label_strata(config.displacement),
            config.displacement,
            measure_displacement,
        ),
        Dimension(
            "frames", "frames from the query frame", label_strata(config.frames), config.frames, count_frames_away
        ),
        Dimension(
            "reappeared",
            "whether the point is hidden, or out of the frame, between the query frame and this one",
            ("no", "yes"),
            (0.5,),
            _hidden_before,
        ),
        Dimension(
            "occlusion",
            f"whether a frame that hides it is within {config.near} frames, before or after",
            ("near", "far"),
            (config.near,),
            _to_hidden,
        ),
        Dimension(
            "boundary",
            "token strides from the query to the nearest boundary between layers",
            label_strata(config.boundary),
            config.boundary,
            _to_boundary,
        ),
        Dimension(
            "layer",
            "whether the query is on the background or on something in front of it, where the data know the layer",
            ("background", "foreground"),
            (0.5,),
            _layer,
        ),
    )


def check_edges(metric: str, name: str, edges: Sequence[float]) -> None:
    """Checks the edges of strata.

    Raises:
        UsageError: they are no rising positive numbers. The message names the metric and its option `name`.
    """
    rising = all(a < b for a, b in pairwise(edges))
    if not edges or not rising or not all(math.isfinite(edge) and edge > 0 for edge in edges):
        raise UsageError(f"metric {metric!r}: {name} must be rising positive numbers, got {edges!r}.")


def label_strata(edges: Sequence[float]) -> tuple[str, ...]:
    """Returns the names of the strata between edges, such as "0-1", "1-2" and "2+"."""
    lower = (0.0, *edges[:-1])
    return (*(f"{a:g}-{b:g}" for a, b in zip(lower, edges, strict=True)), f"{edges[-1]:g}+")


def measure_displacement(reference: Tracks, grid: TokenGrid) -> NDArray[np.float64]:
    """Returns the distance of the reference from its position in the query frame, in token strides."""
    asked = reference.xy[np.arange(len(reference.xy)), reference.asked_in]
    with np.errstate(invalid="ignore"):  # hidden points may have any position
        moved = grid.in_strides(reference.xy.astype(np.float64) - asked[:, None])
        return np.asarray(np.hypot(moved[..., 0], moved[..., 1]))


def count_frames_away(reference: Tracks, grid: TokenGrid) -> NDArray[np.float64]:
    """Returns the number of frames between a frame and the query frame, before or after it."""
    away = np.abs(np.arange(reference.visible.shape[1]) - reference.asked_in[:, None])
    return np.asarray(away, dtype=np.float64)


def _hidden_before(reference: Tracks, grid: TokenGrid) -> NDArray[np.float64]:
    """Returns 1 where the point was hidden, or out of the frame, between a frame and the query frame, else 0."""
    hidden = np.cumsum(~reference.visible, axis=1)
    at_query = hidden[np.arange(len(hidden)), reference.asked_in][:, None]
    later = np.arange(hidden.shape[1]) >= reference.asked_in[:, None]
    first = np.where(later, reference.asked_in[:, None], np.arange(hidden.shape[1]))
    at_first = ~np.take_along_axis(reference.visible, first, axis=1)
    return np.asarray((hidden != at_query) | at_first, dtype=np.float64)


def _to_hidden(reference: Tracks, grid: TokenGrid) -> NDArray[np.float64]:
    """Returns the number of frames to the nearest frame that hides the point, before or after; infinite without one."""
    time = np.arange(reference.visible.shape[1], dtype=np.float64)
    last = np.maximum.accumulate(np.where(reference.visible, -np.inf, time), axis=1)
    following = np.minimum.accumulate(np.where(reference.visible, np.inf, time)[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(np.minimum(time - last, following - time))


def _to_boundary(reference: Tracks, grid: TokenGrid) -> NDArray[np.float64]:
    """Returns the distance from the query to the nearest boundary between layers in the query frame.

    The unit is the geometric mean of the token strides in x and in y.
    """
    unknown = np.full(len(reference.visible), np.nan)
    distance = unknown if reference.boundary is None else reference.boundary / math.sqrt(math.prod(grid.stride))
    return np.broadcast_to(distance[:, None].astype(np.float64), reference.visible.shape)


def _layer(reference: Tracks, grid: TokenGrid) -> NDArray[np.float64]:
    """Returns the layer of the query, 0 for the background; NaN where it is not known."""
    unknown = np.full(len(reference.visible), np.nan)
    layer = unknown if reference.layer is None else np.where(reference.layer == UNKNOWN_LAYER, np.nan, reference.layer)
    return np.broadcast_to(layer[:, None], reference.visible.shape)


def share_by_stratum(hits: NDArray[np.bool_], strata: NDArray[np.int64], count: int) -> list[Score]:
    """Returns the share of hits of each stratum. hits: (P,). strata: (P,), the stratum of each pair or `NOWHERE`."""
    known = strata != NOWHERE
    pairs = np.bincount(strata[known], minlength=count)
    right = np.bincount(strata[known & hits], minlength=count)
    return [Score(float(r / n) if n else math.nan, int(n)) for r, n in zip(right, pairs, strict=True)]
