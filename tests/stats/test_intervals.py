"""Student's t and the delta method against slow references; what has no interval, and why."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import UsageError
from vcorr.stats.intervals import (
    Bounded,
    compare_gains,
    compare_means,
    compare_skills,
    gain,
    gain_differences,
    gain_interval,
    linear_gains,
    linear_skills,
    mean_interval,
    no_interval_reason,
    skill,
    skill_differences,
    skill_interval,
)
from vcorr.stats.student_t import t_quantile

fast = settings(max_examples=30, deadline=None, derandomize=True)
shapes = st.tuples(st.integers(1, 12), st.integers(0, 4))
# two-sided 95 % points, from the tables of Student's t (Fisher and Yates)
T_95 = {
    1: 12.706205,
    2: 4.302653,
    3: 3.182446,
    4: 2.776445,
    5: 2.570582,
    6: 2.446912,
    7: 2.364624,
    8: 2.306004,
    9: 2.262157,
    10: 2.228139,
    11: 2.200985,
}
TABLE = [
    (1, 0.995, 63.657),
    (2, 0.9, 1.886),
    (5, 0.995, 4.032),
    (7, 0.9995, 5.408),
    (30, 0.975, 2.042),
    (120, 0.95, 1.658),
]


def draw(seed, shape, nan=0.2):
    generator = np.random.default_rng(seed)
    values = generator.random(shape)
    values[generator.random(shape) < nan] = np.nan
    return values


def slow_interval(rows, weigh):
    """Computes one site with lists. rows: (clips,) arrays. weigh: estimate, deviations, effective number of clips."""
    kept = [clip for clip in range(len(rows[0])) if all(np.isfinite(row[clip]) for row in rows)]
    if not kept:
        return math.nan, math.nan, math.nan, 0
    n = len(kept)
    estimate, deviations, effective = weigh(*([float(row[clip]) for clip in kept] for row in rows))
    if n < 6 or effective < 4 or math.isnan(estimate):
        return estimate, math.nan, math.nan, n
    half = T_95[n - 1] * math.sqrt(sum(value**2 for value in deviations) / (n - 1) / n)
    return estimate, estimate - half, estimate + half, n


def slow_mean(x):
    mean = sum(x) / len(x)
    return mean, [value - mean for value in x], len(x)


def slow_ratio(s, f, c):
    """Returns the skill, and how it changes if each clip is left out in turn."""
    n, total = len(s), sum(c) - sum(f)
    effective = total**2 / sum((b - a) ** 2 for a, b in zip(f, c, strict=True))
    if total / n < 0.02:
        return math.nan, [], effective
    ratio = (sum(s) - sum(f)) / total
    without = [(sum(s) - s[i] - sum(f) + f[i]) / (total - c[i] + f[i]) if n > 1 else ratio for i in range(n)]
    return ratio, [(n - 1) * (ratio - other) for other in without], effective


def slow_difference(one, two):
    return one[0] - two[0], [x - y for x, y in zip(one[1], two[1], strict=False)], min(one[2], two[2])


def check(interval, rows, weigh):
    shape = rows[0].shape[1:]
    for field in (interval.estimate, interval.low, interval.high, interval.n, interval.left_out):
        assert field.shape == shape
    for site in np.ndindex(shape):
        expected = slow_interval([row[:, *site] for row in rows], weigh)
        got = [float(field[site]) for field in (interval.estimate, interval.low, interval.high, interval.n)]
        digits = 1e-6 * (1 + np.nan_to_num(expected[2] - expected[1]))
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=digits)
        assert interval.n[site] + interval.left_out[site] == len(rows[0])
        assert bool(no_interval_reason(interval, *site)) == math.isnan(got[1])


# ---------------------------------------------------------------------------------------------------------- Student's t


@pytest.mark.parametrize(("df", "p", "expected"), [*TABLE, *((df, 0.975, t) for df, t in T_95.items())])
def test_quantiles_of_t_are_the_published_ones(df, p, expected):
    assert t_quantile(p, df) == pytest.approx(expected, abs=6e-4)
    assert t_quantile(1 - p, df) == -t_quantile(p, df)


def test_quantiles_of_t_agree_with_the_density_and_end_at_the_normal_ones():
    for df in (1, 2, 3, 6, 31):
        end = t_quantile(0.9, df)
        x = np.linspace(0, end, 200_001)
        scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
        assert np.trapezoid(scale * (1 + x**2 / df) ** (-(df + 1) / 2), x) == pytest.approx(0.4, abs=1e-9)
    assert t_quantile(0.975, 100_000) == pytest.approx(1.95996, abs=1e-4)


# -------------------------------------------------------------------------------------------------------------- ratios


def test_skill_by_construction():
    assert skill(0.6, 0.2, 0.9) == pytest.approx(4 / 7)
    assert skill(0.2, 0.2, 0.9) == 0
    assert skill(0.9, 0.2, 0.9) == 1
    assert skill(0.1, 0.2, 0.9) < 0
    np.testing.assert_allclose(skill([0.5, 0.5], [0.5, 0.25], [0.519, 0.75]), [np.nan, 0.5])
    assert skill(0.01, 0.0, 0.02) == 0.5, "a range of exactly 0.02 is enough"
    assert math.isnan(skill(0.5, 0.9, 0.1)), "a ceiling under the floor is no range"
    for gone in range(3):
        assert math.isnan(skill(*(np.nan if i == gone else v for i, v in enumerate((0.5, 0.2, 0.9)))))


def test_gain_by_construction():
    assert gain(0.6, 0.2) == pytest.approx(0.5)
    assert gain(0.2, 0.2) == 0
    assert math.isnan(gain(0.99, 0.985)), "almost everything stands still"
    np.testing.assert_allclose(gain([1.0, np.nan], [0.3, 0.3]), [1.0, np.nan])


def test_skill_is_of_means_not_a_mean_of_skills():
    score, floor, ceiling = np.array([[0.5], [0.9]]), np.array([[0.5], [0.1]]), np.array([[0.5], [1.0]])
    assert skill_interval(score, floor, ceiling).estimate[0] == pytest.approx((0.7 - 0.3) / (0.75 - 0.3))


@fast
@given(shape=shapes, seed=st.integers(0, 1000))
def test_linearised_values_have_the_skill_as_their_mean(shape, seed):
    score, floor, ceiling = draw(seed, shape), draw(seed + 1, shape, 0), 0.3 + draw(seed + 2, shape, 0.1)
    linear, interval = linear_skills(score, floor, ceiling), skill_interval(score, floor, ceiling)
    gone = ~np.isfinite(score + floor + ceiling) | np.isnan(interval.estimate)
    np.testing.assert_array_equal(np.isnan(linear), gone)
    sums = np.where(gone, 0, linear).sum(axis=0)
    np.testing.assert_allclose(sums, np.nan_to_num(interval.estimate) * (~gone).sum(axis=0), atol=1e-9)
    np.testing.assert_allclose(linear_gains(score, floor), linear_skills(score, floor, np.ones(shape)))


# ---------------------------------------------------------------------------------------------------------- intervals


@fast
@given(shape=shapes, seed=st.integers(0, 1000), nan=st.sampled_from([0, 0.2, 0.7]))
def test_intervals_of_means_agree_with_the_loops(shape, seed, nan):
    values = draw(seed, shape, nan)
    check(mean_interval(values), [values], slow_mean)


@fast
@given(shape=shapes, seed=st.integers(0, 1000))
def test_intervals_of_skill_and_gain_agree_with_the_loops(shape, seed):
    score, floor, ceiling = (draw(seed + i, shape, 0.05) for i in range(3))
    ceiling += 0.3
    check(skill_interval(score, floor, ceiling), [score, floor, ceiling], slow_ratio)
    check(gain_interval(score, floor), [score, floor], lambda s, f: slow_ratio(s, f, [1.0] * len(s)))


@fast
@given(shape=shapes, seed=st.integers(0, 1000))
def test_paired_differences_agree_with_the_loops(shape, seed):
    rows = [draw(seed + i, shape, nan=0.03) + 0.3 * (i % 3 == 2) for i in range(6)]
    a, b = Bounded(*rows[:3]), Bounded(*rows[3:])

    def difference(*x):
        return slow_difference(slow_ratio(*x[:3]), slow_ratio(*x[3:]))

    means = [rows[0], rows[3]]
    check(compare_means(*means), means, lambda x, y: slow_mean([p - q for p, q in zip(x, y, strict=True)]))
    check(compare_skills(a, b), rows, difference)
    one = [1.0] * shape[0]
    without = [rows[i] for i in (0, 1, 3, 4)]
    check(compare_gains(a, b), without, lambda s, f, t, g: difference(s, f, one[: len(s)], t, g, one[: len(s)]))
    for values, interval in (
        (skill_differences(a, b), compare_skills(a, b)),
        (gain_differences(a, b), compare_gains(a, b)),
    ):
        np.testing.assert_allclose(
            np.nansum(values, axis=0), np.nan_to_num(interval.estimate) * np.isfinite(values).sum(axis=0), atol=1e-9
        )
    np.testing.assert_array_equal(compare_skills(b, a).low, -compare_skills(a, b).high)


def test_intervals_are_the_delta_method_where_ranges_are_alike_and_close_to_it_elsewhere():
    generator = np.random.default_rng(3)
    floor = generator.uniform(0.2, 0.6, 24)
    for spread in (0.0, 0.1):
        ceiling = floor + 0.3 + generator.uniform(-spread, spread, 24)
        score = floor + (ceiling - floor) * generator.uniform(0.2, 0.9, 24)
        interval, plain = skill_interval(score, floor, ceiling), mean_interval(linear_skills(score, floor, ceiling))
        assert interval.estimate == pytest.approx(float(plain.estimate))
        assert interval.high == pytest.approx(float(plain.high), rel=1e-9 if not spread else 0.01)
        assert interval.high >= plain.high or not spread


def test_pairing_removes_what_the_clips_share():
    generator = np.random.default_rng(0)
    difficulty = generator.random(64)
    a, b = difficulty + 0.05 + generator.normal(0, 0.01, 64), difficulty + generator.normal(0, 0.01, 64)
    difference = compare_means(a, b)
    assert 0.04 < difference.low < difference.high < 0.06
    assert mean_interval(a).high - mean_interval(a).low > 0.1


@pytest.mark.parametrize("clips", [6, 8, 32])
def test_intervals_cover_as_often_as_they_say(clips):
    generator = np.random.default_rng(1)
    means = mean_interval(generator.normal(0.5, 0.2, (clips, 4000)))
    assert 0.94 < ((means.low <= 0.5) & (means.high >= 0.5)).mean() < 0.96
    floor = generator.uniform(0.3, 0.7, (clips, 4000))
    ceiling = floor + generator.uniform(0.2, 0.3, (clips, 4000))
    score = floor + (ceiling - floor) * generator.beta(6, 2, (clips, 4000))
    skills = skill_interval(score, floor, ceiling)
    assert 0.92 < ((skills.low <= 0.75) & (skills.high >= 0.75)).mean() < 0.97


def test_the_order_of_clips_and_other_sites_do_not_count():
    values = draw(0, (16, 5000))
    whole = mean_interval(values)
    np.testing.assert_allclose(mean_interval(values[::-1]).low, whole.low, rtol=1e-9)
    np.testing.assert_array_equal(mean_interval(values[:, 4000:4003]).low, whole.low[4000:4003])
    np.testing.assert_array_equal(mean_interval(values.reshape(16, 50, 100)).high, whole.high.reshape(50, 100))
    narrow = mean_interval(values, level=0.5)
    assert (narrow.high - narrow.low < whole.high - whole.low).all()


# ---------------------------------------------------------------------------------------------------------- no interval


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "no clip counts"),
        ([0.4], "1 clip, and an interval needs 6"),
        ([0.1, 0.4, 0.3, 0.9, 0.5], "5 clips, and an interval needs 6"),
        ([0.5] * 8, "all 8 clips agree: without variance there is no interval"),
        ([0.1, 0.4, 0.3, 0.9, 0.5, 0.6], ""),
    ],
)
def test_without_an_interval_there_is_a_reason(values, reason):
    interval = mean_interval([*values, math.nan])
    assert no_interval_reason(interval) == reason
    assert math.isnan(interval.low) == math.isnan(interval.high) == bool(reason)
    assert (interval.n, interval.left_out) == (len(values), 1)


def test_clips_that_hardly_move_have_no_skill_and_no_interval():
    interval = skill_interval(np.linspace(0.5, 0.6, 8), np.full(8, 0.5), np.full(8, 0.51))
    assert math.isnan(interval.estimate)
    assert no_interval_reason(interval) == "the bounds are closer than 0.02, so no score can tell good from bad"


@pytest.mark.parametrize(("still", "known"), [(0, True), (3, True), (4, True), (5, False), (7, False)])
def test_a_range_that_comes_from_too_few_clips_gives_no_interval(still, known):
    floor = np.full(8, 0.4)
    floor[:still] = 0.999
    score = floor + (1 - floor) * np.linspace(0.3, 0.9, 8)[::-1]
    interval = skill_interval(score, floor, np.ones(8))
    assert interval.with_range == pytest.approx(8 - still, abs=0.05)
    assert math.isfinite(interval.low) is known
    few = "too few of 8 clips move: nearly all of the range between floor and ceiling is theirs"
    assert no_interval_reason(interval) == ("" if known else few)
    assert math.isfinite(gain_interval(score, floor).low) is known


def test_intervals_cover_where_half_of_the_clips_stand_still():
    generator = np.random.default_rng(4)
    moved = generator.uniform(0.1, 0.6, (16, 4000)) * (generator.random((16, 4000)) < 0.5)
    floor = 1 - moved - generator.uniform(0, 0.01, moved.shape)
    skills = generator.beta(4, 2, moved.shape)
    score = floor + (1 - floor) * skills
    plain = mean_interval(linear_skills(score, floor, np.ones(moved.shape)))
    for interval, least, most in (
        (skill_interval(score, floor, np.ones(moved.shape)), 0.905, 0.94),
        (plain, 0.87, 0.9),
    ):
        inside = (interval.low <= 4 / 6) & (interval.high >= 4 / 6)
        assert least < inside[np.isfinite(interval.low)].mean() < most


@fast
@given(seed=st.integers(0, 1000), clips=st.integers(6, 40), skill_of_all=st.floats(-0.5, 1))
def test_rounding_is_no_variance(seed, clips, skill_of_all):
    # all clips have the same skill, difference or value; only rounding errors of 32 bits remain
    generator = np.random.default_rng(seed)
    floor, span = generator.random(clips) * 0.5, 0.03 + generator.random(clips) * 0.4
    single = [x.astype(np.float32) for x in (floor + skill_of_all * span, floor, floor + span)]
    assert math.isnan(skill_interval(*single).low)
    shifted = (floor + span + 0.1 * skill_of_all).astype(np.float32)
    assert math.isnan(compare_means(shifted, single[2]).low)
    assert math.isnan(compare_skills(Bounded(*single), Bounded(*single)).low), "a side compared with itself"
    real = skill_interval(single[0] + generator.normal(0, 0.01, clips), *single[1:])
    assert real.low < real.high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_interval(0.5), "values: expected"),
        (lambda: mean_interval(np.empty((0, 3))), "at least one clip"),
        (lambda: mean_interval([np.inf, 1]), "infinite"),
        (lambda: mean_interval([0.5], level=95), "level"),
        (lambda: skill_interval([1, 2], [1], [1, 2]), r"floor \(1,\)"),
        (lambda: compare_means([1, 2], [1]), r"b \(1,\)"),
        (lambda: compare_skills(Bounded([1], [1], [1]), Bounded([1], [1, 2], [1])), r"b.floor \(2,\)"),
        (lambda: compare_gains(Bounded([1], [1], [1]), Bounded([1], [1, 2], [1])), r"b.floor \(2,\)"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(UsageError, match=message):
        call()
