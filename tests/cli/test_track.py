"""`vcorr track`: trackers and models without sites as followers of points, and the run that is stored."""

from __future__ import annotations

import json
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support import sliding, videos

import vcorr as api
from vcorr.store.rundir import RunDirectory

SLIDE = ("--data", "token-slide")
ACCURACY = "average_pts_within_thresh"


@dataclass(frozen=True)
class Options:
    """speed: pixels by which points move right per frame. fail: the hue of the first pixel of a video that fails."""

    speed: float = 8.0
    checkpoint: str = ""


class Moving:
    """Moves points right, and calls them hidden in the last frame. Notes every call in a file."""

    def __init__(self, config: Options) -> None:
        self._config = config

    def identity(self):
        name = self._config.checkpoint
        if name and not Path(name).is_file():
            raise api.MissingError("moving has no checkpoint.", hint="Write one.")
        return {"checkpoint": Path(name).read_text()} if name else {}

    def track(self, video, queries):
        with open("calls.txt", "a", encoding="utf-8") as file:
            file.write(f"{video.shape[1]}x{video.shape[2]}\n")
        if Path("stop.txt").is_file():
            raise {"interrupt": KeyboardInterrupt, "fail": ValueError}[Path("stop.txt").read_text()]("stopped")
        since = np.arange(len(video))[None] - queries.t[:, None]
        xy = queries.xy[:, None] + since[..., None] * np.float32([self._config.speed, 0])
        visible = np.ones(xy.shape[:2], bool)
        visible[:, -1] = False
        return api.Tracks(xy.astype(np.float32), visible, "moving", 3)


@api.hookimpl
def vcorr_trackers():
    module, extra = "moving_plugin", {"config": Options, "notice": "Tracks of moving are made up.", "version": 3}
    return [api.TrackerEntry(name="moving", summary="Right.", factory=f"{module}:Moving", **extra)]


@pytest.fixture
def track(vcorr, plugins, monkeypatch):
    """Runs `vcorr track` with the tracker `moving`, and other words."""
    module = types.ModuleType("moving_plugin")
    module.Moving, module.vcorr_trackers = Moving, vcorr_trackers
    monkeypatch.setitem(sys.modules, "moving_plugin", module)
    plugins(module)
    return lambda *words: vcorr("track", *words)


def finished(ended, code: int = 0) -> RunDirectory:
    assert ended.code == code, ended.err
    return RunDirectory(Path(ended.out.splitlines()[-1].removeprefix("Results: ")))


def calls() -> int:
    path = Path("calls.txt")
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_tracker_is_stored_as_a_model_without_sites(track) -> None:
    ended = track("--tracker", "moving", *SLIDE, "--limit", "2")
    run = finished(ended)
    assert (ended.out + ended.err).count("Tracks of moving are made up.") == 1
    rows = run.read("predictions").to_pylist()
    assert [(row["task"], row["probe"], row["layer"], row["step"], row["readout"]) for row in rows] == [
        ("tracking", "direct", -1, -1, "free")
    ] * 2
    row = rows[0]
    grid = api.TokenGrid.from_dict(json.loads(row["grid"]))
    assert (grid.frames, grid.video_frames, grid.stride) == (5, 5, (1, 1))
    np.testing.assert_array_equal(np.reshape(row["visible"], (-1, 5)), [[True] * 4 + [False]] * row["points"])
    assert row["confidence"] == [], "the tracker does not say how sure it is"
    xy = np.reshape(row["xy"], (-1, 5, 2))
    np.testing.assert_array_equal(xy[:, :, 0] - xy[:, :1, 0], [[0, 8, 16, 24, 32]] * row["points"])
    for table in ("tracks", "scores"):
        assert set(run.read(table)["task"].to_pylist()) == {"tracking"}
    assert set(run.read("scores")["model"].to_pylist()) == {"moving"}
    assert set(run.read("tracks")["tracker"].to_pylist()) == {"exact"}


def test_options_files_and_version_of_a_tracker_are_in_its_fingerprint(track) -> None:
    Path("weights.txt").write_text("one")
    words = ("--tracker", "moving", *SLIDE, "--limit", "1")
    plain = finished(track(*words)).record()
    of_file = finished(track(*words, "--set", "tracker.checkpoint=weights.txt")).record()
    Path("weights.txt").write_text("two")
    other = finished(track(*words, "--set", "tracker.checkpoint=weights.txt")).record()
    slow = finished(track(*words, "--set", "tracker.speed=0")).record()
    prints = {record["fingerprints"]["predict"] for record in (plain, of_file, other, slow)}
    assert len(prints) == 4
    assert plain["resolved"]["model"] == {"name": "moving", "version": 3, "config": {"speed": 8.0, "checkpoint": ""}}
    assert plain["resolved"]["versions"]["moving_plugin"] == "1"
    assert (plain["row_context"]["weights"], of_file["row_context"]["weights"][:6]) == ("none", "files:")


