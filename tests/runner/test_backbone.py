"""Models without noise, sites of several resolutions, and attention of one frame per call, through all stages."""

import math

import numpy as np
import pytest
from support import backbone, sliding

from vcorr.analysis.estimate import estimate
from vcorr.analysis.overview import overview
from vcorr.cli.views import run_view
from vcorr.contract.errors import PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.functional import matching_accuracy
from vcorr.metrics import MatchingAccuracy, find_ceilings, zero_motion
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.stats.summary import best_sites, summarise
from vcorr.testing import assert_passed, check_model


@pytest.fixture
def found(plugins):
    return plugins(backbone)


def spec(**changes):
    return RunSpec(**{"model": "backbone", "probe": "qk", "limit": 2, **changes})


@pytest.fixture
def scores(found, tmp_path):
    outcome = execute(make_plan(spec(probe="qk,hidden"), found), tmp_path)
    assert outcome.status == "complete"
    return outcome.run.read("scores")


def test_rows_have_no_step_and_no_noise(scores):
    rows = scores.to_pylist()
    assert {(r["layer"], r["step"], r["attention"]) for r in rows} == {(0, -1, "factorised"), (1, -1, "factorised")}
    assert all(math.isnan(r["noise"]) for r in rows)


def test_floors_and_ceilings_belong_to_each_grid(scores):
    clip = sliding.SlidingData(sliding.DataConfig()).clip("slide-0")
    rows = [r for r in scores.to_pylist() if r["metric"] == "matching_accuracy" and r["clip"] == "slide-0"]
    for layer, stride in enumerate(backbone.STRIDES):
        grid = TokenGrid(sliding.FRAMES, 64 // stride, 64 // stride, (stride, stride))
        still = zero_motion(clip.queries.xy, grid.video_frames)
        floor = matching_accuracy(still, clip.tracks.xy, clip.tracks.visible, grid)
        rules = MatchingAccuracy().hit_rules(clip.tracks, grid)
        ceiling = find_ceilings(rules, clip.tracks.xy, clip.queries.xy, grid).values["matching_accuracy"]
        for name, expected in (("floor", floor), ("ceiling", ceiling)):
            assert [r[name] for r in rows if r["layer"] == layer] == [pytest.approx(expected)] * 2
    assert {r["value"] for r in rows if r["layer"] == 0} == {1.0}
    assert {r["ceiling"] for r in rows if r["layer"] == 1} != {1.0}


def test_summaries_have_the_skill_of_each_grid(scores):
    by_layer = {s.layer: s for s in summarise(scores) if s.probe == "qk"}
    assert by_layer[0].skill == 1.0
    assert by_layer[1].ceiling < by_layer[0].ceiling
    assert {best.summary.layer for best in best_sites(scores) if best.summary.probe == "qk"} == {0}


def test_frames_in_parts_answer_as_frames_at_once(found, tmp_path):
    plans = [make_plan(spec(options={"model": {"batch": batch}}), found) for batch in (1, 2, 5)]
    tables = [execute(plan, tmp_path).run.read("predictions").to_pylist() for plan in plans]
    for rows in zip(*tables, strict=True):
        assert len({np.asarray(row["xy"]).tobytes() for row in rows}) == 1


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"steps": "0"}, UsageError, r"has no steps(.|\n)*Leave out --steps"),
        ({"num_steps": 3}, UsageError, "Leave out --set num_steps"),
        ({"mode": "generate"}, UsageError, "generates nothing"),
        ({"probe": "qk,attention"}, UsageError, "'attention' reads"),
        ({"options": {"model": {"pixels_off": 16}}}, PluginError, "0.attend covers 5 frames of 64x64"),
    ],
)
def test_what_such_a_model_cannot_do(found, changes, error, reason):
    with pytest.raises(error, match=reason):
        make_plan(spec(**changes), found)


def test_the_contract(found):
    clip = sliding.SlidingData(sliding.DataConfig()).clip("slide-0")
    for batch in (2, 5):
        config = backbone.BackboneConfig(batch)
        assert_passed(check_model(backbone.Backbone, clip, config=config, text_tokens=1))


def test_a_dry_run_says_that_there_is_one_pass_a_clip(found, tmp_path):
    assert estimate(make_plan(spec(), found), tmp_path).forward_passes == 2


def test_what_people_read_of_it_names_no_step(found, tmp_path, capsys):
    enough = {"limit": 6, "options": {"data": {"clips": 6}}}  # for the stability of a ranking
    run = execute(make_plan(spec(**enough), found), tmp_path).run
    run_view.overview(overview(run))
    shown = capsys.readouterr().out
    assert "2 layers" in shown
    assert "at step" not in shown
    assert " -1 " not in shown
