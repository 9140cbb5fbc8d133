"""vcorr track VIDEO: from words on the command line to the files of the tracks."""

import json
import os

import numpy as np
import pyarrow as pa
import pytest
from support import videos

from vcorr.cli.commands.track_command import join_points
from vcorr.data.video import read_video

MODEL = ["--grid", "2", "--model", "sliding-model", "--probe", "qk", "--layers", "0"]
TRACKS = ["overlay.mp4", "tracks.arrow", "tracks.csv", "tracks.json", "tracks.npz"]


def slide(frames=6, height=40, width=72):
    """Moves a smooth texture to the right by one pixel per frame."""
    coarse = np.random.default_rng(1).uniform(0, 255, (height // 5, (width + frames) // 5 + 1, 3))
    sheet = np.kron(coarse, np.ones((5, 5, 1)))
    sheet = (sheet + np.roll(sheet, 2, 0) + np.roll(sheet, 2, 1)) / 3
    return np.stack([sheet[:, frames - t : frames - t + width] for t in range(frames)]).astype(np.uint8)


@pytest.fixture
def clip(tmp_path):
    videos.write(tmp_path / "clip.mkv", slide(), codec="ffv1", pixels="bgr0")
    return "clip.mkv"


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_points_are_written_in_the_order_in_which_they_were_typed(vcorr, clip, tmp_path):
    done = vcorr("track", clip, "--points", "20,20", "30,10@3", "--tracker", "lk", "--points", "40,30")
    assert (done.code, done.err) == (0, "")
    assert "lk: 3 points through 6 frames of 72x40 pixels" in done.out
    folder = tmp_path / "tracks" / "clip"
    assert str(folder.relative_to(tmp_path)) in done.out
    assert files_in(folder) == TRACKS
    rows = pa.ipc.open_file(folder / "tracks.arrow").read_all().to_pylist()
    queries = [(row["frame"], row["x"], row["y"]) for row in rows if row["is_query"]]
    assert queries == [(0, 20, 20), (3, 30, 10), (0, 40, 30)]
    assert rows[5]["x"] == pytest.approx(25, abs=0.3)
    with np.load(folder / "tracks.npz") as arrays:
        assert arrays["query_points"].tolist() == [[0, 20, 20], [3, 10, 30], [0, 30, 40]]
    assert len(read_video(folder / "overlay.mp4").frames) == 6


def test_names_and_folders_that_are_not_utf8_are_written(vcorr, clip, tmp_path, monkeypatch):
    folder = os.fsdecode(b"d\xe9r")
    os.mkdir(folder)
    os.rename(clip, os.path.join(folder, os.fsdecode(b"caf\xe9.mkv")))
    monkeypatch.chdir(folder)
    done = vcorr("track", os.fsdecode(b"caf\xe9.mkv"), "--grid", "2", "--tracker", "lk")
    assert (done.code, done.err) == (0, "")
    (made,) = os.listdir("tracks")
    assert os.fsencode(made) == b"caf\xe9"
    assert sorted(os.listdir(os.path.join("tracks", made))) == TRACKS
    with open(os.path.join("tracks", made, "tracks.json"), encoding="utf-8") as file:
        assert json.load(file)["out"] == r"tracks/caf\xe9"
    with open(os.path.join("tracks", made, "tracks.arrow"), "rb") as file:
        assert pa.ipc.open_file(file).read_all().num_rows == 24


def test_a_folder_is_never_overwritten(vcorr, clip, tmp_path):
    arguments = ("track", clip, "--grid", "2", "--tracker", "lk")
    assert vcorr(*arguments).code == vcorr(*arguments).code == 0
    assert files_in(tmp_path / "tracks") == ["clip", "clip-2"]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "note.txt").write_text("mine")
    done = vcorr(*arguments, "--out", "taken")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: taken exists already, and is not overwritten.")
    assert files_in(tmp_path / "taken") == ["note.txt"]


def test_json_and_a_dry_run_say_what_is_followed(vcorr, clip, tmp_path):
    arguments = ("track", clip, "--points", "20,20@2", "--tracker", "lk", "--set", "data.max_side=36", "--json")
    planned = json.loads(vcorr(*arguments, "--dry-run").out)
    assert (planned["size"], planned["followed_at"], planned["frames"]) == ([72, 40], [36, 20], 6)
    assert planned["queries"] == [[2, 20, 20]]
    assert not (tmp_path / "tracks").exists()
    done = json.loads(vcorr(*arguments).out)
    own = {"command", "visible", "files", "passes", "missing"}
    assert {k: v for k, v in done.items() if k not in own} == {k: v for k, v in planned.items() if k not in own}
    assert done["files"] == [
        f"tracks/clip/{name}" for name in ("tracks.arrow", "tracks.csv", "tracks.npz", "overlay.mp4", "tracks.json")
    ]
    kept = json.loads((tmp_path / "tracks/clip/tracks.json").read_text())
    assert (kept["follows"], kept["queries"]) == ("lk", [[2, 20, 20]])


def test_a_model_follows_points_and_says_where_it_was_read(vcorr, tmp_path):
    videos.write(tmp_path / "v.mkv", slide(height=64, width=64), codec="ffv1", pixels="bgr0")
    site = ("--model", "sliding-model", "--probe", "qk", "--layers", "0")
    planned = vcorr("track", "v.mkv", "--points", "9,9", "20,20@3", *site, "--set", "track.chunk=3", "--dry-run")
    # five other frames in chunks of two, for each of two query frames
    assert "2 points through 6 frames of 64x60 pixels; forward passes: 6." in planned.out
    done = vcorr("track", "v.mkv", "--grid", "2", *site, "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert found["follows"] == "sliding-model qk, layer 0, step 9"
    assert found["notes"] == ["From the default: step last."]
    rows = pa.ipc.open_file(tmp_path / "tracks/v/tracks.arrow").read_all()
    assert rows["confidence"].null_count == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--points", "99,8", "--tracker", "lk"], 2, "Point 99,8 lies outside the frame of 72x40 pixels."),
        (["--points", "9,8@6", "--tracker", "lk"], 2, "Point 9,8 is in frame 6, but the video has 6 frames."),
        (["--points", "9;8", "--tracker", "lk"], 2, "'9;8' is no point."),
        (["--tracker", "lk"], 2, "No points to track were given."),
        (["--grid", "0", "--tracker", "lk"], 2, "A grid has at least 1 point along its side, a whole number, got 0."),
        (["--grid", "73", "--tracker", "lk"], 2, "A grid has at most 72 points along its side in frames of 72x40"),
        (["--grid", "2", "--tracker", "lk", "--layers", "3"], 2, "--layers does not apply: tracker 'lk'"),
        (["--grid", "2", "--tracker", "lk", "--preset", "heft"], 2, "--preset does not apply: tracker 'lk'"),
        (["--grid", "2", "--tracker", "lk", "--set", "mode=invert"], 2, "--set mode does not apply: with tracker 'lk'"),
        (["--grid", "2", "--tracker", "lk", "--set", "limit=1"], 2, "--set limit does not apply"),
        (["--grid", "2", "--tracker", "lk", "--set", "track.chunk=3"], 2, "--set track.chunk does not apply"),
        (["--grid", "2", "--tracker", "lk", "--set", "metric.visible_above=1"], 2, "metric.visible_above does not"),
        (["--grid", "2", "--model", "zero-motion", "--layers", "3"], 2, "--layers does not apply: model 'zero-motion'"),
        (["--grid", "2", "--model", "zero-motion", "--probe", "qk"], 2, "--probe does not apply: model 'zero-motion'"),
        (["--grid", "2", "--model", "zero-motion", "--set", "probe.heads=1"], 2, "--set probe.heads does not apply"),
        (["--grid", "2", "--model", "zero-motion", "--set", "variant=difftrack"], 2, "--set variant does not apply"),
        ([*MODEL, "--set", "tracker.window=9"], 2, "tracker.window does not apply: with model 'sliding-model'"),
        ([*MODEL, "--set", "mode=generate"], 2, "--set mode=generate makes videos of its own"),
        ([*MODEL, "--set", "variant=both"], 2, "names 2 variants; a video is followed under one"),
        (["--grid", "2", "--tracker", "lk", "--set", "task=correspondence"], 2, "vcorr track follows points"),
        (["--points", "9", "8", "--tracker", "lk"], 2, "Each word needs a flag in front: vcorr track --help"),
        (["--grid", "2", "--points", "1,1", "--tracker", "lk"], 2, "Give either points or a grid."),
        (["--grid", "2"], 2, "Neither a model nor a tracker was named."),
        (["--grid", "2", "--model", "sliding-model", "--probe", "qk"], 2, "No layer of model 'sliding-model'"),
        (["--grid", "2", "--tracker", "dsi"], 2, "Unknown tracker 'dsi'."),
        (["--grid", "2", "--tracker", "lk", "--limit", "3"], 2, "--limit is for measuring on a dataset"),
        (["--grid", "2", "--tracker", "lk", "--reuse", "never"], 2, "--reuse is for measuring on a dataset"),
        (["--grid", "2", "--tracker", "lk", "--data", "sprites"], 2, "--data is for measuring on a dataset"),
        (["--grid", "2", "--tracker", "lk", "--set", "data.windw=3"], 2, "Unknown option 'data.windw'."),
        (["--grid", "2", "--tracker", "lk", "--set", "data.window=1"], 2, "a window has at least 2 frames"),
        (["more.mp4", "--grid", "2", "--tracker", "lk"], 2, "'more.mp4': no flag takes this word."),
    ],
)
def test_words_that_do_not_fit_are_one_error(vcorr, clip, tmp_path, words, code, said):
    done = vcorr("track", clip, *words)
    assert (done.code, done.out) == (code, "")
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "tracks").exists()


def test_files_that_are_missing_or_damaged_are_one_error(vcorr, clip, tmp_path):
    missing = vcorr("track", "none.mp4", "--grid", "2", "--tracker", "lk")
    assert (missing.code, missing.err) == (4, "Error: The video none.mp4 does not exist.\n")
    whole = (tmp_path / clip).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[:60])
    damaged = vcorr("track", "cut.mkv", "--grid", "2", "--tracker", "lk")
    assert damaged.code == 2
    assert damaged.err.startswith("Error: cut.mkv ")
    assert not (tmp_path / "tracks").exists()
    nothing = vcorr("track", "--grid", "2", "--tracker", "lk")
    assert (nothing.code, nothing.err.splitlines()[0]) == (2, "Error: --grid needs a video.")


def test_several_points_may_follow_one_flag():
    words = ["v.mp4", "--points", "1,2", "3,4@5", ".5,-6", "--grid", "7", "--points", "8,9", "x"]
    assert join_points(words) == ["v.mp4", "--points", "1,2 3,4@5 .5,-6", "--grid", "7", "--points", "8,9", "x"]
