"""Rankings over resampled clips: Kendall's tau against a loop over pairs, the rest against loops over resamples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import UsageError
from vcorr.stats import kendall_tau, rank_stability
from vcorr.stats.halves import Halves, split_clips
from vcorr.stats.resampling import resample_counts

fast = settings(max_examples=40, deadline=None, derandomize=True)


def slow_tau(x, y):
    """Counts every pair on its own."""
    score = tied_x = tied_y = 0
    pairs = [(i, j) for j in range(len(x)) for i in range(j)]
    for i, j in pairs:
        score += np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])
        tied_x += x[i] == x[j]
        tied_y += y[i] == y[j]
    scale = math.sqrt((len(pairs) - tied_x) * (len(pairs) - tied_y))
    return score / scale if scale else math.nan


def halves(clips):
    return split_clips([f"c{i:02d}" for i in range(clips)], mode="renoise")


def draw(seed, clips=8, sites=5):
    generator = np.random.default_rng(seed)
    score = generator.random((clips, sites))
    return score, np.full(score.shape, 0.1), np.full(score.shape, 0.9)


@fast
@given(seed=st.integers(0, 10_000), sites=st.integers(1, 20), values=st.sampled_from([2, 4, 1000]))
def test_tau_agrees_with_the_loop_over_pairs(seed, sites, values):
    generator = np.random.default_rng(seed)
    x, y = generator.integers(0, values, sites).astype(float), generator.integers(0, values, (4, sites)).astype(float)
    np.testing.assert_allclose(kendall_tau(x, y), [slow_tau(x, row) for row in y], atol=1e-12)


@pytest.mark.parametrize(
    ("x", "y", "tau"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1),
        ([1, 2, 3, 4], [1, 2, 4, 3], 4 / 6),
        ([1, 1, 2], [1, 2, 3], 2 / math.sqrt(2 * 3)),
    ],
)
def test_tau_by_construction(x, y, tau):
    assert kendall_tau(x, [y])[0] == pytest.approx(tau)


def test_tau_of_nothing_to_rank():
    assert np.isnan(kendall_tau([1, 1], [[1, 2], [2, 2]])).all()
    assert np.isnan(kendall_tau([1], [[1]])).all()


@fast
@given(seed=st.integers(0, 10_000), clips=st.integers(2, 9), sites=st.integers(2, 6))
def test_it_agrees_with_loops_over_resamples(seed, clips, sites):
    score, floor, ceiling = draw(seed, clips, sites)
    found = rank_stability(halves(clips), score, floor, ceiling, resamples=20, seed=seed)
    full = [(np.mean(score[:, s]) - 0.1) / 0.8 for s in range(sites)]
    np.testing.assert_allclose(found.values, full)
    taus, wins = [], [0] * sites
    for counts in resample_counts(clips, 20, seed):
        kept = [c for c in range(clips) for _ in range(int(counts[c]))]
        values = [(sum(score[c, s] for c in kept) / clips - 0.1) / 0.8 for s in range(sites)]
        taus.append(slow_tau(full, values))
        wins[int(np.argmax(values))] += 1
    assert found.tau == pytest.approx(np.mean(taus))
    assert [found.tau_low, found.tau_high] == pytest.approx(list(np.quantile(taus, [0.025, 0.975])))
    np.testing.assert_allclose(found.wins, np.array(wins) / 20)
    assert found.stays_best == found.wins[found.best]
    assert found.left_out == 0
    one, two = (score[half].mean(axis=0) for half in halves(clips))
    assert found.tau_halves == pytest.approx(slow_tau(one, two))


def test_a_ranking_that_all_clips_share_is_certain():
    score, floor, ceiling = draw(0)
    score[:] = score[:, :1] * 0.01 + np.array([0.3, 0.5, 0.2, 0.6, 0.4])
    found = rank_stability(halves(8), score, floor, ceiling)
    assert (found.best, found.stays_best) == (3, 1)
    assert found.tau == found.tau_low == found.tau_high == found.tau_halves == 1


def test_sites_alike_but_for_noise_are_not_certain():
    generator = np.random.default_rng(0)
    score = 0.5 + generator.normal(0, 0.1, (16, 40))
    found = rank_stability(halves(16), score, np.zeros_like(score), np.ones_like(score))
    assert found.stays_best < 0.7
    assert abs(found.tau_halves) < 0.3
    assert found.tau > found.tau_halves + 0.3, "a resample shares most clips with the whole: its tau flatters"


@fast
@given(seed=st.integers(0, 10_000))
def test_the_order_of_clips_does_not_matter_to_the_halves(seed):
    score, floor, ceiling = draw(seed)
    order = np.random.default_rng(seed).permutation(8)
    one = rank_stability(halves(8), score, floor, ceiling, resamples=10)
    moved = Halves(*(np.flatnonzero(np.isin(order, half)) for half in halves(8)))
    two = rank_stability(moved, score[order], floor, ceiling, resamples=10)
    assert one.tau_halves == pytest.approx(two.tau_halves)
    np.testing.assert_allclose(one.values, two.values)


def test_sites_that_never_differ_share_what_they_win():
    score, floor, ceiling = draw(0, sites=3)
    score[:, 1] = score[:, 0]
    score[:, 2] = 0.01
    found = rank_stability(halves(8), score, floor, ceiling)
    assert (found.best, found.stays_best) == (0, 0.5)
    assert found.wins.tolist() == [0.5, 0.5, 0]
    constant = rank_stability(halves(8), np.full_like(score, 0.3), floor, ceiling)
    np.testing.assert_allclose(constant.wins, 1 / 3)
    assert math.isnan(constant.tau), "nothing is ranked where all are equal"


def test_sites_and_resamples_without_skill():
    score, floor, ceiling = draw(0, clips=4)
    score[:, 2] = np.nan
    score[:3, 1] = np.nan  # a resample without clip 3 has no skill there
    found = rank_stability(halves(4), score, floor, ceiling, resamples=200)
    assert np.isnan(found.values).tolist() == [False, False, True, False, False]
    assert np.isnan(found.wins[2])
    assert np.nansum(found.wins) == pytest.approx(1)
    assert 30 < found.left_out < 100, "(3/4)^4 of the resamples are without it"
    alone = rank_stability(halves(1), score[3:], floor[3:], ceiling[3:])
    assert math.isnan(alone.tau)
    assert math.isnan(alone.stays_best)
    assert math.isnan(alone.tau_halves)


def test_refusals():
    score, floor, ceiling = draw(0)
    with pytest.raises(UsageError, match="No site has skill"):
        rank_stability(halves(8), score, floor, floor)
    with pytest.raises(UsageError, match=r"expected \(clips, sites\)"):
        rank_stability(halves(7), score, floor, ceiling)
    with pytest.raises(UsageError, match="seed: expected a whole number"):
        rank_stability(halves(8), score, floor, ceiling, seed=-1)
