"""Which metrics a command shows, by which column sites are chosen, and what is said about metrics that clash."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import metrics as metric_plugin

from vcorr.testing import check_metric

RUN = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "0,9")


@pytest.fixture
def type_it(vcorr, plugins):
    plugins(metric_plugin)
    return vcorr


def list_ranked(ended) -> list[str]:
    """Returns the columns that sites are ranked by, then those without skill, which have one table."""
    lines = ended.out.splitlines()
    ranked = [line.split(" by ")[1].strip() for line in lines if line.startswith("Best sites by")]
    start = next((i for i, line in enumerate(lines) if line.startswith("Without floor and ceiling")), len(lines))
    return ranked + [line.split()[0] for line in lines[start:] if "_error" in line.split("qk")[0] and "qk" in line]


def path_of(ended) -> str:
    return ended.out.splitlines()[-1].removeprefix("Results: ")


def test_a_run_shows_the_metrics_that_were_named(type_it) -> None:
    ended = type_it(*RUN, "--set", "metrics=pck,pixel-error,both,matching_accuracy")
    assert ended.code == 0
    moving = ["pck_8_moving", "matching_accuracy_moving"]
    assert list_ranked(ended) == [*moving, "first_error", "pixel_error", "second_error"]
    path = path_of(ended)
    assert list_ranked(type_it("show", "run", path)) == [*moving, "pixel_error", "second_error"]
    errors = ["first_error", "pixel_error", "second_error"]
    assert list_ranked(type_it("score", path, "--set", "metrics=both,pixel-error")) == errors
    assert list_ranked(type_it("show", "run", path)) == ["pixel_error", "second_error"]
    assert list_ranked(type_it("score", path)) == ["matching_accuracy_moving"]


def test_lower_is_better_where_the_metric_says_so(type_it) -> None:
    ended = type_it(*RUN, "--set", "metrics=pixel-error", "--json")
    assert json.loads(ended.out)["best"] == []  # an error has no ceiling, and so no skill
    (found,) = json.loads(ended.out)["without_skill"]
    # layer 0 sees the motion exactly, layer 1 says that nothing moves
    assert (found["lower_is_better"], found["smallest"]["value"], found["smallest"]["site"]) == (True, 0.0, "0:0")


def test_show_takes_any_stored_column(type_it) -> None:
    path = path_of(type_it(*RUN, "--set", "metrics=pck,both"))
    assert list_ranked(type_it("show", "run", path, "--metric", "pck_1,first_error")) == ["pck_1", "first_error"]
    assert list_ranked(type_it("show", "run", path, "--metric", "both")) == ["second_error"]
    assert list_ranked(type_it("show", "run", path, "--metric", "pck")) == ["pck_8_moving"]
    (best,) = json.loads(type_it("show", "run", path, "--metric", "pck_2_moving", "--json").out)["best"]
    assert best["metric"] == "pck_2_moving"
    ended = type_it("show", "run", path, "--metric", "pck_3")
    assert ended.code == 2
    assert "Unknown metric of this run 'pck_3'" in ended.err
    assert "It has: first_error, pck_1, " in ended.err


@pytest.mark.parametrize(
    ("names", "code", "words"),
    [
        ("pixel-error,twin", 2, "Metrics 'pixel-error' and 'twin' both give the column 'pixel_error'"),
        (
            "nameless",
            3,
            "'nameless' of support.metrics 1 gives the columns first_error, second_error, and names none",
        ),
        ("elsewhere", 3, "names 'elsewhere' as its primary column"),
    ],
)
def test_columns_that_clash_are_refused_before_anything_runs(type_it, names, code, words) -> None:
    for ended in (type_it(*RUN, "--set", f"metrics={names}"), type_it(*RUN, "--set", f"metrics={names}", "--dry-run")):
        assert (ended.code, words in ended.err) == (code, True)
    assert not Path("runs").exists()
    path = path_of(type_it(*RUN))
    before = type_it("show", "run", path).out
    assert type_it("score", path, "--set", f"metrics={names}").code == code
    assert type_it("show", "run", path).out == before


def test_an_undeclared_clash_writes_no_scores(type_it) -> None:
    ended = type_it(*RUN, "--set", "metrics=pixel-error,secret-twin")
    assert ended.code != 0
    assert "Metrics 'pixel-error' and 'secret-twin' both give the column 'pixel_error'" in ended.err
    assert not list(Path("runs").glob("*/scores/*.arrow"))


def test_thresholds_that_look_alike_are_refused(type_it) -> None:
    ended = type_it(*RUN, "--set", "metrics=pck", "--set", "metric.thresholds=[1,1.0000001]")
    assert ended.code == 2
    assert "two thresholds give one column" in ended.err


def test_a_probe_that_nothing_scores_is_named(type_it) -> None:
    ended = type_it("run", "--model", "sliding-model", "--probe", "qk,attention", "--set", "metrics=matching_accuracy")
    assert "Without scores: attention. None of the metrics scores what it predicts." in ended.out
    found = json.loads(type_it("score", path_of(ended), "--set", "metrics=confidence", "--json").out)[0]
    assert found["without_scores"] == ["qk"]


@pytest.mark.parametrize("later", [False, True])
def test_a_run_that_no_metric_scores_says_so_and_stays_readable(type_it, later) -> None:
    none = ("--set", "metrics=matching_accuracy")
    ended = type_it("run", "--model", "sliding-model", "--probe", "attention", *(() if later else none))
    if later:
        ended = type_it("score", path_of(ended), *none)
    shown = type_it("show", "run", path_of(ended))
    assert (ended.code, shown.code) == (0, 0)
    for out in (ended.out, shown.out):
        assert "no metric scores what the probes predict" in " ".join(out.split())
    assert "Not scored" not in type_it("score", path_of(ended), "--set", "metrics=attention").out


def test_a_probe_that_another_metric_scores_is_not_without_scores(type_it) -> None:
    """Checks `show run`, which reads the columns that rank sites alone."""
    ended = type_it("run", "--model", "sliding-model", "--probe", "qk,attention,head-traits")
    shown = type_it("show", "run", path_of(ended))
    assert shown.code == 0
    assert "matching_accuracy" in shown.out
    assert "Without scores" not in ended.out + shown.out


@pytest.mark.parametrize(
    ("made", "words"),
    [(metric_plugin.Nameless, "set `primary`"), (metric_plugin.Elsewhere, "primary is 'elsewhere'")],
)
def test_the_checks_find_a_metric_without_a_primary_column(made, words) -> None:
    failed = {check.name: check.reason for check in check_metric(made()) if not check.passed}
    assert words in failed["a column is primary"]
    assert all(check.passed for check in check_metric(metric_plugin.Both()) if check.name == "a column is primary")
