"""Two series on the same clips: properties of their difference, slow loops to compare with, the choice of sites."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.made_up import made_up

from vcorr import UsageError
from vcorr.stats.paired import (
    Candidates,
    Difference,
    NothingScored,
    NothingToChooseBy,
    correct_families,
    pair,
    sides_by_heads,
)
from vcorr.stats.series import join_clip_facts
from vcorr.stats.sites import SiteId, parse_site

fast = settings(max_examples=25, deadline=None, derandomize=True)
seeds = st.integers(0, 10_000)
HERE, THERE = SiteId(1, 0), SiteId(2, 1)


def pair_at(a, b, site_a=HERE, site_b=THERE, clips=None):
    return pair(Candidates(a, (a,), site_a), Candidates(b, (b,), site_b), clips or a.clips, "given")


def pair_best(a, b, clips=None):
    return pair(Candidates(a, (a,)), Candidates(b, (b,)), clips or a.clips, "mean")


def differences(row):
    return row.difference, row.gain_difference, row.skill_difference


def numbers(row):
    return np.array([[x.estimate, x.low, x.high] for x in differences(row)])


def column(s, site):
    return s.site_ids.index(site)


# ---------------------------------------------------------------------------------------------------------- properties


@fast
@given(seed=seeds, nan=st.sampled_from([0, 0.3]))
def test_a_series_against_itself_is_exactly_zero(seed, nan):
    s = made_up(seed, clips=10, nan=nan)
    row = pair_at(s, s, HERE, HERE)
    for found in differences(row):
        assert (found.estimate, found.p, found.p_holm) == (0, 1, 1)
        assert math.isnan(found.low)
        assert found.no_interval
    assert row.ties == row.clips
    assert row.smallest_p == 1
    assert row.a == row.b


@fast
@given(seed=seeds, nan=st.sampled_from([0, 0.1]))
def test_swapping_the_sides_negates(seed, nan):
    a, b = made_up(seed, nan=nan), made_up(seed + 1, nan=nan)
    whole = made_up(seed), made_up(seed + 1)
    for row, swapped in (
        (pair_at(a, b), pair_at(b, a, THERE, HERE)),
        (pair_best(*whole), pair_best(*whole[::-1])),
    ):
        np.testing.assert_allclose(numbers(swapped), -numbers(row)[:, [0, 2, 1]], atol=1e-12)
        assert [x.p for x in differences(swapped)] == [x.p for x in differences(row)]
        assert repr((swapped.a, swapped.b, swapped.clips)) == repr((row.b, row.a, row.clips))


@fast
@given(seed=seeds, shift=st.floats(-0.5, 0.5))
def test_a_shift_of_one_side_is_the_shift_of_the_difference(seed, shift):
    a, b = made_up(seed), made_up(seed + 1)
    row, shifted = pair_at(a, b), pair_at(replace(a, score=a.score + shift), b)
    # the floor is 0.2 and the ceiling 0.9 on every clip
    for found, before, step in zip(numbers(shifted), numbers(row), (shift, shift / 0.8, shift / 0.7), strict=True):
        np.testing.assert_allclose(found, before + step, atol=1e-12)


@fast
@given(seed=seeds, nan=st.sampled_from([0, 0.2]))
def test_neither_the_order_of_clips_nor_those_of_one_side_matter(seed, nan):
    a, b = made_up(seed, nan=nan), made_up(seed + 1)
    more = made_up(seed, clips=12)
    for name in ("score", "floor", "ceiling"):
        getattr(more, name)[:8] = getattr(a, name)
    row = outcome(pair_best, a, b)
    assert outcome(pair_best, more, b, a.clips) == row
    assert outcome(pair_best, a, b, a.clips[::-1]) == row


def outcome(function, *arguments) -> str:
    """Returns the row, or the reason why there is none, in words."""
    try:
        return repr(function(*arguments))
    except NothingToChooseBy as nothing:
        return str(nothing)


@fast
@given(seed=seeds, nan=st.sampled_from([0, 0.2]))
def test_it_agrees_with_loops_over_clips(seed, nan):
    a, b = made_up(seed, nan=nan, floor=0.1), made_up(seed + 1, nan=nan)
    row = pair_at(a, b)
    left, right = a.score[:, column(a, HERE)], b.score[:, column(b, THERE)]
    kept = [i for i in range(8) if math.isfinite(left[i]) and math.isfinite(right[i])]
    assert (row.clips, row.not_scored) == (len(kept), 8 - len(kept))
    assert row.a.value == pytest.approx(sum(left[i] for i in kept) / len(kept))
    assert row.b.skill == pytest.approx((row.b.value - 0.2) / 0.7)
    assert row.b.gain == pytest.approx((row.b.value - 0.2) / 0.8)
    assert row.difference.estimate == pytest.approx(row.a.value - row.b.value)
    assert row.gain_difference.estimate == pytest.approx(row.a.gain - row.b.gain)
    assert row.skill_difference.estimate == pytest.approx(row.a.skill - row.b.skill)
    by_clip = [left[i] - right[i] for i in kept]
    assert row.difference.p == share_of_signs(by_clip)
    assert row.gain_difference.p == share_of_signs([(left[i] - 0.1) / 0.9 - (right[i] - 0.2) / 0.8 for i in kept])
    assert row.skill_difference.p == share_of_signs([(left[i] - 0.1) / 0.8 - (right[i] - 0.2) / 0.7 for i in kept])
    assert row.smallest_p == 2 / 2 ** len(kept)
    assert math.isfinite(row.difference.low) == (len(kept) >= 6)


def share_of_signs(values) -> float:
    observed = abs(math.fsum(values))
    sums = [abs(math.fsum(s * v for s, v in zip(signs, values, strict=True))) for signs in signs_of(len(values))]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


def signs_of(count):
    return list(itertools.product((1, -1), repeat=count))


@fast
@given(seed=seeds)
def test_with_the_same_bounds_gain_and_skill_are_tested_as_the_value_is(seed):
    a, b = made_up(seed), made_up(seed + 1)
    floors = np.random.default_rng(seed).uniform(0, 0.6, (8, 1)) + np.zeros(a.score.shape)
    ceilings = floors + np.random.default_rng(seed).uniform(0.01, 0.4, (8, 1))
    row = pair_at(replace(a, floor=floors, ceiling=ceilings), replace(b, floor=floors, ceiling=ceilings))
    assert row.gain_difference.p == row.skill_difference.p == row.difference.p


def test_clips_that_hardly_move_do_not_agree_on_a_difference_of_skills():
    a, b = made_up(0), made_up(1)
    floor = np.full((8, 6), 0.7)
    ceiling = floor + np.array([0.3, *[1e-4] * 7])[:, None]  # only the first clip moves
    good, bad = (floor + (ceiling - floor) * share for share in (0.9, 0.1))
    bad[1:] = floor[1:] + (ceiling - floor)[1:] * np.array([0.8, 1.0] * 3 + [0.8])[:, None]
    a, b = (replace(s, score=score, floor=floor, ceiling=ceiling) for s, score in ((a, good), (b, bad)))
    row = pair_at(a, b)
    assert row.skill_difference.estimate > 0.7
    assert row.skill_difference.p > 0.2


# --------------------------------------------------------------------------------------------------------------- sites


def two_minds(seed: int = 0):
    """Returns a series of two layers whose halves prefer different ones, and one whose halves agree."""
    a, b = made_up(seed, layers=2, steps=1), made_up(seed + 1, layers=2, steps=1)
    first, second = a.halves()
    a.score[first], a.score[second] = [0.3, 0.8], [0.7, 0.4]
    b.score[:] = [0.5, 0.3]
    return a, b


def test_each_half_is_reported_at_the_site_of_the_other():
    a, b = two_minds()
    row = pair_best(a, b)
    assert choices(row) == ["1:0", "0:0"]  # of the first and of the second half
    assert [site.site for site in row.b.sites] == ["0:0"]
    assert (row.a.chosen_on, row.a.candidates, row.clips) == (4, 2, 8)
    first, second = ([a.clips[i] for i in half] for half in a.halves())
    assert {site.site: list(site.clips) for site in row.a.sites} == {"1:0": second, "0:0": first}
    assert row.a.value == pytest.approx((0.3 + 0.4) / 2)
    assert row.difference.estimate == pytest.approx(0.35 - 0.5)
    # with one site given, the other is still chosen, and all clips count
    half = pair(Candidates(a, (a,), SiteId(1, 0)), Candidates(b, (b,)), a.clips, "mean")
    assert (half.a.chosen_on, half.b.chosen_on, half.clips) == (0, 4, 8)
    assert math.isnan(half.a.regret)
    assert half.a.value == pytest.approx(0.6)


@fast
@given(seed=seeds)
def test_no_clip_chooses_the_site_that_it_is_reported_at(seed):
    a, b = made_up(seed), made_up(seed + 1)
    generator = np.random.default_rng(seed)
    before = choices(pair_best(a, b))
    for i, half in enumerate(a.halves()):
        changed = replace(a, score=a.score.copy())
        changed.score[half] = generator.uniform(0.2, 0.9, changed.score[half].shape)
        # this half is reported at the choice of the other half, whatever its own scores are
        assert choices(pair_best(changed, b))[1 - i] == before[1 - i]


def choices(row):
    """Returns the choices of the first and of the second half, from the clips that are reported at them."""
    first, second = made_up(0, clips=sum(len(site.clips) for site in row.a.sites)).halves()
    at = {int(clip[1:]): site.site for site in row.a.sites for clip in site.clips}
    return [at[second[0]], at[first[0]]]


def test_both_sides_are_chosen_on_the_same_halves_whatever_one_of_them_knows():
    a, _ = two_minds()
    still = np.array([0.3, 0.9, 0.1, 0.2, 0.8, 0.6, 0.4, 0.7])
    known = replace(a, still=still, content=tuple("abcdefgh"))
    halves = known.halves()
    assert [half.tolist() for half in halves] != [half.tolist() for half in a.halves()]
    for s in (known, a):
        s.score[halves.first], s.score[halves.second] = [0.3, 0.8], [0.7, 0.4]
    for left, right in ((known, a), (a, known)):
        row = pair_best(left, right)
        assert {site.site: [known.clips.index(clip) for clip in site.clips] for site in row.a.sites} == {
            "1:0": halves.second.tolist(),
            "0:0": halves.first.tolist(),
        }
        assert {site.site for site in row.a.sites} == {site.site for site in row.b.sites}
        assert row.ties == row.clips == 8


def test_one_single_site_needs_no_choice():
    a, b = made_up(0, layers=1, steps=1), made_up(1, layers=1, steps=1)
    row = pair_best(a, b, a.clips[:2])
    assert (row.a.chosen_on, row.a.regret, row.a.chosen_by, row.clips) == (0, 0, "", 2)
    assert row.difference.no_interval == "2 clips, and an interval needs 6"
    assert row.smallest_p == 0.5


def test_all_columns_are_reported_at_the_sites_of_the_main_one():
    main, other = made_up(0, metric="matching_accuracy_moving"), made_up(1, metric="pck_4")
    chosen = pair_best(main, main)
    row = pair(Candidates(other, (main, other)), Candidates(other, (main, other)), main.clips, "mean")
    assert row.metric == "pck_4"
    assert row.a.sites == chosen.a.sites != pair_best(other, other).a.sites
    assert row.a.chosen_by == "matching_accuracy_moving"
    at = [
        other.score[half, column(other, parse_site(site))]
        for half, site in zip(reversed(main.halves()), choices(row), strict=True)
    ]
    assert row.a.value == pytest.approx(np.concatenate(at).mean())


def test_another_column_chooses_where_too_few_clips_move():
    moving, everything = made_up(0, metric="matching_accuracy_moving"), made_up(1)
    moving.score[3:] = np.nan
    side = Candidates(everything, (moving, everything))
    row = pair(side, side, everything.clips, "mean")
    assert row.a.chosen_by == "matching_accuracy"
    assert row.a.sites == pair_best(everything, everything).a.sites
    assert row.passed_over == "fewer than 4 clips have a score by matching_accuracy_moving, too few to choose a site"
    moving.score[:] = np.nan
    row = pair(side, side, everything.clips, "mean")
    assert row.passed_over == "no clip has a score by matching_accuracy_moving"
    with pytest.raises(NothingToChooseBy, match="matching_accuracy_moving"):
        pair_best(moving, moving)
    # sites can still be given, but nothing is there to compare
    with pytest.raises(NothingScored, match="none of the 8 clips has a score on both sides"):
        pair_at(moving, moving)


def test_a_clip_that_one_column_lacks_is_not_scored():
    whole, fewer = made_up(0), made_up(1, clips=6)
    side = Candidates(whole, (fewer, whole))
    row = pair(side, side, whole.clips, "mean")
    assert (row.clips, row.not_scored) == (8, 0)  # six clips choose, and all are reported
    other = Candidates(fewer, (whole, fewer))
    row = pair(other, other, whole.clips, "mean")
    assert (row.clips, row.not_scored) == (6, 2)


def test_a_stratum_is_reported_at_the_sites_of_its_metric():
    whole, stratum = made_up(0), made_up(1, metric="matching_accuracy@frames:0-4")
    row = pair(Candidates(stratum, (whole,)), Candidates(stratum, (whole,)), whole.clips, "mean")
    assert row.metric == "matching_accuracy@frames:0-4"
    assert row.a.sites == pair_best(whole, whole).a.sites


def test_without_floors_sites_can_be_given_but_not_chosen():
    bare = made_up(0, floor=np.nan, ceiling=np.nan)
    bare.score[:] = np.random.default_rng(0).random(bare.score.shape)
    with pytest.raises(NothingToChooseBy, match="no skill to choose a site by"):
        pair_best(bare, bare)
    row = pair_at(bare, bare)
    assert math.isfinite(row.difference.low)
    reason = "the metric has no floor and no ceiling"
    nothing = {"estimate": None, "low": None, "high": None, "no_interval": reason, "p": None, "p_holm": None}
    assert row.to_dict()["skill_difference"] == row.to_dict()["gain_difference"] == nothing


def test_errors_have_no_gain_and_a_skill_that_rises():
    a = replace(made_up(0, floor=0.9, ceiling=0.1), lower_is_better=True)
    b = replace(a, score=a.score + 0.1)
    row = pair_at(a, b, HERE, HERE)
    assert row.difference.estimate == pytest.approx(-0.1)
    assert row.skill_difference.estimate == pytest.approx(0.1 / 0.8)
    assert math.isnan(row.a.gain)
    assert math.isnan(row.gain_difference.p)


def test_equal_sites_are_said():
    tied = made_up(0)
    tied.score[:] = np.linspace(0.3, 0.8, 8)[:, None]
    row = pair_best(tied, made_up(1))
    assert row.a.all_tied
    assert not row.b.all_tied


# ------------------------------------------------------------------------------------------------------------ families


def test_p_is_corrected_within_one_metric_and_variant():
    rows = [
        pair_at(made_up(seed, metric=metric), made_up(seed + 50, metric=metric))
        for metric in ("pck_4", "pck_8")
        for seed in range(3)
    ]
    rows.append(
        pair_at(made_up(9, metric="pck_8", variant="difftrack"), made_up(8, metric="pck_8", variant="difftrack"))
    )
    corrected = correct_families(rows)
    assert [row.family for row in corrected] == [3, 3, 3, 3, 3, 3, 1]
    assert corrected[-1].difference == rows[-1].difference
    for family in (corrected[:3], corrected[3:6]):
        for name in ("difference", "gain_difference", "skill_difference"):
            tests = sorted((getattr(row, name) for row in family), key=lambda x: x.p)
            by_hand = [min(1, 3 * tests[0].p), min(1, 2 * tests[1].p), tests[2].p]
            assert [x.p_holm for x in tests] == pytest.approx(list(itertools.accumulate(by_hand, max)))


def alike(seed: int):
    """Returns a series of a model whose layers are equally good; clips are easy or hard for all of them."""
    generator = np.random.default_rng(seed)
    s = made_up(seed, clips=10)
    clip, site = generator.normal(0, 1, (10, 1)), generator.normal(0, 1, s.score.shape)
    return replace(s, score=0.5 + 0.1 * (math.sqrt(0.8) * clip + math.sqrt(0.2) * site))


def test_the_chosen_sites_of_equally_good_models_seldom_differ():
    found = [pair_best(alike(seed), alike(seed + 10_000)) for seed in range(300)]
    for name in ("difference", "gain_difference", "skill_difference"):
        p = np.array([getattr(row, name).p for row in found])
        assert np.mean(p <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)


# --------------------------------------------------------------------------------------------------------------- heads


def test_heads_are_compared_with_their_like():
    both, means, lone = made_up(0, heads=(-1, 0, 1)), made_up(1), made_up(2, layers=1, steps=1)
    found = sides_by_heads(both, both)
    assert {kind: {site["head"] for site in a.sites} for kind, (a, _) in found.items()} == {
        "mean": {-1},
        "single": {0, 1},
    }
    assert all(site.head >= 0 for site in pair_best(*found["single"]).a.sites)
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


@pytest.mark.parametrize(("p", "differs"), [(0.05, True), (0.0501, False), (math.nan, False)])
def test_a_difference_counts_if_its_corrected_p_is_at_most_the_level(p, differs):
    assert Difference(0.1, 0.0, 0.2, "", 0.01, p).is_significant is differs


def test_facts_of_clips_are_the_first_that_a_series_knows():
    a = made_up(1)
    parts = [
        replace(a, clips=("x", "y"), still=np.array([math.nan, 0.2]), content=("", "b")),
        replace(a, clips=("z", "y", "x"), still=None, content=None),
        replace(a, clips=("y", "x", "w"), still=np.array([0.9, 0.1, 0.5]), content=("c", "d", "e")),
    ]
    still, content = join_clip_facts(("x", "y", "z"), parts)
    np.testing.assert_array_equal(still, [0.1, 0.2, math.nan])
    assert content == ("d", "b", "")
