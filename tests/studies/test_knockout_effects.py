"""What a knock-out study says, by construction: rows with known harms give known effects and agreements."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vcorr.contract.metric_columns import MAIN_COLUMN
from vcorr.stats.sites import SiteId
from vcorr.studies.knockout_effects import find_results
from vcorr.studies.knockout_observed import Observed
from vcorr.studies.knockout_options import KnockoutOptions
from vcorr.studies.knockout_page import agreement_table, effect_table
from vcorr.studies.knockout_plan import KnockoutPlan
from vcorr.studies.knockout_rows import LOSS
from vcorr.studies.knockout_sites import Unit, draw_controls, parse_sets

STEP, CLIPS, READER = 9, tuple(f"clip-{i}" for i in range(8)), 6
HEADS = dict.fromkeys(range(8), 4)
HARM = {"0": 0.1, "1": 0.2, "2": 0.062, "3": 0.4, "7": 0.3}
"""Rise of the loss by each cut at the common norm. The whole cut does twice as much."""
PLAIN_LOSS = {clip: 0.1 + 0.01 * i for i, clip in enumerate(CLIPS)}
CONTROL = [0.005 * i for i in range(20)]


def wobble(clip, name):
    """Returns a small change that differs between clips and cuts, with the mean 0 over clips."""
    i = CLIPS.index(clip) - (len(CLIPS) - 1) / 2
    return 0.001 * i * (1 if len(name) % 2 else -1)


def make_study(own=False):
    sets = parse_sets(",".join(HARM), HEADS, (STEP,))
    units = [Unit(layer, head) for layer in range(READER) for head in range(4)]
    controls = {4: draw_controls(units, 4, 20, 0, [one.units(HEADS) for one in sets])}
    skills = {SiteId(int(name), STEP): harm**2 for name, harm in HARM.items()}
    against = {SiteId(int(name), STEP): -harm for name, harm in HARM.items()}
    flat = {SiteId(int(name), STEP): 0.5 for name in HARM}
    observed = Observed("run", "m", "w", {}, None, skills, {"trait_diagonal": against, "trait_sinks": flat})
    settings = SimpleNamespace(steps=(STEP,))
    plan = SimpleNamespace(selection=SimpleNamespace(clips=CLIPS, settings=settings))
    options = KnockoutOptions(own=own)
    return KnockoutPlan(options, "head", plan, observed, sets, controls, (READER,), HEADS, True)


def rows_of_pass(clip, harm, **key):
    base = {"clip": clip, "step": STEP, "norm": 2.0, "norm_made": 2.1, "cut_dose": 1.0, "dose": 0.5, "control": -1}
    base |= {"matched": "", "cut_sites": "", **key}
    loss = PLAIN_LOSS[clip] * (1 + harm)
    yield {**base, "metric": LOSS, "layer": -1, "value": loss, "floor": np.nan, "ceiling": np.nan}
    yield {**base, "metric": MAIN_COLUMN, "layer": READER, "value": 0.8 - harm / 2, "floor": 0.1, "ceiling": 0.9}


def make_rows(study, own=False):
    rows = []
    for clip in CLIPS:
        rows += rows_of_pass(clip, 0.0, role="plain", cut_dose=np.nan, dose=np.nan)
        for one in study.sets:
            harm = HARM[one.name] + wobble(clip, one.name)
            rows += rows_of_pass(clip, 2 * harm, role="cut", cut_sites=one.name, matched="whole", dose=1.0)
            if not own:
                rows += rows_of_pass(clip, harm, role="cut", cut_sites=one.name, matched="common")
        for i, units in enumerate(study.controls[4]):
            names = [one.name for one in study.sets] if own else ["common"]
            for name in names:
                sites = "+".join(f"{u.layer}::{u.head}" for u in sorted(units))
                rows += rows_of_pass(clip, CONTROL[i], role="control", control=i, cut_sites=sites, matched=name)
    return rows


@pytest.fixture(scope="module")
def results():
    study = make_study()
    return find_results(study, make_rows(study))


def effects_of(results, outcome):
    return {one.sites: one for one in results.effects if one.outcome == outcome}


def test_the_effect_is_the_harm_of_the_cut_minus_the_mean_harm_of_its_controls(results):
    for name, one in effects_of(results, "loss").items():
        assert one.effect.value == pytest.approx(HARM[name] - np.mean(CONTROL))
        assert one.matched == pytest.approx(HARM[name])
        assert one.whole.value == pytest.approx(2 * HARM[name])
        assert one.effect.low < one.effect.value < one.effect.high
        assert (one.dose, one.clips) == (0.5, len(CLIPS))


def test_lost_skill_is_a_harm_in_units_of_skill(results):
    effects = effects_of(results, "matching")
    for name, one in effects.items():
        assert one.effect.value == pytest.approx((HARM[name] - np.mean(CONTROL)) / 2 / 0.8)


def test_matching_is_measured_only_where_a_layer_is_read_after_the_cut(results):
    assert set(effects_of(results, "matching")) == {"0", "1", "2", "3"}
    assert set(effects_of(results, "loss")) == set(HARM)


def test_controls_that_harm_as_much_are_counted(results):
    assert {name: one.beyond for name, one in effects_of(results, "loss").items()} == {
        name: sum(each >= harm - 1e-9 for each in CONTROL) for name, harm in HARM.items()
    }


def test_p_is_corrected_for_the_cuts_of_an_outcome(results):
    for outcome in ("loss", "matching"):
        for one in effects_of(results, outcome).values():
            assert one.p == pytest.approx(2 / 2 ** len(CLIPS))
            assert one.p_joint == pytest.approx(2 / 2 ** len(CLIPS)), "however many cuts there are"
    study = make_study()
    rows = [row for row in make_rows(study) if row["clip"] in CLIPS[:4]]
    plan = SimpleNamespace(selection=SimpleNamespace(clips=CLIPS[:4], settings=SimpleNamespace(steps=(STEP,))))
    few = find_results(replace(study, plan=plan), rows)
    assert all(one.p_joint >= one.p >= 0.125 for one in few.effects)


def test_agreement_is_the_rank_correlation_of_observation_and_effect(results):
    found = {(one.observation, one.outcome): one for one in results.agreements}
    assert found["skill", "loss"].ranks.value == pytest.approx(1)
    assert found["skill", "loss"].pooled == pytest.approx(1)
    assert found["skill", "loss"].sites == 5
    assert found["trait_diagonal", "loss"].ranks.value == pytest.approx(-1)
    assert np.isnan(found["trait_sinks", "loss"].ranks.value)
    assert found["skill", "matching"].sites == 4


def test_with_norms_of_their_own_the_whole_cut_is_compared():
    study = make_study(own=True)
    results = find_results(study, make_rows(study, own=True))
    for name, one in effects_of(results, "loss").items():
        assert one.effect.value == pytest.approx(2 * HARM[name] - np.mean(CONTROL))
        assert one.dose == 1.0


def test_a_clip_without_a_moving_point_is_left_out_alone(results):
    study = make_study()
    rows = [
        {**row, "value": np.nan} if row["metric"] == MAIN_COLUMN and row["clip"] == CLIPS[0] else row
        for row in make_rows(study)
    ]
    found = find_results(study, rows)
    assert {one.clips for one in found.effects if one.outcome == "matching"} == {len(CLIPS) - 1}
    fewer, every = ([one for one in each.agreements if one.outcome == "matching"] for each in (found, results))
    assert [one.sites for one in fewer] == [one.sites for one in every]


@pytest.mark.filterwarnings("error")
def test_a_control_without_a_value_is_left_out_of_the_mean_and_of_the_count(results):
    """Checks what happens in mode generate, where a control may stop all motion of a video."""
    study = make_study()
    lost = {"metric": MAIN_COLUMN, "control": 3}
    rows = [{**row, "value": np.nan} if lost.items() <= row.items() else row for row in make_rows(study)]
    found = find_results(study, rows)
    before, kept = effects_of(results, "matching"), effects_of(found, "matching")
    others = np.mean([harm for i, harm in enumerate(CONTROL) if i != 3])
    for name, one in kept.items():
        assert one.count == 19
        assert one.beyond == before[name].beyond - (CONTROL[3] >= HARM[name])
        assert one.controls / before[name].controls == pytest.approx(others / np.mean(CONTROL))
    assert {one.count for one in effects_of(found, "loss").values()} == {20}


@pytest.mark.filterwarnings("error")
def test_clips_of_which_none_moves_say_nothing_about_matching():
    study = make_study()
    rows = [{**row, "value": np.nan} if row["metric"] == MAIN_COLUMN else row for row in make_rows(study)]
    found = find_results(study, rows)
    matching = [one for one in found.agreements if one.outcome == "matching"]
    assert {one.sites for one in matching} == {0}
    assert all(np.isnan(one.pooled) for one in matching)
    assert " of 20" not in effect_table(found.effects, "matching", 1.0)


def test_the_norm_of_controls_is_compared_with_what_it_should_be(results):
    assert results.norm_made == pytest.approx((1.05, 1.05))


def test_tables_have_a_line_per_cut_and_no_line_for_what_cannot_be_ranked(results):
    assert effect_table(results.effects, "loss", 1.0).count("\n") == 1 + len(HARM)
    assert not effect_table(results.effects, "loss", 0.5)
    table = agreement_table(results.agreements)
    assert "`skill` | loss | +1.000" in table
    assert "trait_sinks" not in table
