"""Skill, gain, and their intervals over clips: Student's t, by the delta method for ratios (docs/statistics.md).

Clips are the unit. Values are (clips, ...); the axes after the first, such as sites, are kept. NaN means "not scored":
such a clip is left out of this site's mean and interval, and counted.

The delta method replaces a ratio of means by a mean. Each clip gets the value `ratio + influence of the clip`; see
`linear_skills`. The mean of these values is the ratio itself, and their standard error is the ratio's, to first order.
For intervals the influence is computed without the clip itself (jackknife): a clip that has most of the denominator
pulls the ratio to itself, so its plain influence is far too small. If all clips have the same range between floor and
ceiling, both are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.noun_counts import say_count
from vcorr.stats.student_t import t_quantile

Floats = NDArray[np.float64]

LEVEL = 0.95
"""Nominal coverage of all intervals that are shown."""
MIN_CLIPS_FOR_INTERVAL = 6
"""Fewer clips get no interval: their variance is not known well enough."""
MIN_CLIPS_WITH_RANGE = 4.0
"""Ratios whose denominator comes from fewer clips get no interval. Clips count by their shares h: 1 / sum of h * h."""
SKILL_MIN_RANGE = 0.02
"""Skill and gain are NaN where their denominator is smaller: the clips cannot tell good from bad predictions."""
_ROUNDING = 8 * float(np.finfo(np.float32).eps)
"""Differences smaller than this share of the largest value are rounding noise, because tables store 32 bits."""
_SITES_AT_ONCE = 2048


class Bounded(NamedTuple):
    """Scores with their floors and ceilings, (clips, ...) each and of one shape."""

    score: ArrayLike
    floor: ArrayLike
    ceiling: ArrayLike


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval: arrays with the shape of the values, without the axis of clips.

    estimate: the statistic over the clips that count; NaN where there is none.
    low, high: ends of the interval. Both are NaN where there is no interval; `no_interval_reason` says why.
    n: number of clips that count. left_out: number of clips that do not count because they are NaN.
    level: nominal coverage of the interval.
    with_range: from how many clips the denominator of a ratio comes, 1 / (sum of squared shares): n if all clips have
    the same range between floor and ceiling, 1 if one clip has all of it. n for means; NaN without clips.
    """

    estimate: Floats
    low: Floats
    high: Floats
    n: NDArray[np.int64]
    left_out: NDArray[np.int64]
    level: float
    with_range: Floats


def no_interval_reason(interval: Interval, *at: int) -> str:
    """Returns in words why there is no interval; "" if there is one.

    Args:
        interval: any interval of this module.
        at: the indices of one element; none for an interval of shape ().
    """
    n, estimate = int(interval.n[at]), float(interval.estimate[at])
    if np.isfinite(interval.low[at]):
        return ""
    if not n:
        return "no clip counts"
    if np.isnan(estimate):
        return f"the bounds are closer than {SKILL_MIN_RANGE:g}, so no score can tell good from bad"
    if n < MIN_CLIPS_FOR_INTERVAL:
        return f"{say_count(n, 'clip')}, and an interval needs {MIN_CLIPS_FOR_INTERVAL}"
    if interval.with_range[at] < MIN_CLIPS_WITH_RANGE:
        return f"too few of {n} clips move: nearly all of the range between floor and ceiling is theirs"
    return f"all {n} clips agree: without variance there is no interval"


# ------------------------------------------------------------------------------------------------------------- ratios


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


def gain(score_mean: ArrayLike, floor_mean: ArrayLike) -> Floats:
    """Returns (score - floor) / (1 - floor) of means over clips; NaN where 1 - floor is under 0.02.

    It is for accuracies, whose best value is 1. Unlike skill it does not depend on the tokens of a model.

    Args:
        score_mean: means of the scores.
        floor_mean: means of the floors; the two broadcast against each other.
    """
    return skill(score_mean, floor_mean, 1.0)


