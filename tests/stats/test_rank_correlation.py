"""Spearman's rank correlation: against loops over pairs, by construction, and its interval over clips."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import UsageError
from vcorr.stats import mean_interval, no_interval_reason, rank_correlation, spearman

# few distinct values, so that ties are common; NaN is not scored
numbers = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, math.nan])


def slow_spearman(a, b):
    """Ranks by counting, then correlates by the formula of Pearson."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if not (math.isnan(x) or math.isnan(y))]
    ranks = [
        [sum(other < value for other in side) + (sum(other == value for other in side) - 1) / 2 for value in side]
        for side in zip(*pairs, strict=True)
    ]
    if len(pairs) < 3 or any(len(set(side)) == 1 for side in ranks):
        return math.nan
    (x, y), n = ranks, len(pairs)
    mx, my = sum(x) / n, sum(y) / n
    both = sum((p - mx) * (q - my) for p, q in zip(x, y, strict=True))
    return both / math.sqrt(sum((p - mx) ** 2 for p in x) * sum((q - my) ** 2 for q in y))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=12))
def test_agrees_with_counting(pairs):
    a, b = zip(*pairs, strict=True)
    assert float(spearman(a, b)) == pytest.approx(slow_spearman(a, b), nan_ok=True, abs=1e-12)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 1000), st.integers(3, 30))
def test_only_the_order_counts(seed, sites):
    a, b = np.random.default_rng(seed).random((2, sites))
    value = float(spearman(a, b))
    assert float(spearman(np.exp(9 * a), b**3)) == pytest.approx(value)
    assert float(spearman(-a, b)) == pytest.approx(-value)
    order = np.random.default_rng(seed + 1).permutation(sites)
    assert float(spearman(a[order], b[order])) == pytest.approx(value)
    assert float(spearman(a, a)) == pytest.approx(1.0)


def test_the_interval_is_of_the_correlations_of_clips():
    measure, score = np.random.default_rng(0).random((2, 9, 20))
    score[:, :] += measure
    score[3] = 0.5  # a clip in which all sites are equally good has no correlation
    score[5, 4] = np.nan
    found = rank_correlation(measure, score)
    each = [slow_spearman(a, b) for a, b in zip(measure, score, strict=True)]
    expected = mean_interval(each)
    assert float(found.estimate) == pytest.approx(float(expected.estimate))
    assert (float(found.low), float(found.high)) == pytest.approx((float(expected.low), float(expected.high)))
    assert (int(found.n), int(found.left_out)) == (8, 1)


def test_few_clips_have_no_interval_and_say_so():
    measure, score = np.random.default_rng(1).random((2, 4, 6))
    found = rank_correlation(measure, score)
    assert np.isnan(found.low)
    assert no_interval_reason(found) == "4 clips, and an interval needs 6"
    same = rank_correlation(np.tile(measure[:1], (8, 1)), np.tile(score[:1], (8, 1)))
    assert "without variance" in no_interval_reason(same)


@pytest.mark.parametrize(("a", "b"), [([1, 2], [1, 2, 3]), (1.0, 2.0), ([1, 2, math.inf], [1, 2, 3])])
def test_what_cannot_be_correlated_is_refused(a, b):
    with pytest.raises(UsageError):
        spearman(a, b)
