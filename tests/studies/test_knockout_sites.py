"""The sites of a knock-out study: how they are written, chosen by a run, and drawn for controls."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr.contract.errors import UsageError
from vcorr.studies.knockout_sites import (
    CutSite,
    SiteSet,
    Unit,
    choose_auto,
    draw_controls,
    heads_by_layer,
    parse_sets,
    set_of,
)

HEADS = dict.fromkeys(range(10), 4)
STEPS = (35, 49)

sites = st.builds(
    CutSite, layer=st.integers(0, 9), head=st.sampled_from([-1, 0, 3]), step=st.sampled_from([-1, 35, 49])
)


@given(st.lists(sites, min_size=1, max_size=4, unique=True))
def test_sites_are_read_as_they_are_written(drawn):
    sets = tuple(SiteSet((site,)) for site in drawn)
    assert parse_sets(",".join(one.name for one in sets), HEADS, STEPS) == sets


def test_sites_are_written_as_everywhere():
    names = ["7", "7::3", "7:35", "7:35:3"]
    assert [str(one.sites[0]) for one in parse_sets(",".join(names), HEADS, STEPS)] == names


def test_a_range_is_one_cut_per_layer_and_a_plus_is_one_cut_of_all():
    assert [one.name for one in parse_sets("3-5,7+8::2", HEADS, STEPS)] == ["3", "4", "5", "7+8::2"]
    (both,) = parse_sets("7+8::2", HEADS, STEPS)
    assert heads_by_layer(both.units(HEADS)) == {7: (0, 1, 2, 3), 8: (2,)}
    assert both.last_layer == 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no site"),
        ("x", "'x' is not a site"),
        ("7:", "'7:' is not a site"),
        ("10", "no layer 10"),
        ("8-12", "no layer 10"),
        ("7::4", "no head 4"),
        ("7:20", "step 20"),
        ("7:35+8:49", "different steps"),
        ("-1", "is not a site"),
    ],
)
def test_what_is_no_site_is_refused(text, said):
    with pytest.raises(UsageError, match=said):
        parse_sets(text, HEADS, STEPS)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=60, unique=True))
def test_auto_has_the_best_and_the_worst_and_at_most_ten(skills):
    by_site = {CutSite(layer): skill for layer, skill in enumerate(skills)}
    chosen = [by_site[one.sites[0]] for one in choose_auto(by_site)]
    assert len(chosen) == len(set(chosen)) == min(len(skills), 10)
    assert {*sorted(skills)[:2], *sorted(skills)[-2:]} <= set(chosen)


def test_sites_without_skill_are_not_chosen():
    skills = {CutSite(0): math.nan, CutSite(1): 0.2, CutSite(2): 0.3, CutSite(3): 0.1}
    assert [one.name for one in choose_auto(skills)] == ["1", "2", "3"]
    with pytest.raises(UsageError, match="Only 2 sites"):
        choose_auto({CutSite(0): math.nan, CutSite(1): 0.2, CutSite(2): 0.3})


POOL = [Unit(layer, head) for layer in range(7) for head in range(4)]


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(0, 2**31), st.integers(0, 6))
def test_controls_are_different_sets_of_one_size_from_the_pool_and_never_the_cut(size, seed, layer):
    cut = frozenset(POOL[4 * layer : 4 * layer + size])
    drawn = draw_controls(POOL, size, 20, seed, [cut])
    assert len(set(drawn)) == 20
    assert cut not in drawn
    assert all(len(one) == size and one <= set(POOL) for one in drawn)
    assert drawn == draw_controls(POOL, size, 20, seed, [cut])


def test_too_few_sets_for_the_controls_are_an_error():
    with pytest.raises(UsageError, match="only 19 can be drawn from 20 heads"):
        draw_controls(POOL[:20], 1, 20, 0, [frozenset(POOL[:1])])


def test_a_set_of_single_heads_has_their_name():
    assert set_of([Unit(3, 1), Unit(0, 2)]).name == "0::2+3::1"
