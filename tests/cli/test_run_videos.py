"""Baselines on the videos that a run generated, `--data run:RUN`: same clips, same tracks, and no others."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import sliding

from vcorr.data.video.lossless import read_lossless, write_lossless
from vcorr.store.rundir import RunDirectory

MODEL = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "last", "--mode", "generate", "--limit", "4")
BASELINE = ("run", "--model", "zncc-search", "--json", "--data")


def run_to_path(vcorr, *arguments) -> Path:
    ended = vcorr(*arguments, *(() if "--json" in arguments else ("--json",)))
    assert ended.code == 0, ended.err
    return Path(json.loads(ended.out)["path"])


def slide_smoothly(seed):
    """Slides a smooth picture, which a tracker can follow; see `sliding.slide`."""
    wide = sliding.SIDE + sliding.SHIFT * sliding.FRAMES
    noise = np.random.default_rng(seed).uniform(0, 255, (sliding.SIDE, wide, 3))
    picture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX).round().astype(np.uint8)
    starts = [sliding.SHIFT * (sliding.FRAMES - 1 - t) for t in range(sliding.FRAMES)]
    return np.stack([picture[:, s : s + sliding.SIDE] for s in starts]), picture


@pytest.fixture(scope="module")
def first_run(tmp_path_factory) -> Path:
    """Returns the folder where the first test that needs the run of the model leaves a copy of it for the others."""
    return tmp_path_factory.mktemp("first") / "run"


@pytest.fixture
def model_run(vcorr, monkeypatch, first_run) -> Path:
    monkeypatch.setattr(sliding, "slide", slide_smoothly)
    if not first_run.exists():
        shutil.copytree(run_to_path(vcorr, *MODEL), first_run)
    run_id = RunDirectory(first_run).record()["run"]
    here = Path("runs", run_id).absolute()
    if not here.exists():
        shutil.copytree(first_run, here)
    return here


def rows(path, table) -> list[dict]:
    return sorted(RunDirectory(path).read(table).to_pylist(), key=lambda row: row["clip"])


def test_rows_name_the_data_mode_and_tracks_of_the_run(vcorr, model_run) -> None:
    baseline = run_to_path(vcorr, *BASELINE, f"run:{model_run}")
    ours, theirs = rows(baseline, "scores"), rows(model_run, "scores")
    same = ("dataset", "split", "mode", "tracker", "tracker_version", "data_hash", "height", "width", "frames")
    assert {tuple(row[name] for name in same) for row in ours} == {tuple(row[name] for name in same) for row in theirs}
    assert {(row["dataset"], row["mode"], row["tracker"]) for row in ours} == {("token-slide", "generate", "dis")}
    assert all(math.isnan(row["still"]) for row in ours)
    for mine, other in zip(rows(baseline, "tracks"), rows(model_run, "tracks"), strict=True):
        for name in ("video", "queries", "xy", "visible", "prompt", "dataset", "split", "tracker", "licence"):
            assert np.array_equal(mine[name], other[name]), name
    floors = [{row["clip"]: row["floor"] for row in found if row["metric"] == "pck_8"} for found in (ours, theirs)]
    assert floors[0] == floors[1]
    record = RunDirectory(baseline).record()
    assert (record["videos_of"]["run"], record["videos_of"]["seed"]) == (model_run.name, 42)
    assert any(f"videos and tracks of run {model_run.name}" in note for note in record["notes"])


def test_baselines_compare_with_the_run_and_with_each_other(vcorr, model_run) -> None:
    one, other = (
        run_to_path(vcorr, "run", "--model", name, "--data", f"run:{model_run}")
        for name in ("zncc-search", "token-patches")
    )
    for pair in ((model_run, one), (other, model_run), (one, other)):
        ended = vcorr("compare", *map(str, pair), "--metric", "pck_8", "--json")
        assert ended.code == 0, ended.err
        assert len(json.loads(ended.out)["clips"]) == 4


def test_videos_of_another_run_are_refused(vcorr, model_run, monkeypatch) -> None:
    """Compares with a run of the same prompts and seed whose model made other videos."""
    baseline = run_to_path(vcorr, *BASELINE, f"run:{model_run}")
    monkeypatch.setattr(sliding, "slide", lambda seed: slide_smoothly(seed + 1000))
    other = run_to_path(vcorr, *MODEL, "--set", "model.sharpness=39")
    of_other = run_to_path(vcorr, *BASELINE, f"run:{other}")
    assert vcorr("compare", str(model_run), str(other)).code == 0
    assert vcorr("compare", str(of_other), str(other)).code == 0
    for pair in ((baseline, other), (other, baseline), (baseline, of_other)):
        ended = vcorr("compare", *map(str, pair))
        assert (ended.code, ended.out) == (2, "")
        assert "generated video of clip slide-0 and 3 more" in ended.err
        assert "Run the model without noise on the videos of the run" in " ".join(ended.err.split())


def test_a_seed_of_its_own_is_the_draw_of_the_baseline_and_not_of_the_videos(vcorr, model_run) -> None:
    path = run_to_path(vcorr, "run", "--model", "random-token", "--data", f"run:{model_run}", "--seed", "7")
    assert vcorr("compare", str(model_run), str(path)).code == 0


def test_another_tracker_on_the_same_videos_is_another_reference(vcorr, model_run) -> None:
    for tracker, code in (("dis", 0), ("lk", 2)):
        path = run_to_path(vcorr, *BASELINE, f"run:{model_run}", "--set", f"tracker={tracker}")
        ended = vcorr("compare", str(model_run), str(path))
        assert ended.code == code, ended.err
    assert "tracks: dis and lk" in ended.err


def test_scores_that_are_made_again_say_the_same(vcorr, model_run) -> None:
    baseline = run_to_path(vcorr, *BASELINE, f"run:{model_run}")
    before = rows(baseline, "scores")
    assert vcorr("score", str(baseline), "--set", "metrics=pck").code == 0
    assert {(row["mode"], row["dataset"]) for row in rows(baseline, "scores")} == {("generate", "token-slide")}
    assert vcorr(*BASELINE, f"run:{model_run}").code == 0
    assert str(rows(baseline, "scores")) == str(before)


def test_a_model_with_noise_reads_them_as_videos_of_their_own(vcorr, model_run) -> None:
    path = run_to_path(vcorr, *MODEL[:7], "--data", f"run:{model_run}")
    assert {(row["mode"], row["dataset"], row["tracker"]) for row in rows(path, "scores")} == {
        ("renoise", "run", "dis")
    }
    ended = vcorr("compare", str(model_run), str(path))
    assert "dataset: token-slide and run" in ended.err


def test_a_run_without_its_videos_is_an_error_with_the_command_that_makes_them(vcorr, model_run) -> None:
    shutil.rmtree(model_run / "videos")
    ended = vcorr(*BASELINE, f"run:{model_run}")
    assert (ended.code, ended.out) == (4, "")
    said = " ".join(ended.err.split())
    assert "does not have the video of clip slide-0 that it made" in said
    command = said.partition("makes what is missing: ")[2].split()
    assert command[:4] == ["vcorr", "run", "--model", "sliding-model"]
    assert vcorr(*command[1:]).code == 0
    assert vcorr(*BASELINE, f"run:{model_run}").code == 0


def test_a_file_with_another_video_is_an_error_that_names_it(vcorr, model_run) -> None:
    videos = sorted((model_run / "videos").iterdir())
    write_lossless(videos[1], 255 - read_lossless(videos[1]), 8.0)
    ended = vcorr(*BASELINE, f"run:{model_run}")
    assert (ended.code, ended.out) == (2, "")
    said = " ".join(ended.err.split())
    assert f"{videos[1]} does not hold the video that was written" in said
    assert "repeat the command that made it" in said


def test_what_made_no_videos_is_refused(vcorr, model_run) -> None:
    renoised = run_to_path(vcorr, *MODEL[:7])
    baseline = run_to_path(vcorr, *BASELINE, f"run:{model_run}")
    for path, words in (
        (renoised, "is a run in mode renoise: it read the videos of token-slide and made none"),
        (baseline, f"reads the videos of run {model_run.name} and made none"),
        ("nowhere", "nowhere is not a run"),
        ("", "--data run: names no file"),
    ):
        ended = vcorr(*BASELINE, f"run:{path}")
        assert ended.code != 0
        assert ended.out == ""
        assert words in " ".join(ended.err.split())


def test_mode_generate_of_a_baseline_says_how_to_read_generated_videos(vcorr) -> None:
    ended = vcorr("run", "--model", "zncc-search", "--data", "token-slide", "--mode", "generate")
    assert ended.code == 2
    assert "--data run:RUN" in ended.err
