"""The sign-flip test against all signs in a loop, by its properties and under the null; Holm against its definition."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vcorr import UsageError
from vcorr.stats.sign_flips import EXACT_UP_TO, FLIPS, holm, joint_sign_flip_test, sign_flip_test, smallest_p

fast = settings(max_examples=40, deadline=None, derandomize=True)
eighths = st.integers(-8, 8).map(lambda x: x / 8)
few = st.lists(eighths, min_size=1, max_size=9).map(np.array)
p_values = st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=8)


def reference(differences) -> float:
    """Tries all signs, one after the other."""
    observed = abs(math.fsum(differences))
    sums = [
        abs(math.fsum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


@fast
@given(few)
def test_p_is_the_share_of_all_signs_that_go_as_far(differences) -> None:
    assert float(sign_flip_test(differences)) == reference(differences)


def test_all_signs_are_tried_up_to_sixteen_clips() -> None:
    generator = np.random.default_rng(0)
    for clips in (14, EXACT_UP_TO):
        differences = generator.normal(0.3, 1, clips)
        signs = np.array(list(itertools.product((1, -1), repeat=clips)))
        sums = np.abs(signs @ differences)
        assert float(sign_flip_test(differences)) == np.mean(sums >= abs(differences.sum()) - 1e-9)


@fast
@given(few, st.randoms(use_true_random=False))
def test_neither_sign_nor_order_nor_scale_matter(differences, random) -> None:
    p = float(sign_flip_test(differences))
    shuffled = random.sample(list(differences), len(differences))
    assert float(sign_flip_test(-differences)) == p
    assert float(sign_flip_test(shuffled)) == p
    assert float(sign_flip_test(differences * 4)) == p


def test_neither_sign_nor_order_matter_where_signs_are_drawn() -> None:
    differences = np.random.default_rng(1).normal(0.2, 1, 40)
    p = float(sign_flip_test(differences))
    assert float(sign_flip_test(-differences)) == p
    assert float(sign_flip_test(differences[::-1])) == p


@fast
@given(few)
def test_p_is_never_under_the_smallest_one(differences) -> None:
    p = float(sign_flip_test(differences))
    assert smallest_p(len(differences)) <= smallest_p(np.count_nonzero(differences)) <= p <= 1


def test_the_smallest_p_is_reached_where_all_differences_agree() -> None:
    assert smallest_p(6) == pytest.approx(0.031, abs=5e-4)
    for clips in (1, 2, 6, EXACT_UP_TO):
        assert float(sign_flip_test(np.linspace(0.1, 1, clips))) == smallest_p(clips)
    assert float(sign_flip_test(np.linspace(0.1, 1, 64))) == smallest_p(64) == 1 / (FLIPS + 1)


def test_two_constant_rows_that_differ_by_rounding_alone_tie() -> None:
    # thirds and sixths as they are stored: sums that are equal on paper differ in the eighth digit
    differences = np.float32([1 / 3, -1 / 6, -1 / 6, 1 / 3, 1 / 6]).astype(np.float64)
    exact = np.array([2, -1, -1, 2, 1])
    assert float(sign_flip_test(differences)) == reference(exact)


def test_clips_without_a_difference_are_left_out() -> None:
    differences = np.array([0.5, math.nan, -0.25, 0.75, math.nan])
    assert float(sign_flip_test(differences)) == reference(differences[[0, 2, 3]])
    assert math.isnan(sign_flip_test([math.nan, math.nan]))
    assert float(sign_flip_test(np.zeros(5))) == 1
    assert float(sign_flip_test(np.zeros(50))) == 1


def test_many_sites_at_once_are_each_site_alone() -> None:
    generator = np.random.default_rng(2)
    differences = generator.normal(0.1, 1, (30, 3, 2))
    differences[generator.random(differences.shape) < 0.4] = math.nan  # about 18 clips: some exact, some drawn
    together = sign_flip_test(differences)
    assert together.shape == (3, 2)
    alone = [[float(sign_flip_test(differences[:, i, j])) for j in range(2)] for i in range(3)]
    np.testing.assert_allclose(together, alone, rtol=0, atol=2e-5)  # a sum may round to the other side of a draw
    assert len({int(n > EXACT_UP_TO) for n in np.isfinite(differences).sum(axis=0).ravel()}) == 2


def test_drawn_signs_come_close_to_all_signs(monkeypatch) -> None:
    differences = np.random.default_rng(3).normal(0.5, 1, 15)
    exact = float(sign_flip_test(differences))
    monkeypatch.setattr("vcorr.stats.sign_flips.EXACT_UP_TO", 0)
    drawn = float(sign_flip_test(differences))
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / FLIPS))


@pytest.mark.parametrize("clips", [2, 4, 6, 10, 20])
def test_without_a_difference_at_most_the_level_is_rejected(clips) -> None:
    generator = np.random.default_rng(4)
    skewed = generator.exponential(1, (2, clips, 400)) ** 2  # two rows of one heavy-tailed distribution
    p = sign_flip_test(skewed[0] - skewed[1])
    for level in (0.05, 0.2):
        allowed = level + 3 * math.sqrt(level * (1 - level) / 400)
        assert np.mean(p <= level) <= allowed


def test_a_difference_is_found() -> None:
    generator = np.random.default_rng(5)
    p = sign_flip_test(generator.normal(1, 1, (12, 200)))
    assert np.mean(p <= 0.05) > 0.8


def test_many_clips_and_sites_fit_into_little_memory() -> None:
    differences = np.random.default_rng(6).normal(0, 1, (16, 2000))
    tracemalloc.start()
    sign_flip_test(differences)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150e6  # all sums at once would be 524 MB


@pytest.mark.parametrize("wrong", [np.empty((0, 3)), 0.5, [math.inf, 1.0]])
def test_what_is_not_tested(wrong) -> None:
    with pytest.raises(UsageError, match="differences:"):
        sign_flip_test(wrong)


# ---------------------------------------------------------------------------------------------------------------- Holm


def stepwise(family) -> list[float]:
    """Returns the smallest level at which Holm rejects each value: in order, until one is too large for its step."""
    tests = sorted(p for p in family if not math.isnan(p))

    def rejects(p: float, level: float) -> bool:
        for i, value in enumerate(tests):
            if value > level / (len(tests) - i):
                return False
            if value == p:
                return True
        return False

    candidates = sorted({min(p * k, 1.0) for p in tests for k in range(1, len(tests) + 1)})
    return [
        math.nan if math.isnan(p) else next((c for c in candidates if rejects(p, c * (1 + 1e-12))), 1.0) for p in family
    ]


@fast
@given(p_values)
def test_holm_is_the_smallest_level_that_rejects(family) -> None:
    np.testing.assert_allclose(holm(family), stepwise(family), rtol=1e-9)


@fast
@given(p_values)
def test_holm_keeps_the_order_and_is_never_under_the_raw_value(family) -> None:
    adjusted, raw = holm(family), np.array(family)
    tests = np.isfinite(raw)
    assert np.isnan(adjusted[~tests]).all()
    assert (adjusted[tests] >= raw[tests]).all()
    assert (adjusted[tests] <= 1).all()
    assert (np.diff(adjusted[tests][np.argsort(raw[tests])]) >= 0).all()


def test_holm_of_a_family_by_hand() -> None:
    np.testing.assert_allclose(holm([[0.01, 0.04], [0.03, math.nan]]), [[0.03, 0.06], [0.06, math.nan]])
    assert holm([0.04]) == 0.04


@settings(max_examples=3, deadline=None, derandomize=True)
@given(arrays(np.float64, (5, 3), elements=eighths))
def test_a_family_without_a_difference_is_rejected_no_more_often_than_one_test(differences) -> None:
    # Bonferroni's bound for the smallest value, which Holm keeps
    p = sign_flip_test(differences)
    assert holm(p).min() == pytest.approx(min(1.0, 3 * p.min()))


# ------------------------------------------------------------------------------------------------- several comparisons

tables = st.tuples(st.integers(1, 7), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=eighths)
)


def joint_reference(differences) -> list[float]:
    """Changes the signs of a clip in all comparisons at once, and compares with the largest statistic."""
    sizes = [math.sqrt(math.fsum(column**2)) for column in differences.T]

    def statistics(signs):
        sums = [abs(math.fsum(signs * column)) for column in differences.T]
        return [total / size if size else 0.0 for total, size in zip(sums, sizes, strict=True)]

    clips = len(differences)
    largest = [max(statistics(np.array(signs))) for signs in itertools.product((1, -1), repeat=clips)]
    observed = statistics(np.ones(clips))
    return [
        sum(one >= each - 1e-6 for one in largest) / len(largest) if size else 1.0
        for each, size in zip(observed, sizes, strict=True)
    ]


@fast
@given(tables)
def test_p_of_several_comparisons_counts_the_largest_of_all(differences) -> None:
    assert joint_sign_flip_test(differences).tolist() == joint_reference(differences)


@fast
@given(tables)
def test_p_of_several_comparisons_is_at_least_the_p_of_one(differences) -> None:
    assert (joint_sign_flip_test(differences) >= sign_flip_test(differences) - 1e-12).all()
    assert joint_sign_flip_test(differences[:, :1]) == sign_flip_test(differences[:, :1])


def test_units_of_comparisons_do_not_matter_and_missing_clips_are_left_out() -> None:
    differences = np.random.default_rng(3).normal(0.4, 1, (9, 3))
    assert np.array_equal(joint_sign_flip_test(differences), joint_sign_flip_test(differences * [1, 1000, 0.001]))
    differences[:, 1] = np.nan
    found = joint_sign_flip_test(differences)
    assert np.isnan(found[1])
    assert np.array_equal(found[[0, 2]], joint_sign_flip_test(differences[:, [0, 2]]))


def test_of_many_comparisons_without_a_difference_few_tables_have_a_positive() -> None:
    generator = np.random.default_rng(4)
    tables_with_one = sum((joint_sign_flip_test(generator.normal(size=(8, 10))) <= 0.05).any() for _ in range(300))
    assert tables_with_one / 300 < 0.09
    differs = generator.normal(size=(8, 10)) + np.eye(10)[0] * 6
    assert joint_sign_flip_test(differs)[0] == smallest_p(8)
