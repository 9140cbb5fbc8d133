"""Sign-flip test of paired differences, and Holm's correction of families of tests (docs/statistics.md).

If two rows are equally good, the difference on a clip is as likely to be negative as to be positive. The test counts
how many choices of signs give a mean at least as far from zero as the observed one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError

Floats = NDArray[np.float64]

SIGNIFICANT = 0.05
"""Rows differ if p, corrected for its family, is at most this."""
EXACT_UP_TO = 16
"""Largest number of differences of which all signs are tried."""
FLIPS = 100_000
"""Number of drawn choices of signs where there are too many to try all."""
_SEED = 0
_TOLERANCE = 1e-6
"""Sums are equal if they differ by less than this share of the sum of absolute differences.

Scores are stored with 24 bits. A difference of scores near 1 has an error of 6e-8, which would break ties by chance.
"""
_FLIPS_AT_ONCE, _SUMS_AT_ONCE = 4096, 2**22


def sign_flip_test(differences: ArrayLike) -> Floats:
    """Returns the two-sided p-value of the hypothesis that differences are symmetric around zero, shape (...).

    Up to 16 differences that are not zero, all choices of signs are tried, so p is exact. For more, p is
    (b + 1) / (m + 1): b of m = 100,000 drawn choices have a sum at least as far from zero as the observed one. The
    draws have a fixed seed, so the same differences always have the same p. p does not depend on the order of clips,
    nor on the sign of all differences together.

    Source: Fisher, The Design of Experiments (1935), section 21; (b + 1) / (m + 1) after Phipson and Smyth, Permutation
    P-values Should Never Be Zero (2010).

    Args:
        differences: (clips, ...), one difference per clip. NaN means that a clip has none and leaves it out.

    Returns:
        p in (0, 1]; 1 if all differences are zero, NaN where no clip has a difference.

    Raises:
        UsageError: there is no clip, or a difference is infinite.
    """
    values = _check_differences(differences)
    columns = values.reshape(len(values), -1)
    # under the hypothesis a sign says nothing: sizes, in order, make p independent of the order of the clips
    sizes = -np.sort(-np.abs(np.nan_to_num(columns)), axis=0)
    observed = np.abs(np.nansum(columns, axis=0))
    p = np.ones(columns.shape[1])
    exact = np.count_nonzero(sizes, axis=0) <= EXACT_UP_TO
    p[exact] = _try_all(sizes[:EXACT_UP_TO, exact], observed[exact])
    p[~exact] = _try_drawn(sizes[:, ~exact], observed[~exact])
    return np.where(np.isnan(columns).all(axis=0), np.nan, p).reshape(values.shape[1:])


def show_p(p: float) -> str:
    """Returns p with three digits, "< 0.001" where these are all zero, and a dash where there is none."""
    if np.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def joint_sign_flip_test(differences: ArrayLike) -> Floats:
    """Returns p-values of several comparisons on the same clips, corrected for all of them together.

    Under the hypothesis that no comparison has a difference, the signs of a clip change in all comparisons at once. The
    statistic of a comparison is abs(sum) / sqrt(sum of squares), so its unit does not matter. p is the share of choices
    of signs for which the largest statistic of all comparisons is at least the observed one. So the chance of any false
    positive is at most the level. Where comparisons are many and clips are few, this can decide what Holm's correction
    cannot: the smallest p is the one of a single comparison.

    Source: Westfall and Young, Resampling-Based Multiple Testing (1993), the single-step maxT procedure.

    Args:
        differences: (clips, S), one difference per clip and comparison. NaN means that a clip has none.

    Returns:
        (S,) p in (0, 1]; 1 where all differences are zero, NaN where no clip has a difference.

    Raises:
        UsageError: there is no clip, or a difference is infinite.
    """
    values = _check_differences(differences)
    known = np.nan_to_num(values)
    size = np.sqrt((known**2).sum(axis=0))
    scaled = np.divide(known, size, out=np.zeros_like(known), where=size > 0)
    # in order of the clips' contents, so that p does not depend on the order of the clips
    scaled = scaled[np.lexsort(scaled.T[::-1])]
    observed = np.abs(scaled.sum(axis=0))
    reached, choices = np.zeros(observed.shape), 0
    for signs in _all_signs(len(scaled)) if len(scaled) <= EXACT_UP_TO else _draw_signs(len(scaled)):
        largest = np.abs(signs @ scaled).max(axis=1, initial=0.0)
        reached += (largest[:, None] >= observed - _TOLERANCE).sum(axis=0)
        choices += len(signs)
    drawn = 0 if len(scaled) <= EXACT_UP_TO else 1
    p = np.where(size > 0, (reached + drawn) / (choices + drawn), 1.0)
    return np.where(np.isnan(values).all(axis=0), np.nan, p)


def smallest_p(count: int) -> float:
    """Returns the smallest p that the test can give for `count` differences that are not zero: 2 / 2^count."""
    return min(1.0, 2.0 ** (1 - count)) if count <= EXACT_UP_TO else 1 / (FLIPS + 1)


def holm(p_values: ArrayLike) -> Floats:
    """Returns p-values corrected for a family of tests, so that the chance of any false positive is at most the level.

    The smallest of k values is multiplied by k, the next by k - 1, and so on. A corrected value is at least as large as
    the values before it, and at most 1. NaN stays NaN and does not count as a test.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979).

    Args:
        p_values: the family, in any shape.
    """
    raw = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(raw.shape, np.nan)
    tests = np.isfinite(raw)
    order = np.argsort(raw[tests], kind="stable")
    factors = np.arange(len(order), 0, -1)
    stepped = np.minimum(np.maximum.accumulate(raw[tests][order] * factors), 1.0)
    adjusted[tests] = stepped[np.argsort(order, kind="stable")]
    return adjusted


def _check_differences(differences: ArrayLike) -> Floats:
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim == 0 or not len(values):
        raise UsageError(f"differences: expected (clips, ...) with at least one clip, got shape {values.shape}.")
    if np.isinf(values).any():
        raise UsageError("differences: infinite values cannot be tested; NaN means that a clip has no difference.")
    return values


def _try_all(sizes: Floats, observed: Floats) -> Floats:
    """Returns the exact p of columns (n, S), n at most 16. Half of the choices suffice: the other half mirrors them."""
    (signs,) = _all_signs(len(sizes))
    return _count_as_far(signs, sizes, observed) / len(signs)


def _all_signs(clips: int) -> Iterator[Floats]:
    """Yields one block of choices of signs (2^(clips - 1), clips); the other half of all choices mirrors them."""
    choices = np.arange(2 ** max(clips - 1, 0))
    yield _as_signs((choices[:, None] >> np.arange(clips)) & 1)


def _try_drawn(sizes: Floats, observed: Floats) -> Floats:
    """Returns (b + 1) / (m + 1) of columns (n, S)."""
    if not sizes.shape[1]:
        return np.empty(0)
    reached = np.zeros(len(observed))
    for signs in _draw_signs(len(sizes)):
        reached += _count_as_far(signs, sizes, observed)
    return np.asarray((reached + 1) / (FLIPS + 1))


def _draw_signs(clips: int) -> Iterator[Floats]:
    """Yields blocks (B, clips) of drawn signs, `FLIPS` rows in all."""
    generator = np.random.default_rng(_SEED)
    for start in range(0, FLIPS, _FLIPS_AT_ONCE):
        count = min(_FLIPS_AT_ONCE, FLIPS - start)
        yield _as_signs(generator.integers(0, 2, size=(count, clips), dtype=np.int8))


def _as_signs(bits: NDArray[Any]) -> Floats:
    return np.asarray(1 - 2 * bits, dtype=np.float64)


def _count_as_far(signs: Floats, sizes: Floats, observed: Floats) -> Floats:
    """Returns for how many choices of signs (B, n) the sum is at least as far from zero as the observed one, (S,)."""
    least = observed - _TOLERANCE * sizes.sum(axis=0)
    step = max(_SUMS_AT_ONCE // len(signs), 1)
    parts = [
        (np.abs(signs @ sizes[:, start : start + step]) >= least[start : start + step]).sum(axis=0)
        for start in range(0, sizes.shape[1], step)
    ]
    return np.concatenate([np.empty(0), *parts])
