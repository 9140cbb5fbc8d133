"""Two series on the same clips: properties of their difference, a slow loop to compare with, the choice of sites."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.made_up import made_up

from vcorr import UsageError
from vcorr.stats.intervals import compare_means
from vcorr.stats.paired import Candidates, NothingToChooseBy, pair, sides_by_heads
from vcorr.stats.sites import SiteId, parse_site

fast = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)
HERE, THERE = SiteId(1, 0), SiteId(2, 1)


def pair_at(a, b, site_a=HERE, site_b=THERE, clips=None):
    return pair(Candidates(a, a, site_a), Candidates(b, b, site_b), clips or a.clips, "given")


def pair_best(a, b, clips=None):
    return pair(Candidates(a, a), Candidates(b, b), clips or a.clips, "mean")


def numbers(row):
    differences = (row.difference, row.skill_difference)
    return np.array([[x.estimate, x.low, x.high] for x in differences])


# ---------------------------------------------------------------------------------------------------------- properties


@fast
@given(seed=seeds, nan=st.sampled_from([0, 0.3]))
def test_a_series_against_itself_is_exactly_zero(seed, nan):
    s = made_up(seed, nan=nan)
    for row in (pair_at(s, s, HERE, HERE), pair_best(s, s)):
        found = numbers(row)
        # a drawn half may have no score at all
        assert set(found[~np.isnan(found)]) == ({0.0} if row.clips else set())
        assert row.a.value == row.b.value or math.isnan(row.a.value)


@fast
@given(seed=seeds, nan=st.sampled_from([0, 0.3]))
def test_swapping_the_sides_negates(seed, nan):
    a, b = made_up(seed, nan=nan), made_up(seed + 1, nan=nan)
    row, swapped = pair_at(a, b), pair_at(b, a, THERE, HERE)
    np.testing.assert_array_equal(numbers(swapped), -numbers(row)[:, [0, 2, 1]])
    assert repr((swapped.a, swapped.b, swapped.clips)) == repr((row.b, row.a, row.clips))


@fast
@given(seed=seeds, shift=st.floats(-0.5, 0.5))
def test_a_shift_of_one_side_is_the_shift_of_the_difference(seed, shift):
    a, b = made_up(seed), made_up(seed + 1)
    row, shifted = pair_at(a, b), pair_at(replace(a, score=a.score + shift), b)
    np.testing.assert_allclose(numbers(shifted)[0], numbers(row)[0] + shift, atol=1e-12)
    # floor and ceiling are 0.7 apart and did not move
    np.testing.assert_allclose(numbers(shifted)[1], numbers(row)[1] + shift / 0.7, atol=1e-12)


@fast
@given(seed=seeds, nan=st.sampled_from([0, 0.2]))
def test_neither_the_order_of_clips_nor_those_of_one_side_matter(seed, nan):
    a, b = made_up(seed, nan=nan), made_up(seed + 1, nan=nan)
    order = np.random.default_rng(seed).permutation(len(a.clips))
    parts = {name: getattr(b, name)[order] for name in ("score", "floor", "ceiling")}
    other = replace(b, clips=tuple(b.clips[i] for i in order), **parts)
    assert repr(pair_best(a, b)) == repr(pair_best(a, other, [a.clips[i] for i in order]))
    more = made_up(seed, clips=12)
    more.score[:8], more.floor[:8], more.ceiling[:8] = a.score, a.floor, a.ceiling
    assert repr(pair_best(more, b, a.clips)) == repr(pair_best(a, b))


@fast
@given(seed=seeds, nan=st.sampled_from([0, 0.2]))
def test_it_agrees_with_loops_over_clips(seed, nan):
    a, b = made_up(seed, nan=nan, floor=0.1), made_up(seed + 1, nan=nan)
    row = pair_at(a, b)
    left, right = a.score[:, a_column(a, HERE)], b.score[:, a_column(b, THERE)]
    kept = [i for i in range(8) if math.isfinite(left[i]) and math.isfinite(right[i])]
    assert (row.clips, row.not_scored) == (len(kept), 8 - len(kept))
    if len(kept) < 2:
        assert math.isnan(row.difference.low)
        return
    assert row.a.value == pytest.approx(sum(left[i] for i in kept) / len(kept))
    assert row.b.skill == pytest.approx((row.b.value - 0.2) / 0.7)
    expected = compare_means(left, right)
    assert row.difference.estimate == pytest.approx(row.a.value - row.b.value)
    np.testing.assert_array_equal([row.difference.low, row.difference.high], [expected.low, expected.high])


def a_column(s, site):
    return next(i for i, x in enumerate(s.sites) if (x["layer"], x["step"], x["head"]) == site)


# --------------------------------------------------------------------------------------------------------------- sites


def test_sites_are_chosen_on_one_half_and_reported_on_the_other():
    a, b = made_up(0, layers=2, steps=1), made_up(1, layers=2, steps=1)
    choosing, reporting = a.halves()
    a.score[choosing], a.score[reporting] = [0.3, 0.8], [0.7, 0.4]
    b.score[:] = [0.5, 0.3]
    row = pair_best(a, b)
    assert (row.a.site, row.b.site) == ((1, 0, -1), (0, 0, -1))
    assert (row.a.chosen_on, row.a.candidates, row.clips) == (4, 2, 4)
    assert row.a.value == pytest.approx(0.4)
    assert row.b.regret == 0
    assert row.difference.estimate == pytest.approx(-0.1)
    # with one site given the other is still reported on clips that did not choose it
    half = pair(Candidates(a, a, SiteId(1, 0)), Candidates(b, b), a.clips, "mean")
    assert (half.a.chosen_on, half.b.chosen_on, half.clips) == (0, 4, 4)
    assert math.isnan(half.a.regret)


def test_one_single_site_needs_no_choice():
    a, b = made_up(0, layers=1, steps=1), made_up(1, layers=1, steps=1)
    row = pair_best(a, b)
    assert (row.a.chosen_on, row.a.regret, row.clips) == (0, 0, 8)


def test_a_stratum_is_reported_at_the_site_of_its_metric():
    whole, stratum = made_up(0), made_up(1, metric="matching_accuracy@frames:0-4")
    row = pair(Candidates(stratum, whole), Candidates(stratum, whole), whole.clips, "mean")
    assert row.metric == "matching_accuracy@frames:0-4"
    assert row.a.site == pair_best(whole, whole).a.site
    assert row.a.value == stratum.score[stratum.halves().second, a_column(stratum, row.a.site)].mean()


def test_without_floors_sites_can_be_given_but_not_chosen():
    bare = made_up(0, floor=np.nan, ceiling=np.nan)
    bare.score[:] = np.random.default_rng(0).random(bare.score.shape)
    with pytest.raises(NothingToChooseBy, match="no skill to choose a site by"):
        pair_best(bare, bare)
    row = pair_at(bare, bare)
    assert math.isfinite(row.difference.low)
    assert math.isnan(row.skill_difference.estimate)
    assert row.to_dict()["skill_difference"] == {"estimate": None, "low": None, "high": None}


def test_heads_are_compared_with_their_like():
    both, means, lone = made_up(0, heads=(-1, 0, 1)), made_up(1), made_up(2, layers=1, steps=1)
    found = sides_by_heads(both, both)
    assert {kind: {site["head"] for site in a.sites} for kind, (a, _) in found.items()} == {
        "mean": {-1},
        "single": {0, 1},
    }
    assert pair_best(*found["single"]).a.site.head >= 0
    assert list(sides_by_heads(both, means)) == ["mean"]
    assert list(sides_by_heads(lone, both)) == ["mean", "single"]
    assert list(sides_by_heads(lone, lone)) == ["mean"]
    assert list(sides_by_heads(both, means, SiteId(0, 0, 1))) == []
    assert list(sides_by_heads(both, both, SiteId(0, 0, 1))) == ["single"]
    assert list(sides_by_heads(both, means, SiteId(0, 0, 1), HERE)) == ["given"]


@pytest.mark.parametrize(
    ("text", "site"),
    [
        ("7:49", (7, 49, -1)),
        (" 0:3:11 ", (0, 3, 11)),
        ("7:none", (7, -1, -1)),
        ("7:none:2", (7, -1, 2)),
        ("none:28", (-1, 28, -1)),
    ],
)
def test_sites_are_read_as_they_are_written(text, site):
    assert parse_site(text) == site
    assert str(parse_site(text)) == text.strip()


@pytest.mark.parametrize(
    "text", ["", "7", "7:49:1:2", "7,49", "-1:-1", "a:b", "7:", "none:none", "7:3:none", "7:none:1:2"]
)
def test_what_is_not_a_site(text):
    with pytest.raises(UsageError, match="is not a site"):
        parse_site(text)


def test_refusals():
    a = made_up(0)
    with pytest.raises(UsageError, match=r"Only 3 clips in common, too few to choose(.|\n)*--site-a LAYER:STEP"):
        pair_best(a, a, a.clips[:3])
    with pytest.raises(UsageError, match="Only 1 clip in common: too few"):
        pair_at(a, a, clips=a.clips[:1])
    with pytest.raises(UsageError, match=r"no site 5:0 of probe qk(.|\n)*layers 0, 1, 2, steps 0, 1, heads mean"):
        pair_at(a, a, SiteId(5, 0))
    lone = replace(made_up(0, layers=1, steps=1), sites=({**a.sites[0], "layer": -1, "step": -1},))
    with pytest.raises(UsageError, match="predicts without attention"):
        pair_at(lone, a, SiteId(5, 0))
