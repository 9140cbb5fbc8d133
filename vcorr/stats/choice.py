"""Chooses layers, steps and heads on one half of the clips and reports them on the other (docs/statistics.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError
from vcorr.stats.bootstrap import Floats, Interval, bootstrap_mean, bootstrap_skill, clip_means, skill


@dataclass(frozen=True)
class Choice:
    """A site that was chosen on one half of the clips and is reported on the other.

    site: index of the chosen site; None if no site has a value on the choosing half, and the numbers are then NaN.
    chosen_on, reported_on: ids of the clips of the two halves.
    chosen_value: value of the site on the choosing half.
    interval: value of the site on the reporting half; arrays of shape ().
    best_site, best_value: the site that is best on the reporting half, the best choice in hindsight, and its value.
    regret: how much worse the chosen site is than the best choice in hindsight; never negative.
    """

    site: int | None
    chosen_on: tuple[str, ...]
    reported_on: tuple[str, ...]
    chosen_value: float
    interval: Interval
    best_site: int | None
    best_value: float
    regret: float

    @property
    def value(self) -> float:
        """The number to report: the value of the chosen site on the clips that did not choose it."""
        return float(self.interval.estimate)


def choose_and_report(
    clip_ids: Sequence[str],
    score: ArrayLike,
    *,
    floor: ArrayLike | None = None,
    ceiling: ArrayLike | None = None,
    higher_is_better: bool = True,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Choice:
    """Chooses the best site on every other clip and reports it on the remaining clips.

    Clips are sorted by id; the first, third, ... choose, the second, fourth, ... report. The value is the skill if
    floor and ceiling are given, else the mean score. Of equally good sites the first is chosen. Clips with NaN are left
    out of a site's mean.

    Args:
        clip_ids: one id per clip, all different, in any order.
        score: (clips, sites).
        floor: (clips, sites); given with `ceiling` or not at all.
        ceiling: (clips, sites).
        higher_is_better: False for errors. A higher skill is always better.
        resamples: number of resamples for the interval.
        seed: seed of the resampling.
        level: nominal coverage of the interval.

    Raises:
        UsageError: there are fewer than two clips, ids repeat, or shapes do not fit together.
    """
    arrays = _check(clip_ids, score, floor, ceiling)
    sign = 1.0 if higher_is_better or len(arrays) == 3 else -1.0
    choosing, reporting = halves(clip_ids)
    chosen, hindsight = (_values([array[half] for array in arrays]) for half in (choosing, reporting))
    site, best = _best(sign * chosen), _best(sign * hindsight)
    held_out = [array[reporting, site] if site is not None else np.full(len(reporting), np.nan) for array in arrays]
    return Choice(
        site=site,
        chosen_on=tuple(clip_ids[clip] for clip in choosing),
        reported_on=tuple(clip_ids[clip] for clip in reporting),
        chosen_value=_at(chosen, site),
        interval=_interval(held_out, resamples, seed, level),
        best_site=best,
        best_value=_at(hindsight, best),
        regret=sign * (_at(hindsight, best) - _at(hindsight, site)),
    )


def halves(clip_ids: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the indices of the clips that choose and of the clips that report: every other one, by sorted id."""
    order = np.array(sorted(range(len(clip_ids)), key=lambda clip: clip_ids[clip]), dtype=np.int64)
    return order[0::2], order[1::2]


def _values(arrays: list[Floats]) -> Floats:
    means, _ = clip_means(arrays)
    return skill(*means) if len(means) == 3 else means[0]


def _interval(arrays: list[Floats], resamples: int, seed: int, level: float) -> Interval:
    if len(arrays) == 3:
        return bootstrap_skill(*arrays, resamples=resamples, seed=seed, level=level)
    return bootstrap_mean(arrays[0], resamples=resamples, seed=seed, level=level)


def _best(values: Floats) -> int | None:
    return None if np.isnan(values).all() else int(np.nanargmax(values))


def _at(values: Floats, site: int | None) -> float:
    return float("nan") if site is None else float(values[site])


def _check(
    clip_ids: Sequence[str], score: ArrayLike, floor: ArrayLike | None, ceiling: ArrayLike | None
) -> list[Floats]:
    if (floor is None) != (ceiling is None):
        raise UsageError("floor and ceiling: give both, for skill, or neither.")
    arrays = [np.asarray(value, dtype=np.float64) for value in (score, floor, ceiling) if value is not None]
    shapes = [array.shape for array in arrays]
    if arrays[0].ndim != 2 or len(set(shapes)) > 1:
        raise UsageError(f"score: expected (clips, sites), and floor and ceiling alike, got {shapes}.")
    if len(clip_ids) != len(arrays[0]) or len(set(clip_ids)) != len(clip_ids):
        raise UsageError(f"clip_ids: expected {len(arrays[0])} different ids, got {len(set(clip_ids))}.")
    if len(clip_ids) < 2:
        raise UsageError(
            "A site cannot be chosen and reported on the same clip.",
            hint="Run at least two clips to report a best site.",
        )
    return arrays
