"""Tests mode invert with the embedded model, through the command line."""

import pytest

from vcorr.cli import main as program
from vcorr.store.rundir import RunDirectory

RUN = [
    *["run", "--model", "tiny", "--probe", "qk", "--steps", "last"],
    *["--data", "sprites", "--mode", "invert", "--limit", "1"],
]


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command with more words; returns its exit code, and what it printed to both streams."""

    def end(*words):
        with pytest.raises(SystemExit) as ended:
            program.main([*RUN, *words, "--out", str(tmp_path)])
        return int(ended.value.code or 0), "".join(capsys.readouterr())

    return end


def scores(folder):
    (path,) = folder.iterdir()
    return RunDirectory(path).read("scores").to_pylist()


@pytest.mark.slow
def test_six_steps_give_the_video_back_and_find_points_in_it(run, tmp_path):
    code, said = run("--set", "num_steps=6")
    rows = scores(tmp_path)
    assert code == 0
    assert "Clip test-0000: the round trip reaches" in said
    assert {row["status"] for row in rows if row["n"]} == {"ok"}
    assert all(row["round_trip"] > 20 for row in rows)
    found = [row for row in rows if row["metric"] == "matching_accuracy"]
    assert {row["mode"] for row in found} == {"invert"}
    assert max(row["value"] - row["floor"] for row in found) > 0.3, "one of its layers matches, whichever it is"


@pytest.mark.slow
def test_two_steps_do_not_and_the_clip_is_not_scored(run, tmp_path):
    code, said = run("--set", "num_steps=2")
    (row,) = scores(tmp_path)
    assert code == 0
    assert "it is not scored" in " ".join(said.split(" "))
    assert (row["status"], row["metric"]) == ("not_scored", "")
    assert row["round_trip"] < 20
    assert row["error"] == f"the round trip of mode invert is {row['round_trip']:.1f} dB, under 20"


def test_a_single_step_is_one_error_and_not_one_per_clip(run, tmp_path):
    code, said = run("--set", "num_steps=1")
    assert code == 2
    assert "cannot undo step 0 of 1 of CogVideoXDDIMScheduler" in said
    assert "--set num_steps=50" in said
    assert not any(tmp_path.iterdir())


def test_guidance_cannot_be_walked_back(run, tmp_path):
    code, said = run("--set", "cfg=6")
    assert code == 2
    assert "Mode invert follows the conditional branch alone, not cfg 6." in said
    assert not any(tmp_path.iterdir())
