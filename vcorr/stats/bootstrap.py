"""Skill and bootstrap intervals over clips (docs/statistics.md).

Clips are the unit: a resample draws as many clips as there are, with replacement, and uses the same for all sites.
Values are (clips, ...); the axes after the first, such as sites, are kept. NaN means "not scored": such a clip is left
out of this site's mean, in the estimate and in every resample, and counted.

A resample is stored as counts, the number of draws of each clip. So the means of all sites are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError

Floats = NDArray[np.float64]

SKILL_MIN_RANGE = 0.02
"""Skill is NaN where ceiling and floor are closer than this: the clips cannot tell good from bad predictions."""
_SITES_AT_ONCE = 512


class Bounded(NamedTuple):
    """Scores with their floors and ceilings, (clips, ...) each and of one shape."""

    score: ArrayLike
    floor: ArrayLike
    ceiling: ArrayLike


@dataclass(frozen=True)
class Interval:
    """An estimate with its percentile interval: arrays with the shape of the values, without its first axis.

    estimate: the statistic over the clips themselves; NaN where no clip counts.
    low, high: ends of the interval. They are NaN where the estimate is NaN, and where fewer than two clips count, since
    one clip says nothing about other clips.
    n: number of clips that count. left_out: number of clips that do not count because they are NaN.
    level: nominal coverage of the interval.
    """

    estimate: Floats
    low: Floats
    high: Floats
    n: NDArray[np.int64]
    left_out: NDArray[np.int64]
    level: float


def skill(score_mean: ArrayLike, floor_mean: ArrayLike, ceiling_mean: ArrayLike) -> Floats:
    """Returns (score - floor) / (ceiling - floor) of means over clips; NaN where ceiling - floor is under 0.02.

    Args:
        score_mean: means of the scores.
        floor_mean: means of the floors.
        ceiling_mean: means of the ceilings; the three broadcast against each other.
    """
    score, floor, ceiling = (np.asarray(value, dtype=np.float64) for value in (score_mean, floor_mean, ceiling_mean))
    span = ceiling - floor
    usable = span >= SKILL_MIN_RANGE  # false for NaN as well
    return np.asarray(np.where(usable, (score - floor) / np.where(usable, span, 1.0), np.nan))


def bootstrap_mean(values: ArrayLike, *, resamples: int = 2000, seed: int = 0, level: float = 0.95) -> Interval:
    """Returns the mean over clips with its bootstrap percentile interval.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        values: (clips, ...), NaN where not scored.
        resamples: number of resamples.
        seed: seed of the resampling; the same seed and number of clips draw the same clips.
        level: nominal coverage of the interval.

    Raises:
        UsageError: there is no clip, a value is infinite, or an option is out of range.
    """
    return _bootstrap([_clips_first("values", values)], np.asarray, resamples, seed, level)


def bootstrap_skill(
    score: ArrayLike,
    floor: ArrayLike,
    ceiling: ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Returns the skill with its bootstrap interval: the skill of means, with floor and ceiling resampled too.

    A clip counts where all three are numbers. Resamples without skill (a range under 0.02) are left out.

    Args:
        score: (clips, ...).
        floor: (clips, ...), of the same shape.
        ceiling: (clips, ...), of the same shape.
        resamples: number of resamples.
        seed: seed of the resampling.
        level: nominal coverage of the interval.

    Raises:
        UsageError: shapes differ, a value is infinite, or an option is out of range.
    """
    arrays = _same_shape({"score": score, "floor": floor, "ceiling": ceiling})
    return _bootstrap(arrays, skill, resamples, seed, level)


def compare_means(a: ArrayLike, b: ArrayLike, *, resamples: int = 2000, seed: int = 0, level: float = 0.95) -> Interval:
    """Returns mean(a) - mean(b) with its interval, paired: both are resampled together, where both are numbers.

    Args:
        a: (clips, ...).
        b: (clips, ...), of the same shape, with the same clips in the same order.
        resamples: number of resamples.
        seed: seed of the resampling.
        level: nominal coverage of the interval.

    Raises:
        UsageError: shapes differ, a value is infinite, or an option is out of range.
    """
    return _bootstrap(_same_shape({"a": a, "b": b}), np.subtract, resamples, seed, level)


def compare_skills(a: Bounded, b: Bounded, *, resamples: int = 2000, seed: int = 0, level: float = 0.95) -> Interval:
    """Returns skill(a) - skill(b) with its interval, paired: on the clips where all six values are numbers.

    Args:
        a: scores, floors and ceilings of one side, (clips, ...) each.
        b: those values of the other side, with the same clips in the same order.
        resamples: number of resamples.
        seed: seed of the resampling.
        level: nominal coverage of the interval.

    Raises:
        UsageError: shapes differ, a value is infinite, or an option is out of range.
    """
    named = {f"{row}.{field}": value for row, x in (("a", a), ("b", b)) for field, value in x._asdict().items()}

    def difference(*means: Floats) -> Floats:
        return skill(*means[:3]) - skill(*means[3:])

    return _bootstrap(_same_shape(named), difference, resamples, seed, level)


