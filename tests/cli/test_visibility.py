"""Other thresholds of visibility, from the files of a tracking run: `vcorr show run`, and `vcorr score` with one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support import wandering

from vcorr.contract.errors import UsageError
from vcorr.runner.stored_tracks import read_thresholds
from vcorr.store.rundir import RunDirectory, find_runs


@pytest.fixture
def type_it(vcorr, plugins):
    plugins(wandering)
    return vcorr


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Returns the folder of one tracking run, which the first test makes."""
    return tmp_path_factory.mktemp("walk") / "runs"


@pytest.fixture
def path(type_it, folder, tmp_path) -> str:
    """Returns the folder of a copy of the run."""
    if not folder.exists():
        ended = type_it("track", "--tracker", "doubtful", "--data", "walk", "--out", str(folder))
        assert ended.code == 0, ended.err
    shutil.copytree(folder, tmp_path / "runs")
    (run,) = find_runs(tmp_path / "runs")
    return str(run.path)


def means_of(path):
    rows = RunDirectory(Path(path)).read("scores").to_pylist()
    found = {name: [row["value"] for row in rows if row["metric"] == name] for name in {row["metric"] for row in rows}}
    return {
        name: sum(v for v in values if v == v) / sum(v == v for v in values)
        for name, values in found.items()
        if any(v == v for v in values)
    }


def test_show_run_names_the_best_threshold_and_score_uses_it(type_it, path) -> None:
    said = json.loads(type_it("show", "run", path, "--json").out)["thresholds"]
    before = means_of(path)
    assert said["as_now"]["average_jaccard"] == pytest.approx(before["average_jaccard"], abs=1e-6)
    assert said["as_now"]["occlusion_accuracy"] == pytest.approx(before["occlusion_accuracy"], abs=1e-6)
    best = next(row for row in said["curve"] if row["visible_above"] == said["best"])
    assert best["average_jaccard"] == max(row["average_jaccard"] for row in said["curve"])
    assert 0.4 < said["best"] < 0.5  # hidden points have less than 0.5, seen ones more than 0.4
    assert said["as_now"]["average_jaccard"] < said["cross_fitted"]["average_jaccard"] <= best["average_jaccard"]
    shown = type_it("show", "run", path)
    assert shown.code == 0
    assert "Threshold of visibility" in shown.out
    (command,) = [line for line in shown.out.splitlines() if line.startswith("Scores with another threshold")]
    words = command.partition("vcorr ")[2].split()
    assert type_it(*words).code == 0
    after = means_of(path)
    for name in ("average_jaccard", "occlusion_accuracy"):
        assert after[name] == pytest.approx(best[name], abs=1e-6)
    assert after["pts_within_4"] == before["pts_within_4"]
    assert "visible_above" in type_it("show", "run", path).out  # scored by


def test_the_threshold_of_new_runs_is_pointed_to_the_stored_tracks(type_it, path) -> None:
    ended = type_it("score", path, "--set", "track.threshold=0.3")
    assert (ended.code, "--set metric.visible_above=0.3" in ended.err) == (2, True)
    assert (
        "visible_above: expected a number from 0 to 1" in type_it("score", path, "--set", "metric.visible_above=2").err
    )


def test_a_threshold_for_tracks_without_confidence_is_said_to_have_no_effect(type_it, path) -> None:
    words = ("track", "--model", "zero-motion", "--data", "walk", "--limit", "2")
    made = type_it(*words, "--set", "metric.visible_above=0.3")
    assert made.err.count("metric.visible_above has no effect") == 1
    run = made.out.splitlines()[-1].split()[-1]
    assert type_it("score", run, "--set", "metric.visible_above=0.3").err.count("has no effect") == 1
    assert "has no effect" not in type_it("score", run).err
    assert "has no effect" not in type_it("score", path, "--set", "metric.visible_above=0.3").err


def test_columns_without_visibility_need_no_thresholds(type_it, path) -> None:
    assert "Threshold of visibility" not in type_it("show", "run", path, "--metric", "pts_within_4").out
    assert "Threshold of visibility" in type_it("show", "run", path, "--metric", "average_jaccard").out


def test_a_confidence_of_0_or_1_has_nothing_to_choose(type_it) -> None:
    path = type_it("track", "--tracker", "lk", "--data", "walk", "--limit", "3").out.splitlines()[-1].split()[-1]
    assert "Threshold of visibility" not in type_it("show", "run", path).out


def test_a_run_of_another_task_is_refused(type_it) -> None:
    path = type_it("run", "--model", "position-only", "--data", "walk", "--limit", "2").out.splitlines()[-1].split()[-1]
    with pytest.raises(UsageError, match="is no tracking run"):
        read_thresholds(RunDirectory(Path(path)))


def test_compare_says_in_which_columns_less_is_better(type_it, path) -> None:
    other = type_it("track", "--tracker", "doubtful", "--data", "walk", "--set", "tracker.error=4").out
    words = ("compare", path, other.splitlines()[-1].removeprefix("Results: "))
    ended = type_it(*words, "--metric", "calibration_error,average_jaccard,right_pairs")
    assert ended.code == 0, ended.err
    assert "Lower is better: calibration_error.\n" in ended.out
    said = json.loads(type_it(*words, "--json").out)
    assert said["lower_is_better"] == ["calibration_error", "risk_coverage_area"]
    rows = {row["metric"]: row for row in said["rows"]}
    # accuracies have a gain, other columns only a value; walk-0 has nothing to count, walk-1 no visible pair
    gains = {name: rows[name]["gain_difference"]["estimate"] for name in ("average_jaccard", "right_pairs")}
    assert (gains["average_jaccard"] > 0, gains["right_pairs"]) == (True, None)
    assert "Lower is better" not in type_it(*words, "--metric", "average_jaccard").out


def test_clips_in_which_nothing_counts_are_left_out(type_it, path) -> None:
    rows = RunDirectory(Path(path)).read("scores").to_pylist()
    unscored = {
        (row["clip"], row["metric"]) for row in rows if row["status"] == "not_scored" and "@" not in row["metric"]
    }
    names = {row["metric"] for row in rows if "@" not in row["metric"]}
    assert {metric for clip, metric in unscored if clip == "walk-0"} == names
    seen = {name for name in names if "within" in name} | {"redetection_jaccard", "survival"}
    assert {metric for clip, metric in unscored if clip == "walk-1"} == seen
    assert {clip for clip, _ in unscored} == {"walk-0", "walk-1"}
    (best,) = json.loads(type_it("show", "run", path, "--metric", "average_pts_within_thresh", "--json").out)["best"]
    scored = [row for row in rows if row["metric"] == "average_pts_within_thresh" and row["status"] == "ok"]
    mean = sum(row["value"] for row in scored) / len(scored)
    floor = sum(row["floor"] for row in scored) / len(scored)
    assert (best["clips"], best["not_scored"]) == (8, 2)
    assert (best["value"], best["gain"]) == pytest.approx((mean, (mean - floor) / (1 - floor)))
    assert best["skill"] == pytest.approx(best["gain"])