def linear_skills(score: ArrayLike, floor: ArrayLike, ceiling: ArrayLike) -> Floats:
    """Returns the linearised skill of each clip, (clips, ...): skill + influence. Their mean is the skill.

    With s, f, c of a clip, means m over the clips that count, and skill R = (m(s) - m(f)) / (m(c) - m(f)):

        R + (s - f - R * (c - f)) / (m(c) - m(f))

    Source: delta method for a ratio of means; Cochran, Sampling Techniques (1977), section 2.11.

    Args:
        score: (clips, ...).
        floor: (clips, ...), of the same shape.
        ceiling: (clips, ...), of the same shape.

    Returns:
        NaN for clips that do not count, and for all clips where there is no skill.

    Raises:
        UsageError: shapes differ, or a value is infinite.
    """
    return _linearise(_same_shape({"score": score, "floor": floor, "ceiling": ceiling}))


def linear_gains(score: ArrayLike, floor: ArrayLike) -> Floats:
    """Returns the linearised gain of each clip, (clips, ...); see `linear_skills`. Their mean is the gain.

    Args:
        score: (clips, ...).
        floor: (clips, ...), of the same shape.

    Raises:
        UsageError: shapes differ, or a value is infinite.
    """
    return _linearise(_with_one(_same_shape({"score": score, "floor": floor})))


def skill_differences(a: Bounded, b: Bounded) -> Floats:
    """Returns the difference of skills as one value per clip, whose mean is skill(a) - skill(b). It is for tests.

    The skills are linearised at the hypothesis that both are equal, to R, the mean of the two. With n = score - floor
    and w = ceiling - floor of a clip, and m the mean over the clips that count:

        (n_a - R w_a) / m(w_a) - (n_b - R w_b) / m(w_b)

    So a clip that hardly moves has a value near 0. In differences of `linear_skills` such a clip would have the value
    of all clips together, and a test of signs would take that for agreement. If both sides have the same floors and
    ceilings, the values are the differences of the scores, divided by a constant.

    Args:
        a: scores, floors and ceilings of one side, (clips, ...) each.
        b: the values of the other side, with the same clips in the same order.

    Returns:
        (clips, ...), NaN for clips where one of the six is NaN, and for all clips where one side has no skill.

    Raises:
        UsageError: shapes differ, or a value is infinite.
    """
    return _linear_differences(_same_shape(_by_name(a=a, b=b)))


def gain_differences(a: Bounded, b: Bounded) -> Floats:
    """Returns the difference of gains as one value per clip; see `skill_differences`. Ceilings do not count.

    Args:
        a: scores and floors of one side, (clips, ...) each.
        b: the values of the other side, with the same clips in the same order.

    Raises:
        UsageError: shapes differ, or a value is infinite.
    """
    return _linear_differences(_gain_arrays(a, b))


# ---------------------------------------------------------------------------------------------------------- intervals