def test_a_missing_file_of_a_tracker_is_missing_weights(track) -> None:
    words = ("--tracker", "moving", *SLIDE, "--set", "tracker.checkpoint=nowhere.txt")
    ended = track(*words)
    assert (ended.code, "moving has no checkpoint.\nWrite one." in ended.err) == (4, True)
    planned = track(*words, "--dry-run")
    assert (planned.code, "Missing (weights): moving has no checkpoint." in planned.out) == (0, True)


def test_the_cost_is_stored_per_clip_and_for_the_run(track) -> None:
    ended = track("--tracker", "moving", *SLIDE, "--limit", "3", "--json")
    printed = json.loads(ended.out)
    run = RunDirectory(Path(printed["path"]))
    cost = run.record()["cost"]
    assert printed["cost"] == cost
    points = sum(row["points"] for row in run.read("predictions").to_pylist())
    assert (cost["clips"], cost["points"], cost["frames"]) == (3, points, 15)
    assert cost["seconds_per_point"] == pytest.approx(cost["seconds_per_clip"] * 3 / points, abs=1e-5)
    assert cost["host_gib"] > 0
    assert finished(track("--tracker", "moving", *SLIDE, "--limit", "3")).record()["cost"] == cost, "nothing ran again"


def test_a_run_goes_on_where_it_was_interrupted(track) -> None:
    words = ("--tracker", "moving", *SLIDE, "--limit", "2")
    finished(track(*words[:-1], "1"))
    Path("stop.txt").write_text("interrupt")
    ended = track(*words)
    assert (ended.code, "1 of 2 clips are finished and kept" in ended.err) == (130, True)
    Path("stop.txt").unlink()
    before = calls()
    assert "1 reused" in track(*words).out
    assert calls() == before + 1


def test_a_clip_that_fails_is_a_row_and_is_tried_again(track) -> None:
    words = ("--tracker", "moving", *SLIDE, "--limit", "2")
    Path("stop.txt").write_text("fail")
    run = finished(track(*words), code=1)
    (row, _) = run.read("predictions").to_pylist()
    assert (row["status"], row["task"]) == ("failed", "tracking")
    assert row["error"].startswith("ValueError: stopped (tracker 'moving' of moving_plugin 1")
    Path("stop.txt").unlink()
    assert finished(track(*words)).record()["status"] == "complete"


class Uneven(sliding.SlidingData):
    """Clips of different lengths: the second has one frame; queries are in every frame."""

    def clip(self, clip_id):
        whole = super().clip(clip_id)
        frames = 1 if clip_id == "slide-1" else len(whole.video)
        at = np.arange(len(whole.queries)) % frames
        xy = whole.tracks.xy[np.arange(len(at)), at]
        tracks = api.Tracks(whole.tracks.xy[:, :frames], whole.tracks.visible[:, :frames], tracker="exact")
        queries = api.Queries(at.astype(np.int32), xy)
        return api.Clip(clip_id, "", queries, whole.video[:frames], tracks, query_mode="first")


@api.hookimpl
def vcorr_datasets():
    return sliding.entries_of(api.DatasetEntry, Uneven)


@pytest.mark.parametrize("words", [("--tracker", "moving"), ("--model", "sliding-model", "--layers", "0")])
def test_a_clip_of_one_frame_has_no_score_and_the_others_go_on(vcorr, plugins, monkeypatch, words) -> None:
    module = types.ModuleType("moving_plugin")
    module.Moving, module.vcorr_trackers, module.vcorr_datasets = Moving, vcorr_trackers, vcorr_datasets
    monkeypatch.setitem(sys.modules, "moving_plugin", module)
    monkeypatch.setattr(Uneven, "__module__", "moving_plugin")
    module.Uneven = Uneven
    plugins(module)
    run = finished(vcorr("track", *words, "--data", "uneven", "--limit", "3", "--set", "data.fail=slide-2"), code=1)
    rows = {row["clip"]: row for row in run.read("predictions").to_pylist()}
    assert [rows[f"slide-{i}"]["status"] for i in range(3)] == ["ok", "ok", "failed"]
    assert len(rows["slide-1"]["xy"]) == 2 * rows["slide-1"]["points"]
    values = {row["clip"]: row["value"] for row in run.read("scores").to_pylist() if row["metric"] == ACCURACY}
    assert values["slide-0"] == 1.0
    assert np.isnan(values["slide-1"])


def test_a_baseline_follows_points_with_everything_visible(track) -> None:
    row = finished(track("--model", "token-patches", *SLIDE, "--limit", "1")).read("predictions").to_pylist()[0]
    xy = np.reshape(row["xy"], (-1, 5, 2))
    np.testing.assert_array_equal(xy[:, :, 0] - xy[:, :1, 0], [[0, 8, 16, 24, 32]] * row["points"])
    assert (set(row["visible"]), row["confidence"], row["task"]) == ({True}, [], "tracking")


