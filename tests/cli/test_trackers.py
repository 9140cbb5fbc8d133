"""Trackers of plugins: their licence, their notice, and the files behind them."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import vcorr as api
from vcorr.store.rundir import RunDirectory

RUN = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "last", "--limit", "2")
TRACKER = ("--set", "tracker=weighed", "--set", "tracker.checkpoint=weights.txt")
NOTICE = "Tracks of weighed are for research alone."


@dataclass(frozen=True)
class Options:
    """checkpoint: a file that holds by how many pixels points move a frame. other: of no meaning."""

    checkpoint: str = ""
    other: int = 3


class Weighed:
    """Moves every point right by what its checkpoint says."""

    def __init__(self, config: Options) -> None:
        self._config = config

    def identity(self):
        return {"checkpoint": f"contents:{self._step()}"}

    def track(self, video, queries):
        moves = np.arange(len(video), dtype=np.float32)[None, :, None] * np.float32([self._step(), 0])
        return api.Tracks(queries.xy[:, None] + moves, np.ones((len(queries), len(video)), bool), "weighed", 4)

    def _step(self) -> float:
        path = Path(self._config.checkpoint)
        if not path.is_file():
            raise api.MissingError("weighed has no checkpoint.", hint="Write one.")
        return float(path.read_text())


@api.hookimpl
def vcorr_trackers():
    module, extra = "weighing_plugin", {"config": Options, "licence": "CC-BY-NC-4.0", "notice": NOTICE, "version": 4}
    return [api.TrackerEntry(name="weighed", summary="By a file.", factory=f"{module}:Weighed", **extra)]


@pytest.fixture
def weighing(vcorr, plugins, monkeypatch, tmp_path):
    module = types.ModuleType("weighing_plugin")
    module.Weighed, module.vcorr_trackers = Weighed, vcorr_trackers
    monkeypatch.setitem(sys.modules, "weighing_plugin", module)
    plugins(module)
    (tmp_path / "weights.txt").write_text("8")
    return vcorr


def finished(ended) -> RunDirectory:
    assert ended.code == 0, ended.err
    return RunDirectory(Path(ended.out.splitlines()[-1].removeprefix("Results: ")))


def test_the_licence_goes_with_the_tracks_and_the_notice_is_said_once(weighing) -> None:
    ended = weighing(*RUN, *TRACKER)
    run = finished(ended)
    assert (ended.out + ended.err).count(NOTICE) == 1
    rows = run.read("tracks").to_pylist()
    assert [(row["tracker"], row["tracker_version"], row["licence"]) for row in rows] == [
        ("weighed", 4, "CC-BY-NC-4.0")
    ] * 2
    assert run.record()["tracker"]["licence"] == "CC-BY-NC-4.0"
    assert set(run.read("scores")["tracker"].to_pylist()) == {"weighed"}


def test_tracks_of_the_data_itself_have_neither(weighing) -> None:
    ended = weighing(*RUN)
    assert NOTICE not in ended.out + ended.err
    assert set(finished(ended).read("tracks")["licence"].to_pylist()) == {""}
    assert finished(ended).record()["tracker"] is None


def test_files_are_known_by_what_is_in_them(weighing, tmp_path) -> None:
    first = finished(weighing(*RUN, *TRACKER))
    before = first.record()["fingerprints"]
    assert first.record()["tracker"]["config"] == {"checkpoint": "contents:8.0", "other": 3}

    (tmp_path / "weights.txt").rename(tmp_path / "moved.txt")
    moved = weighing(*RUN, "--set", "tracker=weighed", "--set", "tracker.checkpoint=moved.txt")
    assert finished(moved).record()["fingerprints"] == before

    (tmp_path / "moved.txt").write_text("0")
    again = weighing(*RUN, "--set", "tracker=weighed", "--set", "tracker.checkpoint=moved.txt")
    after = finished(again).record()["fingerprints"]
    assert "2 reused" in again.out
    assert after["predict"] == before["predict"]
    assert (after["track"] != before["track"], after["score"] != before["score"]) == (True, True)
    (row, _) = finished(again).read("tracks").to_pylist()
    assert np.reshape(row["xy"], (row["points"], -1, 2))[:, -1].ravel().tolist() == row["queries"]


def test_a_missing_file_ends_the_run_before_it_begins(weighing, tmp_path) -> None:
    lacking = (*RUN, "--set", "tracker=weighed", "--set", "tracker.checkpoint=nowhere.txt")
    ended = weighing(*lacking)
    assert ended.code == 4
    assert "weighed has no checkpoint.\nWrite one." in ended.err
    assert [path.name for path in tmp_path.iterdir()] == ["weights.txt"]
    planned = weighing(*lacking, "--dry-run")
    assert planned.code == 0
    assert "Missing (tracker): weighed has no checkpoint.\nWrite one." in planned.out


def test_lists_show_the_licence(weighing) -> None:
    (row,) = [row for row in json.loads(weighing("list", "trackers", "--json").out) if row["name"] == "weighed"]
    assert row["licence"] == "CC-BY-NC-4.0"
    assert "CC-BY-NC-4.0" in weighing("list", "trackers").out
    assert "licence" not in weighing("list", "probes").out
    facts = json.loads(weighing("show", "tracker", "weighed", "--json").out)
    assert (facts["licence"], facts["notice"]) == ("CC-BY-NC-4.0", NOTICE)
    assert {name: one["default"] for name, one in facts["options"].items()} == {"checkpoint": "", "other": 3}
