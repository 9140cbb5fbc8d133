"""Measures how much a ranking of sites depends on the choice of clips, by resampling them (docs/statistics.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError
from vcorr.stats.halves import Halves
from vcorr.stats.intervals import Floats, clip_means, skill
from vcorr.stats.resampling import check_options, resample_counts, resample_means

RESAMPLES = 1000
"""Number of resamples: enough for two digits of a share, and seconds for rankings of thousands of sites."""

ROUNDING = 1e-12
"""Difference of skills that only the order of sums explains."""


@dataclass(frozen=True)
class Stability:
    """How stable the ranking of S sites by skill is, between all clips and resampled clips.

    values: (S,), skills over all clips; NaN for sites without skill, which are not ranked.
    best: index of the best site over all clips.
    tau: mean of Kendall's tau-b between the ranking over all clips and the ranking of a resample.
    tau_low, tau_high: range over resamples, which contains `level` of them. It says how far rankings of resampled clips
    are from this one. It is no confidence interval.
    tau_halves: tau-b between the rankings of two disjoint halves of the clips.
    stays_best: share of resamples in which `best` is the best site. Equally good sites share a resample.
    wins: (S,), the same share for every site.
    left_out: number of resamples in which a ranked site has no skill.

    Values are NaN where they are not known: with fewer than two ranked sites or two clips.
    """

    values: Floats
    best: int
    tau: float
    tau_low: float
    tau_high: float
    tau_halves: float
    stays_best: float
    wins: Floats
    left_out: int


def rank_stability(
    halves: Halves,
    score: ArrayLike,
    floor: ArrayLike,
    ceiling: ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> Stability:
    """Ranks sites by skill over all clips and over resampled clips, and compares the rankings.

    Args:
        halves: halves of the clips, as `Series.halves` returns them.
        score: (clips, S).
        floor: (clips, S).
        ceiling: (clips, S).
        resamples: number of resamples.
        seed: seed of the resampling, as everywhere in `vcorr.stats`.
        level: share of the resamples in the range.

    Raises:
        UsageError: shapes do not fit together, an option is out of range, or no site has skill.
    """
    check_options(resamples, seed, level)
    arrays = [np.asarray(part, dtype=np.float64) for part in (score, floor, ceiling)]
    clips = sum(map(len, halves))
    if arrays[0].ndim != 2 or {array.shape for array in arrays} != {(clips, arrays[0].shape[1])}:
        raise UsageError(f"score, floor and ceiling: expected (clips, sites), got {[a.shape for a in arrays]}.")
    values = skill(*clip_means(arrays)[0])
    ranked = np.flatnonzero(np.isfinite(values))
    if not len(ranked):
        raise UsageError("No site has skill: floor and ceiling are too close, or there are none.")
    drawn, left_out = _resample_skills([array[:, ranked] for array in arrays], resamples, seed)
    taus = kendall_tau(values[ranked], drawn)
    wins = np.full(len(values), np.nan)
    wins[ranked] = _wins(drawn)
    best = int(np.nanargmax(values))
    return Stability(
        values=values,
        best=best,
        tau=_mean(taus),
        tau_low=_quantile(taus, (1 - level) / 2),
        tau_high=_quantile(taus, (1 + level) / 2),
        tau_halves=_between_halves(halves, [array[:, ranked] for array in arrays]),
        stays_best=float(wins[best]),
        wins=wins,
        left_out=left_out,
    )


def kendall_tau(x: ArrayLike, y: ArrayLike) -> Floats:
    """Returns Kendall's tau-b between one ranking and each of B others: concordant - discordant pairs, tie-corrected.

    Source: Kendall, Rank Correlation Methods (1948), chapter 3. Pairs are counted by merging, as in Knight (1966): if
    items are sorted by x, and by y within ties of x, the discordant pairs are the inversions of y.

    Args:
        x: (S,), finite.
        y: (B, S), finite.

    Returns:
        (B,) in [-1, 1]; NaN where all of x or all of y are equal, or S < 2.
    """
    first, others = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    first = np.broadcast_to(first, others.shape)
    order = np.lexsort((others, first), axis=-1)
    first, others = (np.take_along_axis(values, order, axis=-1) for values in (first, others))
    pairs = math.comb(others.shape[-1], 2)
    tied_x, tied_y = _count_ties(_repeats(first)), _count_ties(_repeats(np.sort(others, axis=-1)))
    tied_both = _count_ties(_repeats(first) & _repeats(others))
    discordant = _inversions(others)
    concordant = pairs - tied_x - tied_y + tied_both - discordant
    scale = np.sqrt((pairs - tied_x).astype(np.float64) * (pairs - tied_y))
    return np.where(scale > 0, (concordant - discordant) / np.where(scale > 0, scale, 1.0), np.nan)


def _repeats(ordered: Floats) -> NDArray[np.bool_]:
    """Returns whether a value equals the value before it, (B, S)."""
    same = np.zeros(ordered.shape, dtype=np.bool_)
    same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return same


def _count_ties(repeats: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Counts the pairs of equal values, (B,). The i-th value of a run, from 0, is tied with the i values before it."""
    index = np.arange(repeats.shape[-1])
    start = np.maximum.accumulate(np.where(repeats, 0, index), axis=-1)
    return np.asarray((index - start).sum(axis=-1), dtype=np.int64)