def clip_means(arrays: list[Floats]) -> tuple[list[Floats], NDArray[np.int64]]:
    """Returns means over the clips where all `arrays` (clips, ...) are numbers, and the number of these clips."""
    once = np.ones((1, len(arrays[0])))
    means, n = resample_means([array.reshape(len(array), -1) for array in arrays], once)
    shape = arrays[0].shape[1:]
    return [mean.reshape(shape) for mean in means], n.astype(np.int64).reshape(shape)


def resample_counts(clips: int, resamples: int, seed: int) -> Floats:
    """Returns how often each resample draws each clip, (resamples, clips); the counts of a resample sum to `clips`."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(clips, np.full(clips, 1 / clips), size=resamples).astype(np.float64)


def _bootstrap(
    arrays: list[Floats], statistic: Callable[..., Any], resamples: int, seed: int, level: float
) -> Interval:
    """Returns the interval of `statistic`, a function of the arrays' means over clips."""
    check_options(resamples, seed, level)
    clips, shape = len(arrays[0]), arrays[0].shape[1:]
    means, n = clip_means(arrays)
    estimate = np.asarray(statistic(*means), dtype=np.float64)
    counts = resample_counts(clips, resamples, seed)
    ends = [_ends(sites, counts, statistic, level) for sites in _chunks(arrays)]
    low, high = np.concatenate([np.empty((2, 0)), *ends], axis=1).reshape(2, *shape)
    unsure = (n < 2) | np.isnan(estimate)
    low, high = (np.where(unsure, np.nan, end) for end in (low, high))
    return Interval(estimate, low, high, n, np.asarray(clips - n), level)


def _ends(sites: list[Floats], counts: Floats, statistic: Callable[..., Any], level: float) -> Floats:
    """Returns the lower and the upper end, (2, S), for arrays of (clips, S)."""
    means, _ = resample_means(sites, counts)
    values, tail = np.asarray(statistic(*means), dtype=np.float64), (1 - level) / 2
    # the upper end is the lower end of the negated values: so A - B and B - A mirror each other to the last bit
    return np.stack([_nan_quantile(values, tail), 0.0 - _nan_quantile(-values, tail)])


def resample_means(arrays: list[Floats], counts: Floats) -> tuple[list[Floats], Floats]:
    """Returns the means (S, B) of arrays (clips, S) over B resamples, and the number of draws (S, B) that count.

    A clip counts where all arrays are numbers. counts: (B, clips), as `resample_counts` returns them.
    """
    valid = np.logical_and.reduce([np.isfinite(array) for array in arrays])
    drawn = valid.T.astype(np.float64) @ counts.T
    some = drawn > 0
    divisor = np.where(some, drawn, 1.0)
    sums = (np.where(valid, array, 0.0).T @ counts.T for array in arrays)
    return [np.where(some, total / divisor, np.nan) for total in sums], drawn


def _nan_quantile(values: Floats, level: float) -> Floats:
    """Returns the linearly interpolated quantile of (S, B) along the last axis, (S,), without NaN."""
    ordered = np.sort(values, axis=-1)  # NaN sorts last
    last = np.maximum(np.isfinite(values).sum(axis=-1) - 1, 0)
    position = level * last
    below = np.floor(position).astype(np.int64)
    site = np.arange(len(values))
    start, end = ordered[site, below], ordered[site, np.minimum(below + 1, last)]
    return np.asarray(start + (position - below) * (end - start))


def _chunks(arrays: list[Floats]) -> Iterator[list[Floats]]:
    """Yields pieces (clips, S) of the arrays, with so few sites that their resamples fit into memory."""
    sites = [array.reshape(len(array), -1) for array in arrays]
    for start in range(0, sites[0].shape[1], _SITES_AT_ONCE):
        yield [array[:, start : start + _SITES_AT_ONCE] for array in sites]


def _same_shape(named: dict[str, ArrayLike]) -> list[Floats]:
    arrays = {name: _clips_first(name, value) for name, value in named.items()}
    if len({array.shape for array in arrays.values()}) > 1:
        listing = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise UsageError(f"Values of the same clips must have one shape (clips, ...), got {listing}.")
    return list(arrays.values())


def _clips_first(name: str, values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or not len(array):
        raise UsageError(f"{name}: expected (clips, ...) with at least one clip, got shape {array.shape}.")
    if np.isinf(array).any():
        raise UsageError(f"{name}: infinite values cannot be averaged; NaN means 'not scored'.")
    return array


def check_options(resamples: int, seed: int, level: float) -> None:
    """Checks the options of a resampling.

    Raises:
        UsageError: an option is out of range; the message names it.
    """
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 1:
        raise UsageError(f"resamples: expected a whole number of at least 1, got {resamples!r}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UsageError(f"seed: expected a whole number of at least 0, got {seed!r}.")
    if not 0 < level < 1:
        raise UsageError(f"level: expected a number between 0 and 1, got {level!r}.")
