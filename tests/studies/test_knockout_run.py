"""A knock-out study of a small network with random weights: what it measures, where, and that it goes on."""

import json
from dataclasses import replace

import numpy as np
import pytest

import vcorr
from vcorr.contract.errors import UsageError
from vcorr.runner.held_out import MeasuredClips
from vcorr.stats.sites import SiteId
from vcorr.studies.knockout_observed import Observed
from vcorr.studies.knockout_options import KnockoutOptions, read_doses
from vcorr.studies.knockout_plan import plan_study
from vcorr.studies.knockout_rows import LOSS, NORM
from vcorr.studies.knockout_run import StudyFolder, finish_study, run_study

STEP, SKILLS = 30, (0.01, 0.1, 0.3)
SPEC = {
    "model": "tiny",
    "weights": "random",
    "data": "sprites",
    "options": {
        "model": {"height": 32, "width": 32, "frames": 9, "network.num_layers": 3},
        "data": {"size": 32, "frames": 9, "grid": 4, "clips": 4},
    },
}
SETS = "0,1,0::1+1"


def observe(clips=("test-0000", "test-0002"), weights="random:0", skills=SKILLS, **options):
    config = {"split": "test", "clips": 4, "size": 32, "frames": 9, "grid": 4, "level": "easy"}
    measured = MeasuredClips({"name": "sprites", "split": "test", "config": config}, frozenset(clips))
    heads = range(-1, 4)
    by_site = {SiteId(layer, STEP, head): skill for layer, skill in enumerate(skills) for head in heads}
    return Observed("observed", "tiny", weights, {**SPEC, **options}, measured, by_site, {"trait_sinks": by_site})


def plan(options=None, observed=None, **flags):
    return plan_study(observed or observe(), options or KnockoutOptions(sites=SETS), vcorr.installed(), flags)


@pytest.fixture(scope="module", name="finished")
def make_finished(tmp_path_factory):
    study = plan(KnockoutOptions(sites=SETS, limit=1, doses=(0.5,)))
    folder = StudyFolder.of(study, tmp_path_factory.mktemp("studies"))
    rows = run_study(study, folder, lambda text: None)
    return study, folder, rows, finish_study(study, folder, rows)


def test_clips_that_the_run_measured_are_left_out():
    assert plan().plan.selection.clips == ("test-0001", "test-0003")
    with pytest.raises(UsageError, match="All 4 clips of the data were measured"):
        plan(observed=observe([f"test-000{i}" for i in range(4)]))


def test_other_videos_may_have_the_same_names():
    study = plan_study(observe(), KnockoutOptions(sites="0"), vcorr.installed(), {}, ["data.level=hard"])
    assert len(study.plan.selection.clips) == 4


def test_layers_that_match_are_read_and_controls_come_from_before_them():
    study = plan()
    assert study.readers == (2,)
    assert {size: len(sets) for size, sets in study.controls.items()} == {4: 20, 5: 20}
    assert {unit.layer for sets in study.controls.values() for one in sets for unit in one} == {0, 1}


def test_where_the_layers_before_have_too_few_heads_controls_come_from_all_layers():
    study = plan(KnockoutOptions(sites="0,1"), observe(skills=(0.1, 0.2, 0.1)))
    assert study.readers == (0, 1, 2)
    assert {unit.layer for one in study.controls[4] for unit in one} == {0, 1, 2}


def test_a_dose_changes_the_output_by_its_share_of_the_norm_of_the_whole_cut(finished):
    _, _, rows, _ = finished
    norms = {(row["layer"], row["head"]): row["value"] for row in rows if row["metric"] == NORM}
    full = {str(layer): np.sqrt(sum(norms[layer, head] ** 2 for head in range(4))) for layer in (0, 1)}
    checked = [row for row in rows if row["metric"] == LOSS and row["cut_sites"] in full]
    assert len(checked) == 2 * 2
    for row in checked:
        share = 0.5 if row["matched"] == "whole" else row["dose"]
        assert row["norm_made"] == pytest.approx(share * full[row["cut_sites"]], rel=1e-4)


def test_cuts_and_controls_have_one_norm_the_smallest_of_the_cuts(finished):
    _, _, rows, _ = finished
    common = [row for row in rows if row["metric"] == LOSS and row["matched"] == "common"]
    whole = [row["norm"] for row in rows if row["matched"] == "whole"]
    assert {row["norm"] for row in common} == {min(whole)}
    assert len([row for row in common if row["role"] == "control"]) == 2 * 20
    one_layer = [row["norm_made"] / row["norm"] for row in common if row["cut_sites"] in ("0", "1")]
    assert np.allclose(one_layer, 1, rtol=1e-3)


def test_every_layer_that_is_read_has_scores_with_floor_and_ceiling(finished):
    study, _, rows, _ = finished
    read = [row for row in rows if row["metric"] == "matching_accuracy" and row["role"] == "plain"]
    assert [row["layer"] for row in read] == list(study.readers)
    assert all(row["floor"] <= row["ceiling"] and row["n"] > 0 for row in read)


def test_a_study_goes_on_from_what_is_stored(finished):
    study, folder, rows, _ = finished
    lost = folder.cells.file(study.plan.selection.clips[0], "control 4 3")
    before = lost.read_bytes()
    others = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*.arrow") if path != lost}
    lost.write_bytes(before[: len(before) // 2])
    again = run_study(study, folder, lambda text: None)
    assert [str(row) for row in again] == [str(row) for row in rows]
    assert {path: path.stat().st_mtime_ns for path in others} == others


def test_the_record_and_the_page_say_what_was_measured(finished):
    study, folder, rows, _ = finished
    found = finish_study(study, folder, rows)
    record = json.loads((folder.path / "study.json").read_text())
    assert record["status"] == "complete"
    assert record["sites"] == SETS.split(",")
    assert record["clips"] == list(study.plan.selection.clips)
    assert len(record["results"]["effects"]) == 2 * 3
    assert "| 0::1+1 |" in found.page


def test_another_kind_or_dose_is_another_study():
    prints = {
        plan(KnockoutOptions(**{"sites": SETS, **options})).fingerprint()
        for options in ({}, {"kind": "head"}, {"doses": (0.5,)}, {"controls": 21}, {"own": True}, {"sites": "0"})
    }
    assert len(prints) == 6


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"controls": 19}, "too few random sets"),
        ({"doses": (0.0,)}, "--dose 0.0"),
        ({"doses": (1.5,)}, "--dose 1.5"),
        ({"doses": (float("nan"),)}, "--dose nan"),
        ({"kind": "cross-frames"}, "cross-frame"),
        ({"limit": 0}, "needs clips"),
        ({"sites": "17"}, "no layer 17"),
        ({"steps": "20"}, "no scores of step 20"),
    ],
)
def test_what_makes_no_study_is_refused(options, said):
    with pytest.raises(UsageError, match=said):
        plan(KnockoutOptions(**{"sites": SETS, **options}))


def test_a_run_of_other_weights_is_refused():
    with pytest.raises(UsageError, match="random:7"):
        plan(observed=observe(weights="random:7"))


def test_a_model_that_adds_no_noise_is_refused():
    with pytest.raises(UsageError, match="adds no noise"):
        plan(observed=replace(observe(model="zncc-search"), model="zncc-search", skills={SiteId(-1, -1): 0.5}))


def test_doses_are_numbers():
    assert read_doses("1, 0.5,1") == (0.5, 1.0)
    with pytest.raises(UsageError, match="no list of numbers"):
        read_doses("half")