def test_commands_that_read_runs_take_a_tracking_run(track, vcorr) -> None:
    run = finished(track("--tracker", "moving", *SLIDE, "--limit", "6"))
    ended = track("--model", "token-patches", *SLIDE, "--limit", "6")
    assert "the tracks have no confidence" in " ".join(ended.out.split())
    other = finished(ended)
    (row, _) = json.loads(vcorr("list", "runs", "--json").out)
    assert row["task"] == "tracking"
    assert "tracking" in vcorr("list", "runs").out
    shown = json.loads(vcorr("show", "run", str(run.path), "--json").out)
    assert shown["command"] == "vcorr track --data token-slide --limit 6 --tracker moving"
    assert (shown["task"], "per clip" in shown["cost"]) == ("tracking", True)
    printed = vcorr("show", "run", str(run.path)).out
    scores = printed[printed.index("\nScores ") : printed.index("\nskill = ")]
    named = [line.split()[0] for line in scores.splitlines() if "direct" in line]
    assert named == ["average_pts_within_thresh", "average_jaccard", "occlusion_accuracy"], "one table of all three"
    assert "95 % of value" in scores
    assert not {"ceiling", "gain"} & set(scores.split()), "of tracks the ceiling is 1, and skill is gain"
    assert vcorr("score", str(run.path)).code == 0
    compared = vcorr("compare", str(run.path), str(other.path)).out
    assert "average_jaccard" in compared
    assert "pts_within_8" not in compared.replace("'pts_within_*", ""), "the mean stands for the thresholds"
    assert not any(line.split()[:1] == ["skill"] for line in compared.splitlines()), "it is the gain"
    left = [line for line in compared.splitlines() if line.startswith("Left out: ")]
    assert len(left) == len({line.rpartition(": ")[2] for line in left}), "one sentence per reason"
    words = ("compare", str(run.path), str(other.path), "--metric", "pts_within_8")
    assert "pts_within_8" in vcorr(*words).out


def test_tracking_and_correspondence_do_not_compare(track, vcorr) -> None:
    run = finished(track("--tracker", "moving", *SLIDE, "--limit", "6"))
    read = finished(vcorr("run", "--model", "token-patches", *SLIDE, "--limit", "6"))
    ended = vcorr("compare", str(run.path), str(read.path))
    assert ended.code == 2
    assert "task: tracking and correspondence" in ended.err
    assert "Tracks compare with tracks, masks with masks, and correspondence with correspondence." in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "Neither a model nor a tracker was named"),
        (("--tracker", "moving", "--model", "tiny", *SLIDE), "Both a model and a tracker were named"),
        (("--tracker", "moving"), "No data was named"),
        (("--tracker", "mooving", *SLIDE), "Did you mean 'moving'"),
        (("--tracker", "moving", "--data", "prompts"), "has no video, in which no point moves"),
        (("--tracker", "moving", *SLIDE, "--steps", "3"), "it has no steps and generates nothing"),
        (("--tracker", "moving", *SLIDE, "--layers", "all"), "tracking reads one layer"),
        (("--tracker", "moving", *SLIDE, "--set", "track.chunk=3"), "tracker 'moving' follows points by itself"),
        (("--tracker", "moving", *SLIDE, "--set", "mode=generate"), "Tracking reads videos; it has no mode"),
        (("--tracker", "moving", *SLIDE, "--set", "probe.heads=1"), "--set probe.heads does not apply: with tracker"),
        (("--model", "zncc-search", *SLIDE, "--set", "tracker.speed=1"), "--set tracker.speed does not apply"),
        (("--tracker", "moving", *SLIDE, "--set", "task=correspondence"), "--set task does not apply"),
        (("--tracker", "moving", *SLIDE, "--queries", "strided"), "Unknown option 'data.queries'"),
    ],
)
def test_what_cannot_be_meant_is_one_error(track, words, said) -> None:
    ended = track(*words)
    assert (ended.code, said in ended.err) == (2, True), ended.err


def test_other_runs_say_nothing_of_tracking_in_their_fingerprints(vcorr) -> None:
    run = finished(vcorr("run", "--model", "token-patches", *SLIDE, "--limit", "1"))
    assert {"task", "track"}.isdisjoint(run.record()["resolved"])
    assert "cost" not in run.record()


def test_settings_of_tracking_are_refused_in_other_runs(vcorr) -> None:
    words = ("run", "--model", "token-patches", *SLIDE, "--set")
    assert "track.chunk is set, but this run reads correspondence" in vcorr(*words, "track.chunk=3").err
    assert "preset is set, and only tracking has one" in vcorr(*words, "preset=heft").err


def test_a_tracker_whose_tracks_are_no_numbers_is_named(track, monkeypatch, tmp_path) -> None:
    def return_nan(self, video, queries):
        xy = np.full((len(queries), len(video), 2), np.nan, np.float32)
        return api.Tracks(xy, np.ones(xy.shape[:2], bool), "moving", 3)

    monkeypatch.setattr(Moving, "track", return_nan)
    videos.write(tmp_path / "clip.mkv", videos.noise(3, 32, 32), codec="ffv1", pixels="bgr0")
    ended = track("clip.mkv", "--grid", "2", "--tracker", "moving")
    assert (ended.code, "It happened in tracker 'moving'" in ended.err) == (2, True), ended.err
