"""Spearman's rank correlation over sites, with an interval over clips: does a cheap measure find the good sites?"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError
from vcorr.stats.intervals import LEVEL, Floats, Interval, mean_interval

MIN_SITES = 3
"""Fewer sites have no rank correlation here: of two, it is always 1 or -1."""


def spearman(a: ArrayLike, b: ArrayLike) -> Floats:
    """Returns Spearman's rank correlation along the last axis: Pearson's of the ranks. Equal values share a mean rank.

    Source: C. Spearman, The Proof and Measurement of Association between Two Things (1904).

    Args:
        a: (..., S). Sites where `a` or `b` is NaN are left out.
        b: (..., S), of the same shape.

    Returns:
        (...) in [-1, 1]; NaN with fewer than three sites, or if all values of `a` or of `b` are equal.

    Raises:
        UsageError: shapes differ, or a value is infinite.
    """
    left, right = (np.asarray(values, dtype=np.float64) for values in (a, b))
    if left.shape != right.shape or not left.ndim:
        raise UsageError(f"a and b: expected one shape (..., S), got {left.shape} and {right.shape}.")
    if np.isinf(left).any() or np.isinf(right).any():
        raise UsageError("a or b is infinite somewhere.")
    lines = zip(left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1]), strict=True)
    return np.array([_spearman(*line) for line in lines], dtype=np.float64).reshape(left.shape[:-1])


def rank_correlation(measure: ArrayLike, score: ArrayLike, level: float = LEVEL) -> Interval:
    """Returns the mean over clips of `spearman` over sites, with its interval by Student's t over clips.

    Each clip ranks all sites by its own measure and by its own score. The interval is about other clips: the sites are
    all sites of a model, not a sample of sites. Scores of one clip and token grid share floor and ceiling, so ranking
    by score is ranking by skill.

    Args:
        measure: (clips, S), such as a trait of heads; NaN where it does not exist.
        score: (clips, S), such as an accuracy; NaN where not scored.
        level: nominal coverage of the interval.

    Returns:
        Of shape (). A clip without a correlation is left out and counted; `no_interval_reason` says why there is no
        interval.

    Raises:
        UsageError: shapes differ, there is no clip, or a value is infinite.
    """
    return mean_interval(spearman(measure, score), level)


def _spearman(a: Floats, b: Floats) -> float:
    known = ~(np.isnan(a) | np.isnan(b))
    if known.sum() < MIN_SITES:
        return float("nan")
    x, y = (_ranks(values[known]) for values in (a, b))
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(np.clip(x @ y / size, -1, 1)) if size > 0 else float("nan")


def _ranks(values: Floats) -> NDArray[np.float64]:
    """Returns ranks from 0; equal values get the mean of their ranks."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts + 1) / 2)[which], dtype=np.float64)
