"""Skill, bootstrap intervals against slow loops, the NaN policy, and the choice of a site."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import UsageError
from vcorr.stats import (
    Bounded,
    bootstrap_mean,
    bootstrap_skill,
    choose_and_report,
    compare_means,
    compare_skills,
    skill,
)
from vcorr.stats.bootstrap import resample_counts

fast = settings(max_examples=30, deadline=None, derandomize=True)
shapes = st.tuples(st.integers(1, 7), st.integers(0, 4))


def draw(seed, shape, nan=0.2):
    generator = np.random.default_rng(seed)
    values = generator.random(shape)
    values[generator.random(shape) < nan] = np.nan
    return values


def slow_interval(rows, statistic, resamples, seed, level=0.95):
    """Resamples one site with lists of clips, drawn one by one. rows: (clips,) arrays that are resampled together."""
    clips = len(rows[0])
    kept = [clip for clip in range(clips) if all(np.isfinite(row[clip]) for row in rows)]
    estimate = statistic(*(np.mean([row[c] for c in kept]) for row in rows)) if kept else math.nan
    if len(kept) < 2 or math.isnan(estimate):
        return estimate, math.nan, math.nan, len(kept)
    values = []
    for counts in resample_counts(clips, resamples, seed):
        drawn = [clip for clip in kept for _ in range(int(counts[clip]))]
        if drawn:
            value = float(statistic(*(np.mean([row[c] for c in drawn]) for row in rows)))
            if not math.isnan(value):
                values.append(value)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return estimate, low, high, len(kept)


def check(interval, rows, statistic, resamples, seed):
    shape = rows[0].shape[1:]
    for field in (interval.estimate, interval.low, interval.high, interval.n, interval.left_out):
        assert field.shape == shape
    for site in np.ndindex(shape):
        expected = slow_interval([row[:, *site] for row in rows], statistic, resamples, seed)
        got = [float(field[site]) for field in (interval.estimate, interval.low, interval.high, interval.n)]
        np.testing.assert_allclose(got, expected, atol=1e-9)
        assert interval.n[site] + interval.left_out[site] == len(rows[0])


# -------------------------------------------------------------------------------------------------------------- skill


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


def test_skill_is_of_means_not_a_mean_of_skills():
    score, floor, ceiling = np.array([[0.5], [0.9]]), np.array([[0.5], [0.1]]), np.array([[0.5], [1.0]])
    assert bootstrap_skill(score, floor, ceiling).estimate[0] == pytest.approx((0.7 - 0.3) / (0.75 - 0.3))


# ---------------------------------------------------------------------------------------------------------- intervals


@fast
@given(shape=shapes, seed=st.integers(0, 1000), nan=st.sampled_from([0, 0.2, 0.7]))
def test_bootstrap_of_means_agrees_with_the_loops(shape, seed, nan):
    values = draw(seed, shape, nan)
    check(bootstrap_mean(values, resamples=25, seed=seed), [values], lambda mean: mean, 25, seed)


@fast
@given(shape=shapes, seed=st.integers(0, 1000))
def test_bootstrap_of_skill_agrees_with_the_loops(shape, seed):
    score, floor, ceiling = (draw(seed + i, shape) for i in range(3))
    ceiling += 0.3
    interval = bootstrap_skill(score, floor, ceiling, resamples=25, seed=seed)
    check(interval, [score, floor, ceiling], skill, 25, seed)


@fast
@given(shape=shapes, seed=st.integers(0, 1000))
def test_paired_difference_agrees_with_the_loops(shape, seed):
    a, b = draw(seed, shape), draw(seed + 1, shape)
    check(compare_means(a, b, resamples=25, seed=seed), [a, b], lambda x, y: x - y, 25, seed)
    rows = [draw(seed + i, shape, nan=0.05) for i in range(6)]
    interval = compare_skills(Bounded(*rows[:3]), Bounded(*rows[3:]), resamples=25, seed=seed)
    check(interval, rows, lambda *m: skill(*m[:3]) - skill(*m[3:]), 25, seed)


def test_pairing_removes_what_the_clips_share():
    generator = np.random.default_rng(0)
    difficulty = generator.random(64)
    a, b = difficulty + 0.05 + generator.normal(0, 0.01, 64), difficulty + generator.normal(0, 0.01, 64)
    difference = compare_means(a, b)
    assert difference.low > 0.04
    assert difference.high < 0.06
    assert bootstrap_mean(a).high - bootstrap_mean(a).low > 0.1
    assert compare_means(a, a).low == compare_means(a, a).high == 0


def test_intervals_cover_as_often_as_they_say():
    generator = np.random.default_rng(1)
    clips = generator.normal(0.5, 0.2, (64, 2000))
    interval = bootstrap_mean(clips, resamples=500, seed=3)
    covered = ((interval.low <= 0.5) & (interval.high >= 0.5)).mean()
    assert 0.92 < covered < 0.96
    few = bootstrap_mean(clips[:8], resamples=500, seed=3)
    assert 0.86 < ((few.low <= 0.5) & (few.high >= 0.5)).mean() < 0.91, "the figure of docs/statistics.md"
    narrow = bootstrap_mean(clips, resamples=500, seed=3, level=0.5)
    assert (narrow.high - narrow.low < interval.high - interval.low).all()


def test_same_seed_same_interval_whatever_else_is_there():
    values = draw(0, (16, 1100))
    whole, again = bootstrap_mean(values, seed=5), bootstrap_mean(values, seed=5)
    np.testing.assert_array_equal(whole.low, again.low)
    part = bootstrap_mean(values[:, 700:703], seed=5)
    np.testing.assert_allclose(part.low, whole.low[700:703], rtol=1e-12)
    assert (bootstrap_mean(values, seed=6).low != whole.low).any()
    np.testing.assert_allclose(bootstrap_mean(values.reshape(16, 11, 100), seed=5).high, whole.high.reshape(11, 100))


def test_one_clip_or_none_has_no_interval():
    interval = bootstrap_mean([[0.5, np.nan, 0.2], [np.nan, np.nan, 0.4]])
    np.testing.assert_allclose(interval.estimate, [0.5, np.nan, 0.3])
    assert np.isnan(interval.low).tolist() == [True, True, False]
    assert interval.n.tolist() == [1, 0, 2]
    assert interval.left_out.tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_mean(0.5), "values: expected"),
        (lambda: bootstrap_mean(np.empty((0, 3))), "at least one clip"),
        (lambda: bootstrap_mean([np.inf, 1]), "infinite"),
        (lambda: bootstrap_mean([0.5], resamples=0), "resamples"),
        (lambda: bootstrap_mean([0.5], level=95), "level"),
        (lambda: bootstrap_mean([0.5], seed=-1), "seed: expected a whole number of at least 0, got -1"),
        (lambda: bootstrap_mean([0.5], seed=None), "seed: .* got None"),
        (lambda: bootstrap_skill([1, 2], [1], [1, 2]), r"floor \(1,\)"),
        (lambda: compare_means([1, 2], [1]), r"b \(1,\)"),
        (lambda: compare_skills(Bounded([1], [1], [1]), Bounded([1], [1, 2], [1])), r"b.floor \(2,\)"),
    ],
)
def test_interval_refusals(call, message):
    with pytest.raises(UsageError, match=message):
        call()


# ------------------------------------------------------------------------------------------------------------- choice


def test_choice_by_construction():
    ids = ["c", "a", "d", "b"]  # sorted: a and c choose, b and d report
    score = np.array([[0.1, 0.9], [0.1, 0.7], [0.8, 0.2], [0.6, 0.4]])
    choice = choose_and_report(ids, score)
    assert choice.chosen_on == ("a", "c")
    assert choice.reported_on == ("b", "d")
    assert choice.site == 1
    assert choice.chosen_value == pytest.approx(0.8)
    assert choice.value == pytest.approx(0.3)
    assert choice.best_site == 0
    assert choice.best_value == pytest.approx(0.7)
    assert choice.regret == pytest.approx(0.4)
    assert choice.interval.n == 2
    assert choice.interval.low <= choice.value <= choice.interval.high


def test_choice_of_errors_takes_the_lowest():
    choice = choose_and_report(list("abcd"), [[1, 3], [2, 1], [1, 3], [2, 1]], higher_is_better=False)
    assert (choice.site, choice.best_site) == (0, 1)
    assert choice.value == 2
    assert choice.regret == 1


def test_choice_by_skill():
    ids = list("abcd")
    score = np.tile([0.6, 0.5], (4, 1))
    floor, ceiling = np.tile([0.5, 0.1], (4, 1)), np.tile([0.9, 0.9], (4, 1))
    assert choose_and_report(ids, score).site == 0
    choice = choose_and_report(ids, score, floor=floor, ceiling=ceiling)
    assert choice.site == 1
    assert choice.value == pytest.approx(0.5)
    assert choice.regret == 0


@fast
@given(seed=st.integers(0, 1000), clips=st.integers(2, 9), sites=st.integers(1, 5), nan=st.sampled_from([0, 0.3, 1.0]))
def test_choice_does_not_depend_on_the_order_of_clips(seed, clips, sites, nan):
    ids = [f"clip-{n:02d}" for n in range(clips)]
    score = draw(seed, (clips, sites), nan)
    order = np.random.default_rng(seed).permutation(clips)
    choice = choose_and_report(ids, score, resamples=20)
    shuffled = choose_and_report([ids[n] for n in order], score[order], resamples=20)
    assert repr(choice) == repr(shuffled)
    assert math.isnan(choice.regret) or choice.regret >= 0
    if nan == 1.0:
        assert choice.site is None
        assert choice.best_site is None
        assert math.isnan(choice.value)
        assert math.isnan(choice.regret)


def test_site_without_value_is_not_chosen():
    choice = choose_and_report(["a", "b"], [[np.nan, 0.2], [0.9, 0.3]])
    assert choice.site == 1
    assert choice.regret == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: choose_and_report(["a"], [[0.5]]), "on the same clip"),
        (lambda: choose_and_report(["a", "a"], [[0.5], [0.5]]), "clip_ids"),
        (lambda: choose_and_report(["a", "b", "c"], [[0.5], [0.5]]), "clip_ids"),
        (lambda: choose_and_report(["a", "b"], [0.5, 0.5]), "score: expected"),
        (lambda: choose_and_report(["a", "b"], [[0.5], [0.5]], floor=[[0], [0]]), "floor and ceiling"),
        (lambda: choose_and_report(["a", "b"], [[0.5], [0.5]], floor=[[0, 1]], ceiling=[[0, 1]]), "score: expected"),
    ],
)
def test_choice_refusals(call, message):
    with pytest.raises(UsageError, match=message):
        call()
