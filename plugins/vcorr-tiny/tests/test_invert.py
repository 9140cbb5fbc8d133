"""Tests mode invert with the embedded model, through the command line."""

import subprocess
import sys

import pytest

from vcorr.store.rundir import RunDirectory

RUN = [
    *["run", "--model", "tiny", "--probe", "qk", "--steps", "last"],
    *["--data", "sprites", "--mode", "invert", "--limit", "1"],
]


def scores(folder, num_steps):
    command = [sys.executable, "-m", "vcorr", *RUN, "--set", f"num_steps={num_steps}", "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (path,) = folder.iterdir()
    return done.stdout + done.stderr, RunDirectory(path).read("scores").to_pylist()


def test_six_steps_give_the_video_back_and_find_points_in_it(tmp_path):
    said, rows = scores(tmp_path, 6)
    assert "Clip test-0000: the round trip reaches" in said
    assert {row["status"] for row in rows if row["n"]} == {"ok"}
    assert all(row["round_trip"] > 20 for row in rows)
    found = [row for row in rows if row["metric"] == "matching_accuracy"]
    assert {row["mode"] for row in found} == {"invert"}
    assert max(row["value"] - row["floor"] for row in found) > 0.3, "one of its layers matches, whichever it is"


@pytest.mark.slow
def test_two_steps_do_not_and_the_clip_is_not_scored(tmp_path):
    said, (row,) = scores(tmp_path, 2)
    assert "it is not scored" in " ".join(said.split(" "))
    assert (row["status"], row["metric"]) == ("not_scored", "")
    assert row["round_trip"] < 20
    assert row["error"] == f"the round trip of mode invert is {row['round_trip']:.1f} dB, under 20"


def test_a_single_step_is_one_error_and_not_one_per_clip(tmp_path):
    command = [sys.executable, "-m", "vcorr", *RUN, "--set", "num_steps=1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot undo step 0 of 1 of CogVideoXDDIMScheduler" in done.stderr
    assert "--set num_steps=50" in done.stderr
    assert not any(tmp_path.iterdir())


def test_guidance_cannot_be_walked_back(tmp_path):
    command = [sys.executable, "-m", "vcorr", *RUN, "--set", "cfg=6", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Mode invert follows the conditional branch alone, not cfg 6." in done.stderr
    assert not any(tmp_path.iterdir())
