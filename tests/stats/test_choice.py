"""The cross-fitted choice: by construction, against a slow reference, its properties, and the bias of its regret."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import UsageError
from vcorr.stats.choice import NOWHERE, cross_fit
from vcorr.stats.halves import Halves, split_clips
from vcorr.stats.intervals import Bounded, skill

fast = settings(max_examples=40, deadline=None, derandomize=True)


def halves_of(clips):
    return split_clips([f"clip-{n:02d}" for n in range(clips)], mode="renoise")


def even_odd(clips):
    return Halves(np.arange(0, clips, 2), np.arange(1, clips, 2))


def make_scores(seed, clips, sites, gone=0.0):
    """Scores with floors and ceilings. gone: share of clips without any score."""
    generator = np.random.default_rng(seed)
    floor = np.repeat(generator.uniform(0.2, 0.6, (clips, 1)), sites, axis=1)
    ceiling = floor + generator.uniform(0.2, 0.4, (clips, 1))
    score = floor + (ceiling - floor) * generator.random((clips, sites))
    score[generator.random(clips) < gone] = np.nan
    return Bounded(score, floor, ceiling)


def slow_best(scores, clips):
    """Returns the first site with the highest skill on these clips; None without any."""
    values = [float(skill(*(part[clips, site].mean() for part in scores))) for site in range(scores[0].shape[1])]
    known = [site for site, value in enumerate(values) if not math.isnan(value)]
    return max(known, key=lambda site: (values[site], -site)) if known else None


def slow_regret(scores, scored, reports):
    """Returns the regret with one choice per clip, by all other clips."""
    wished = [slow_best(scores, [i for i in scored if i != clip]) for clip in scored]
    means = [[np.mean([part[clip, at] for clip, at in zip(scored, sites, strict=True)]) for part in scores]
             for sites in (wished, [reports[clip] for clip in scored])]  # fmt: skip
    return float(skill(*means[0]) - skill(*means[1]))


# ------------------------------------------------------------------------------------------------------ by construction


def test_each_half_chooses_and_the_other_reports():
    score = np.array([[0.1, 0.9], [0.8, 0.2], [0.1, 0.7], [0.6, 0.4]])
    fit = cross_fit(score, None, None, even_odd(4))
    assert fit.chosen == (1, 0)
    assert fit.reports.tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(fit.pooled.score, [0.1, 0.2, 0.1, 0.4])
    assert fit.differs
    assert (fit.held_out, fit.chosen_on, fit.candidates, fit.incomplete, fit.tied) == (True, 2, 2, 0, (1, 1))
    # without clip 0 the first site is best (0.5 and 0.43), without clip 1 the second, and so on
    assert fit.regret == pytest.approx((0.1 + 0.2 + 0.1 + 0.4) / 4 - 0.2)


def test_regret_by_construction():
    score = np.array([[0.6, 0.0]] * 2 + [[0.4, 0.5]] * 2 + [[0.6, 0.5]] * 4)
    fit = cross_fit(score, None, None, Halves(np.array([2, 3]), np.array([0, 1, 4, 5, 6, 7])))
    assert fit.chosen == (1, 0), "two clips misjudge; the six others report at their choice"
    assert fit.regret == pytest.approx((2 * 0.6 + 4 * 0.1) / 8)


def test_errors_take_the_lowest():
    fit = cross_fit([[1, 3], [1, 3], [1, 3], [1, 3]], None, None, even_odd(4), higher_is_better=False)
    assert fit.chosen == (0, 0)
    np.testing.assert_array_equal(fit.pooled.score, [1, 1, 1, 1])
    assert not fit.differs
    assert fit.regret == 0


def test_the_choice_is_by_skill():
    score = np.tile([0.6, 0.5], (4, 1))
    floor, ceiling = np.tile([0.5, 0.1], (4, 1)), np.tile([0.9, 0.9], (4, 1))
    assert cross_fit(score, None, None, even_odd(4)).chosen == (0, 0)
    fit = cross_fit(score, floor, ceiling, even_odd(4))
    assert fit.chosen == (1, 1)
    np.testing.assert_array_equal(fit.pooled.floor, [0.1] * 4)
    lower = cross_fit(-score, -floor, -ceiling, even_odd(4), higher_is_better=False)
    assert (lower.chosen, lower.regret) == (fit.chosen, fit.regret)


def test_all_ties_are_seen():
    fit = cross_fit(np.tile([[0.2, 0.2, 0.2]], (8, 1)), None, None, even_odd(8))
    assert fit.all_tied
    assert (fit.chosen, fit.tied, fit.regret) == ((0, 0), (3, 3), 0)
    sums = np.array([[0.1, 0.3], [0.2, 0.2], [0.3, 0.1], [0.1, 0.3], [0.2, 0.2], [0.3, 0.1]])
    fit = cross_fit(sums, None, None, Halves(np.array([0, 1, 2]), np.array([3, 4, 5])))
    assert fit.all_tied, "sums of the same numbers are equal in any order"
    assert not cross_fit([[0.2, 0.3]] * 4, None, None, even_odd(4)).all_tied


# -------------------------------------------------------------------------------------------------- slow and properties


@fast
@given(seed=st.integers(0, 1000), clips=st.integers(4, 14), sites=st.integers(2, 5), gone=st.sampled_from([0, 0.3]))
def test_it_agrees_with_the_loops(seed, clips, sites, gone):
    scores, halves = make_scores(seed, clips, sites, gone), halves_of(clips)
    fit = cross_fit(*scores, halves)
    scored = [clip for clip in range(clips) if np.isfinite(scores.score[clip, 0])]
    if len(scored) < 4:
        best = slow_best(scores, scored) if scored else None
        assert (fit.chosen, fit.held_out, fit.chosen_on) == ((best, best), False, 0)
        assert math.isnan(fit.regret)
        return
    chosen = tuple(slow_best(scores, [clip for clip in half if clip in scored]) for half in halves)
    assert (fit.chosen, fit.held_out) == (chosen, True)
    for clip in range(clips):
        other = chosen[1] if clip in halves.first else chosen[0]
        assert fit.reports[clip] == (NOWHERE if other is None else other)
        np.testing.assert_array_equal(fit.pooled.score[clip], np.nan if other is None else scores.score[clip, other])
    if None in chosen:
        assert math.isnan(fit.regret)
    else:
        assert fit.regret == pytest.approx(slow_regret(scores, scored, fit.reports))


@fast
@given(seed=st.integers(0, 1000), clips=st.integers(4, 12), sites=st.integers(2, 4))
def test_no_clip_has_a_say_in_where_it_is_reported(seed, clips, sites):
    scores, halves = make_scores(seed, clips, sites), halves_of(clips)
    fit = cross_fit(*scores, halves)
    for clip in range(clips):
        changed = scores.score.copy()
        changed[clip] = np.random.default_rng(seed + 1).permutation(changed[clip]) * 3
        assert cross_fit(changed, *scores[1:], halves).reports[clip] == fit.reports[clip]


@fast
@given(seed=st.integers(0, 1000), clips=st.integers(4, 12), sites=st.integers(2, 4))
def test_what_must_not_count_does_not(seed, clips, sites):
    scores = make_scores(seed, clips, sites, 0.2)
    fit = cross_fit(*scores, halves_of(clips))
    order = np.random.default_rng(seed).permutation(clips)
    moved = Halves(*(np.flatnonzero(np.isin(order, half)) for half in halves_of(clips)))
    mixed = cross_fit(*(part[order] for part in scores), moved)
    assert mixed.chosen == fit.chosen
    np.testing.assert_allclose(mixed.regret, fit.regret, atol=1e-12)
    np.testing.assert_array_equal(mixed.pooled.score, fit.pooled.score[order])
    # a site that stands still everywhere is at the floor: it never wins, and changes nothing
    constant = Bounded(
        *(np.hstack([part, extra[:, :1]]) for part, extra in zip(scores, (scores.floor, *scores[1:]), strict=True))
    )
    constant.score[np.isnan(scores.score[:, 0]), -1] = np.nan
    more = cross_fit(*constant, halves_of(clips))
    assert more.chosen == fit.chosen
    np.testing.assert_allclose(more.regret, fit.regret, atol=1e-12)


def test_other_scores_are_reported_at_the_same_sites():
    scores, other = make_scores(0, 8, 3), make_scores(1, 8, 3)
    fit = cross_fit(*scores, halves_of(8))
    for found, part in zip(fit.report(other), other, strict=True):
        np.testing.assert_array_equal(found, part[np.arange(8), fit.reports])
    with pytest.raises(UsageError, match="scores: expected"):
        fit.report(Bounded(*(part[1:] for part in other)))


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("clips", [1, 2, 3])
def test_under_four_clips_nothing_is_held_out(clips):
    fit = cross_fit([[0.5, 0.6]] * clips, None, None, halves_of(clips))
    assert (fit.chosen, fit.held_out, fit.chosen_on) == ((1, 1), False, 0)
    assert math.isnan(fit.regret)
    np.testing.assert_array_equal(fit.pooled.score, [0.6] * clips)


def test_clips_without_a_score_do_not_make_four():
    # three of eight clips have a moving point
    score = np.full((8, 2), np.nan)
    score[:3] = [[0.1, 0.2]] * 3
    fit = cross_fit(score, None, None, halves_of(8))
    assert not fit.held_out
    assert np.isfinite(fit.pooled.score).sum() == 3


def test_a_half_without_scores_chooses_nothing():
    score = np.full((8, 2), np.nan)
    score[0::2] = [0.1, 0.2]
    fit = cross_fit(score, None, None, even_odd(8))
    assert fit.chosen == (1, None)
    assert fit.reports.tolist() == [NOWHERE, 1] * 4
    assert np.isnan(fit.pooled.score).all(), "those who chose cannot report, and the others have nothing"
    assert math.isnan(fit.regret)
    assert not fit.is_empty
    assert cross_fit(np.full((8, 2), np.nan), None, None, even_odd(8)).is_empty


def test_a_single_site_is_reported_by_all_clips():
    for score in ([[0.5]] * 8, [[0.5]], [[np.nan]] * 4):
        fit = cross_fit(score, None, None, halves_of(len(score)))
        assert (fit.chosen, fit.held_out, fit.regret) == ((0, 0), False, 0)
        np.testing.assert_array_equal(fit.pooled.score, np.array(score)[:, 0])


def test_sites_are_compared_on_the_same_clips():
    # site 0 lacks a hard clip, where the others score 0
    score = np.tile([0.6, 0.7, 0.65], (8, 1))
    score[[0, 1]] = [np.nan, 0, 0]
    fit = cross_fit(score, None, None, even_odd(8))
    assert (fit.chosen, fit.candidates, fit.incomplete) == ((1, 1), 2, 1)
    score[:, 1] = np.nan  # now each of the two has as many clips of its own as the other lacks
    score[2] = [0.6, np.nan, np.nan]
    fit = cross_fit(score, None, None, even_odd(8))
    assert (fit.chosen, fit.candidates, fit.incomplete) == ((2, 2), 2, 0)


def test_a_clip_that_few_sites_have_does_not_leave_them_alone_as_candidates():
    score = np.tile([0.5, 0.7, 0.6], (8, 1))
    score[3] = [0.5, np.nan, np.nan]
    fit = cross_fit(score, None, None, even_odd(8))
    assert (fit.chosen, fit.candidates, fit.incomplete) == ((1, 1), 3, 0)
    assert np.isfinite(fit.pooled.score).tolist() == [True] * 3 + [False] + [True] * 4, (
        "the clip has no score at site 1"
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cross_fit([0.5, 0.5], None, None, even_odd(2)), "score: expected"),
        (lambda: cross_fit(np.empty((0, 2)), None, None, even_odd(0)), "score: expected"),
        (lambda: cross_fit([[0.5], [0.5]], [[0], [0]], None, even_odd(2)), "floor and ceiling"),
        (lambda: cross_fit([[0.5], [0.5]], [[0, 1]], [[0, 1]], even_odd(2)), "score: expected"),
        (lambda: cross_fit([[0.5], [0.5]], None, None, even_odd(3)), "halves: expected each of 2 clips"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(UsageError, match=message):
        call()


# --------------------------------------------------------------------------------------------------------------- regret


def test_regret_is_not_biased_by_luck():
    # sites with known means, 400 draws of 16 clips; regret in hindsight takes the largest mean of the same clips
    generator = np.random.default_rng(0)
    truth = np.concatenate([np.full(10, 0.7), np.full(30, 0.5)])
    halves, errors, hindsight = halves_of(16), [], []
    for _ in range(400):
        score = truth + generator.normal(0, 0.2, (16, 1)) + generator.normal(0, 0.2, (16, 40))
        fit = cross_fit(score, None, None, halves)
        true = 0.7 - truth[fit.reports].mean()
        errors.append(fit.regret - true)
        reported = score[halves.second].mean(axis=0)
        hindsight.append(reported.max() - reported[fit.chosen[0]] - (0.7 - truth[fit.chosen[0]]))
    assert abs(np.mean(errors)) < 0.006, np.mean(errors)
    assert np.mean(hindsight) > 0.05, "the old definition was too large by this"


def test_values_of_chosen_sites_are_not_too_high():
    generator = np.random.default_rng(1)
    pooled = [
        np.mean(cross_fit(generator.normal(0.5, 0.2, (16, 60)), None, None, halves_of(16)).pooled.score)
        for _ in range(300)
    ]
    assert abs(np.mean(pooled) - 0.5) < 0.01, "60 sites that are equally good: luck does not show"
