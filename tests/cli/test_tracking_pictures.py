"""The pictures of docs/tracking.md: `docs/draw_tracking.py` on runs of a made-up tracker."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from support import wandering
from support.pages import ROOT

from vcorr.store.rundir import RunDirectory


@pytest.fixture(scope="module")
def drawing():
    """Loads docs/draw_tracking.py as a module."""
    spec = importlib.util.spec_from_file_location("draw_tracking", ROOT / "docs" / "draw_tracking.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_run(vcorr, plugins):
    """Returns a function that tracks and returns the folder of the run."""
    plugins(wandering)

    def track(*words):
        ended = vcorr("track", "--tracker", "doubtful", "--data", "walk", *words)
        assert ended.code == 0, ended.err
        return Path(ended.out.splitlines()[-1].removeprefix("Results: "))

    return track


def values_of(chart):
    """Returns the rows of all data in a chart that are inside it."""
    made = chart.to_dict()
    return [row for rows in made["datasets"].values() for row in rows]


def legends(part):
    """Yields the entries of all legends in a chart."""
    children = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    if isinstance(part, dict) and isinstance(part.get("legend"), dict):
        yield part["legend"]["values"]
    for child in children:
        yield from legends(child)


def test_the_pictures_show_means_over_the_clips_that_all_runs_have(drawing, make_run, tmp_path) -> None:
    near, far = make_run("--limit", "7"), make_run("--set", "tracker.error=6")
    runs = drawing.read_runs([near, far])
    assert [run.name for run in runs] == ["doubtful (1)", "doubtful (2)"]
    rows = RunDirectory(far).read("scores").to_pylist()
    stored = {(row["clip"], row["metric"]): row["value"] for row in rows if int(row["clip"].split("-")[1]) < 7}

    def mean(metric):
        return np.nanmean([value for (_, name), value in stored.items() if name == metric])

    for dimension, strata in {"frames": ["0-4", "4-8", "8-16"], "occluded": ["none", "2-4"]}.items():
        curve = drawing.curve_rows(runs[1], dimension)
        assert [row["stratum"] for row in curve] == strata
        for row in curve:
            assert row["value"] == pytest.approx(mean(f"average_pts_within_thresh@{dimension}:{row['stratum']}"))
    bins = list(drawing.reliability_rows(runs[1]))
    assert len(bins) == 7  # the confidence is between 0.1 and 0.8
    middle = bins[3]
    assert (middle["sure"], middle["right"]) == pytest.approx(
        (mean("mean_confidence@confidence:0.4-0.5"), mean("right_pairs@confidence:0.4-0.5"))
    )
    shown = values_of(drawing.draw_curves(runs)) + values_of(drawing.draw_reliability(runs))
    assert {row["run"] for row in shown if "run" in row} == {"doubtful (1)", "doubtful (2)", "zero motion"}
    assert {row["value"] for row in shown if row.get("run") == "zero motion"} == {0}
    unsure = drawing.Drawn("says no confidence", {})
    (legend,) = {str(v) for v in legends(drawing.draw_reliability([*runs, unsure]).to_dict())}
    assert legend == "['doubtful (1)', 'doubtful (2)']"  # without a line, no entry
    drawing.main([str(near), str(far), "--out", str(tmp_path / "pictures")])
    for name in ("tracking-curves.png", "tracking-reliability.png"):
        assert (tmp_path / "pictures" / name).read_bytes().startswith(b"\x89PNG")


def test_runs_that_measured_other_things_share_no_picture(drawing, make_run, vcorr) -> None:
    one = make_run("--limit", "2")
    ended = vcorr("track", "--tracker", "doubtful", "--data", "token-slide", "--limit", "2")
    other = Path(ended.out.splitlines()[-1].removeprefix("Results: "))
    with pytest.raises(SystemExit, match="differ in dataset"):
        drawing.main([str(one), str(other), "--out", "pictures"])
    assert vcorr("score", str(one), "--set", "metrics=tapvid").code == 0
    with pytest.raises(SystemExit, match="has no strata of tracks"):
        drawing.main([str(one), "--out", "pictures"])