def mean_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Returns the mean over clips with its interval by Student's t.

    Args:
        values: (clips, ...), NaN where not scored.
        level: nominal coverage of the interval.

    Raises:
        UsageError: there is no clip, a value is infinite, or the level is out of range.
    """
    return _interval([_clips_first("values", values)], _mean, level)


def skill_interval(score: ArrayLike, floor: ArrayLike, ceiling: ArrayLike, level: float = LEVEL) -> Interval:
    """Returns the skill with its interval, by Student's t and the delta method. A clip counts where all are numbers.

    Args:
        score: (clips, ...).
        floor: (clips, ...), of the same shape.
        ceiling: (clips, ...), of the same shape.
        level: nominal coverage of the interval.

    Raises:
        UsageError: shapes differ, a value is infinite, or the level is out of range.
    """
    return _interval(_same_shape({"score": score, "floor": floor, "ceiling": ceiling}), _ratio, level)


def gain_interval(score: ArrayLike, floor: ArrayLike, level: float = LEVEL) -> Interval:
    """Returns the gain with its interval; see `skill_interval`.

    Args:
        score: (clips, ...).
        floor: (clips, ...), of the same shape.
        level: nominal coverage of the interval.

    Raises:
        UsageError: shapes differ, a value is infinite, or the level is out of range.
    """
    return _interval(_with_one(_same_shape({"score": score, "floor": floor})), _ratio, level)


def compare_means(a: ArrayLike, b: ArrayLike, level: float = LEVEL) -> Interval:
    """Returns mean(a) - mean(b) with its interval, paired: on the clips where both are numbers.

    Args:
        a: (clips, ...).
        b: (clips, ...), of the same shape, with the same clips in the same order.
        level: nominal coverage of the interval.

    Raises:
        UsageError: shapes differ, a value is infinite, or the level is out of range.
    """
    return _interval(_same_shape({"a": a, "b": b}), _difference, level)


def compare_skills(a: Bounded, b: Bounded, level: float = LEVEL) -> Interval:
    """Returns skill(a) - skill(b) with its interval, paired: on the clips where all six are numbers.

    Args:
        a: scores, floors and ceilings of one side, (clips, ...) each.
        b: the values of the other side, with the same clips in the same order.
        level: nominal coverage of the interval.

    Raises:
        UsageError: shapes differ, a value is infinite, or the level is out of range.
    """
    return _interval(_same_shape(_by_name(a=a, b=b)), _ratio_difference, level)


def compare_gains(a: Bounded, b: Bounded, level: float = LEVEL) -> Interval:
    """Returns gain(a) - gain(b) with its interval, paired; see `compare_skills`. Ceilings do not count.

    Args:
        a: scores and floors of one side, (clips, ...) each.
        b: the values of the other side, with the same clips in the same order.
        level: nominal coverage of the interval.

    Raises:
        UsageError: shapes differ, a value is infinite, or the level is out of range.
    """
    return _interval(_gain_arrays(a, b), _ratio_difference, level)


def clip_means(arrays: list[Floats]) -> tuple[list[Floats], NDArray[np.int64]]:
    """Returns means over the clips where all `arrays` (clips, ...) are numbers, and the number of these clips."""
    valid = _complete(arrays)
    n = np.asarray(valid.sum(axis=0), dtype=np.int64)
    sums = (np.where(valid, array, 0.0).sum(axis=0) for array in arrays)
    return [np.where(n > 0, total / np.maximum(n, 1), np.nan) for total in sums], n


# ------------------------------------------------------------------------------------------------------------ formulas


@dataclass(frozen=True)
class _Estimate:
    """A statistic, (S,), with the deviation of each clip, (clips, S); NaN where a clip does not count."""

    value: Floats
    deviation: Floats
    with_range: Floats


_Statistic = Callable[[list[Floats]], _Estimate]
"""Computes a statistic of arrays (clips, S), in which clips that do not count are NaN in all."""


def _mean(arrays: list[Floats]) -> _Estimate:
    (mean,), n = clip_means(arrays[:1])
    return _Estimate(mean, arrays[0] - mean, n.astype(np.float64))


def _difference(arrays: list[Floats]) -> _Estimate:
    return _mean([np.asarray(arrays[0] - arrays[1])])


def _ratio(arrays: list[Floats]) -> _Estimate:
    """Returns the skill, with deviations that make the standard error of the jackknife.

    A clip has the residual e and the share h of W, the sum of all denominators. Without the clip, the ratio changes by
    e / (W * (1 - h)). Source: Royall and Cumberland, An Empirical Study of the Ratio Estimator and Estimators of its
    Variance (1981).
    """
    span = arrays[2] - arrays[1]
    (mean,), n = clip_means([span])
    ratio = skill(*clip_means(arrays)[0])
    with np.errstate(divide="ignore", invalid="ignore"):  # no denominator, or all of it in one clip: no interval
        share = span / (n * mean)
        deviation = (_linearise(arrays) - ratio) * (1 - 1 / n) / (1 - share)
        with_range = 1 / np.nansum(share**2, axis=0)
    return _Estimate(ratio, deviation, with_range)


def _ratio_difference(arrays: list[Floats]) -> _Estimate:
    a, b = _ratio(arrays[:3]), _ratio(arrays[3:])
    return _Estimate(a.value - b.value, a.deviation - b.deviation, np.minimum(a.with_range, b.with_range))


def _linearise(arrays: list[Floats]) -> Floats:
    score, floor, ceiling = _only_complete(arrays)
    means, _ = clip_means(arrays)
    ratio = skill(*means)
    with np.errstate(divide="ignore", invalid="ignore"):  # a denominator of 0 has no skill, and NaN stays NaN
        influence = (score - floor - ratio * (ceiling - floor)) / (means[2] - means[1])
    return np.asarray(ratio + influence)


def _linear_differences(arrays: list[Floats]) -> Floats:
    arrays = _only_complete(arrays)
    means, _ = clip_means(arrays)
    common = (skill(*means[:3]) + skill(*means[3:])) / 2
    with np.errstate(divide="ignore", invalid="ignore"):  # where there is no skill, `common` is NaN
        a, b = (
            (arrays[i] - arrays[i + 1] - common * (arrays[i + 2] - arrays[i + 1])) / (means[i + 2] - means[i + 1])
            for i in (0, 3)
        )
    return np.asarray(a - b)


def _interval(arrays: list[Floats], statistic: _Statistic, level: float) -> Interval:
    """Returns the interval of a statistic, on the clips where all arrays are numbers."""
    if not 0 < level < 1:
        raise UsageError(f"level: expected a number between 0 and 1, got {level!r}.")
    clips, shape = len(arrays[0]), arrays[0].shape[1:]
    parts = [_describe(sites, statistic) for sites in _chunks(arrays)]
    estimate, error, counts, with_range = (np.concatenate(part).reshape(shape) for part in zip(*parts, strict=True))
    half, n = error * _t_of(counts, level), counts.astype(np.int64)
    return Interval(estimate, estimate - half, estimate + half, n, np.asarray(clips - n), level, with_range)


def _describe(arrays: list[Floats], statistic: _Statistic) -> tuple[Floats, Floats, Floats, Floats]:
    """Returns estimate, standard error, number of clips and clips with range, (S,) each, for arrays of (clips, S)."""
    arrays = _only_complete(arrays)
    _, n = clip_means(arrays)
    found = statistic(arrays)
    deviation = np.nan_to_num(found.deviation, nan=0.0, posinf=0.0, neginf=0.0)
    error = np.sqrt((deviation**2).sum(axis=0) / np.maximum((n - 1) * n, 1))
    usable = (n >= MIN_CLIPS_FOR_INTERVAL) & np.isfinite(found.value) & (found.with_range >= MIN_CLIPS_WITH_RANGE)
    usable &= ~_is_rounding(deviation, arrays)
    return found.value, np.where(usable, error, np.nan), n.astype(np.float64), found.with_range


def _is_rounding(deviation: Floats, arrays: list[Floats]) -> NDArray[np.bool_]:
    """Returns whether the deviations (clips, S) are no larger than the rounding of the numbers they come from, (S,).

    Where values are divided by a denominator of at least 0.02, their rounding grows by at most 1/0.02.
    """
    largest = np.max([np.max(np.abs(np.nan_to_num(array)), axis=0) for array in arrays], axis=0)
    grown = 1.0 if len(arrays) <= 2 else 1 / SKILL_MIN_RANGE
    return np.asarray(np.abs(deviation).max(axis=0) <= _ROUNDING * grown * largest)


def _t_of(n: Floats, level: float) -> Floats:
    quantiles = np.full(n.shape, np.nan)
    for clips in np.unique(n[n >= MIN_CLIPS_FOR_INTERVAL]):
        quantiles[n == clips] = t_quantile((1 + level) / 2, int(clips) - 1)
    return quantiles


# -------------------------------------------------------------------------------------------------------------- arrays


def _complete(arrays: list[Floats]) -> NDArray[np.bool_]:
    return np.asarray(np.logical_and.reduce([np.isfinite(array) for array in arrays]))


def _only_complete(arrays: list[Floats]) -> list[Floats]:
    """Returns the arrays with NaN for the clips where one of them is NaN."""
    complete = _complete(arrays)
    return [np.where(complete, array, np.nan) for array in arrays]


def _chunks(arrays: list[Floats]) -> Iterator[list[Floats]]:
    """Yields pieces (clips, S) of the arrays, with so few sites that intermediate arrays stay small."""
    sites = [array.reshape(len(array), -1) for array in arrays]
    for start in range(0, max(sites[0].shape[1], 1), _SITES_AT_ONCE):
        yield [array[:, start : start + _SITES_AT_ONCE] for array in sites]


def _with_one(arrays: list[Floats]) -> list[Floats]:
    return [*arrays, np.ones_like(arrays[0])]


def _gain_arrays(a: Bounded, b: Bounded) -> list[Floats]:
    named = {name: value for name, value in _by_name(a=a, b=b).items() if not name.endswith("ceiling")}
    arrays = _same_shape(named)
    return [*_with_one(arrays[:2]), *_with_one(arrays[2:])]


def _by_name(**sides: Bounded) -> dict[str, ArrayLike]:
    return {f"{side}.{field}": value for side, x in sides.items() for field, value in x._asdict().items()}


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