def _inversions(values: Floats) -> NDArray[np.int64]:
    """Counts the pairs i < j with values[i] > values[j], (B,), by merging blocks of 1, 2, 4, … sorted values."""
    rows, items = values.shape
    width = 1 << max(items - 1, 0).bit_length()
    blocks = np.full((rows, width), np.inf)  # infinite padding at the end makes no inversion
    blocks[:, :items] = values
    count = np.zeros(rows, dtype=np.int64)
    half = 1
    while half < width:
        blocks = blocks.reshape(rows, width // (2 * half), 2 * half)
        order = np.argsort(blocks, axis=-1, kind="stable")
        from_left = order < half
        # a value of the right half is inverted with the values of the left half that the merge puts after it
        jumped = half - np.cumsum(from_left, axis=-1)
        count += np.where(from_left, 0, jumped).sum(axis=(1, 2))
        blocks = np.take_along_axis(blocks, order, axis=-1)
        half *= 2
    return count


def _resample_skills(arrays: list[Floats], resamples: int, seed: int) -> tuple[Floats, int]:
    """Returns the skills of resamples (B, S) in which every site has skill, and the number of other resamples."""
    means, _ = resample_means(arrays, resample_counts(len(arrays[0]), resamples, seed))
    values = skill(*means).T
    enough = len(arrays[0]) > 1  # one clip says nothing about other clips
    whole = np.asarray(np.isfinite(values).all(axis=1) & enough)
    return values[whole], int((~whole).sum())


def _wins(drawn: Floats) -> Floats:
    """Returns the share of resamples (B, S) in which each site is the best, (S,); equally good sites share one.

    Sites are equally good up to `ROUNDING`: a matrix product may round equal columns differently.
    """
    if not len(drawn):
        return np.full(drawn.shape[1], np.nan)
    best = drawn >= drawn.max(axis=1, keepdims=True) - ROUNDING
    return np.asarray((best / best.sum(axis=1, keepdims=True)).mean(axis=0))


def _between_halves(halves: Halves, arrays: list[Floats]) -> float:
    if not all(map(len, halves)):
        return math.nan
    one, two = (skill(*clip_means([array[half] for array in arrays])[0]) for half in halves)
    both = np.isfinite(one) & np.isfinite(two)
    return float(kendall_tau(one[both], two[both][None])[0])


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _quantile(values: Floats, level: float) -> float:
    known = values[np.isfinite(values)]
    return float(np.quantile(known, level)) if len(known) else math.nan
