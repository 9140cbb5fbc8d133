"""A small study of accelerators, from the command line to its table."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from support.small_models import load_small

import vcorr
from vcorr.capture.recorder import Recorder
from vcorr.cli.main import main
from vcorr.cli.views.accelerator_view import say_study
from vcorr.contract.errors import UsageError
from vcorr.contract.records import RunSettings
from vcorr.diffusion.denoising import RenoisedClip
from vcorr.metrics.pixels import psnr
from vcorr.runner.track import read_video
from vcorr.store.rundir import RunDirectory
from vcorr.studies import accelerator_runs
from vcorr.studies.accelerator_arms import CACHED, SAME_NETWORK, USUAL, parse_arms
from vcorr.studies.accelerator_rows import AcceleratorRow, compare_values_of, correct_rows
from vcorr.studies.measured_values import MeasuredValues

ARMS = ("windowed:frames=0", "first-block-cache:threshold=0.9", "steps=1")
COMMAND = (
    *("study", "accelerators", "--model", "cogvideox", "--weights", "random", "--set", "model.size=small"),
    *("--data", "sprites", "--limit", "2", "--videos", "2", "--num-steps", "2", "--site", "1:49"),
)


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    assert run(*COMMAND, *(word for arm in ARMS for word in ("--accelerator", arm)), "--out", str(out)) == 0
    return out


@pytest.fixture(scope="module")
def rows(folder):
    with pa.OSFile(str(folder / "accelerators.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    assert table.schema.metadata[b"vcorr.units"] == b"count: num_steps, clips"
    return {(row["accelerator"], row["metric"]): row for row in table.to_pylist()}


@pytest.fixture(scope="module")
def runs(folder):
    arms = json.loads((folder / "study.json").read_text())["arms"]
    return {
        (arm["label"], kind): RunDirectory(folder / "runs" / run_id)
        for arm in arms
        for kind, run_id in arm["runs"].items()
        if run_id
    }


def test_ctrl_c_says_what_is_kept_and_the_study_goes_on(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "study"
    shutil.copytree(folder, out)
    before = json.loads((out / "measured.json").read_text())
    for name in ("study.json", "accelerators.arrow"):
        (out / name).unlink()
    (out / "measured.json").write_text(json.dumps({name: part for name, part in before.items() if name != "times"}))
    command = (*COMMAND, *(word for arm in ARMS for word in ("--accelerator", arm)), "--out", str(out))

    def stop(*given, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(accelerator_runs, "time_in_turn", stop)
        assert run(*command) == 130
    said = " ".join(capsys.readouterr().err.split())
    kept = f"1 of 4 arms are finished and kept in {out}. The same command goes on from there."
    assert said.replace(" ", "").endswith(f"Interrupted.{kept}".replace(" ", ""))
    assert not (out / "accelerators.arrow").exists()
    assert not (out / "study.json").exists()
    assert run(*command) == 0
    assert (
        json.loads((out / "study.json").read_text())["arms"] == json.loads((folder / "study.json").read_text())["arms"]
    )


def test_each_arm_has_ordinary_runs_of_its_own_where_it_is_measured(runs):
    assert set(runs) == {
        *((label, "videos") for label in ("plain", *ARMS)),
        *((label, "attention") for label in ("plain", ARMS[0])),
    }
    assert len({one.run_id for one in runs.values()}) == len(runs)
    assert {one.record()["status"] for one in runs.values()} == {"complete"}


def test_the_loss_is_the_mean_square_error_of_the_accelerated_network(rows, runs):
    found = rows["windowed:frames=0", "denoising_loss"]
    entry = next(one.entry for one in vcorr.installed().models.all() if one.entry.name == "cogvideox")
    windowed = entry.create(entry.config_type()(**entry.check, accelerate="windowed:frames=0"))
    windowed.load("cpu", "float32", "random")
    data = next(one.entry for one in vcorr.installed().datasets.all() if one.entry.name == "sprites").create()
    for model, column in ((windowed, "value"), (load_small("cogvideox"), "plain")):
        losses = []
        for name in ("test-0000", "test-0001"):
            clip = vcorr.fit_clip(data.clip(name), model.grid(data.clip(name), None))
            settings = RunSettings(steps=(49,), num_steps=50)
            losses.append(RenoisedClip(model, clip, settings).denoise(49, Recorder({}, clip.queries, layers=())))
        assert found[column] == pytest.approx(np.mean(losses), rel=1e-5)
    assert found["difference"] == pytest.approx(found["value"] - found["plain"], abs=1e-6)
    assert found["better"] == "lower"


def test_videos_are_compared_with_the_plain_ones_of_the_same_prompts_and_seeds(rows, runs):
    plain = runs["plain", "videos"]
    for arm in ARMS:
        own = runs[arm, "videos"]
        each = [psnr(read_video(own, clip), read_video(plain, clip)) for clip in ("test-0000", "test-0001")]
        assert rows[arm, "psnr"]["value"] == pytest.approx(np.mean(each), rel=1e-5)
        assert rows[arm, "flicker"]["clips"] == 2
    assert rows["steps=1", "psnr"]["num_steps"] == 1


def test_what_is_not_measured_has_its_reason(rows):
    for metric in ("skill", "best_skill", "denoising_loss"):
        cached, fewer = (rows[arm, metric] for arm in ARMS[1:])
        assert (cached["reason"], fewer["reason"]) == (CACHED, SAME_NETWORK)
        assert math.isnan(cached["value"])
    few = rows["windowed:frames=0", "best_skill"]
    assert "too few" in few["reason"]


def test_seconds_are_a_ratio_of_videos_made_in_turn(rows):
    for arm in ARMS:
        found = rows[arm, "seconds_per_video"]
        assert found["clips"] == 1  # one pair
        assert found["ratio"] == pytest.approx(found["value"] / found["plain"], rel=1e-4)


def test_the_same_command_measures_nothing_again(folder, rows, runs, capsys):
    before = (folder / "measured.json").read_bytes()
    arms = [word for arm in ARMS for word in ("--accelerator", arm)]
    assert run(*COMMAND, *arms, "--out", str(folder), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    again = {(row["accelerator"], row["metric"]): row for row in found["rows"]}
    assert again.keys() == rows.keys()
    for key, row in again.items():
        for name, value in row.items():
            assert value is None or value == pytest.approx(rows[key][name]), (key, name)
    assert (folder / "measured.json").read_bytes() == before
    assert len(list((folder / "runs").iterdir())) == len(runs)
    assert "Random weights" in found["notes"][0]


def test_fewer_clips_than_an_earlier_command_had_count_alone(folder, rows, tmp_path, capsys):
    again = shutil.copytree(folder, tmp_path / "study")
    assert run(*COMMAND, "--limit", "1", "--accelerator", ARMS[0], "--out", str(again), "--json") == 0
    found = {row["metric"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows[ARMS[0], "skill"]["clips"] == 2
    assert all("Only 1 clip in common" in found[name]["reason"] for name in ("skill", "best_skill"))
    assert found["denoising_loss"]["clips"] == 1


def test_values_of_further_clips_are_added_to_those_of_an_earlier_command(tmp_path):
    asked = []

    def measure(clips):
        asked.append(list(clips))
        return {clip: float(len(asked)) for clip in clips}

    assert MeasuredValues(tmp_path).extend("losses", "run", ["a", "b"], measure) == {"a": 1, "b": 1}
    assert MeasuredValues(tmp_path).extend("losses", "run", ["a", "b", "c"], measure) == {"a": 1, "b": 1, "c": 2}
    assert MeasuredValues(tmp_path).extend("losses", "run", ["b"], measure) == {"b": 1}
    assert asked == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--accelerator", "windwed"], 2, "Did you mean 'windowed'?"),
        (["--accelerator", "steps=0"], 2, "'0' is no number of steps"),
        (["--accelerator", "fp8", "--accelerator", "fp8"], 2, "--accelerator fp8 is there twice"),
        (["--accelerator", "none"], 2, "changes nothing"),
        (["--accelerator", "plain"], 2, "The plain model is in every study"),
        (["--accelerator", "int8:by=torchao"], 4, "needs the package torchao"),
        (["--site", "1:3"], 2, "which this study does not read"),
        (["--set", "metrics=flicker"], 2, "--set metrics=flicker: this study does not read metrics"),
        (["--set", "seed=7"], 2, "does not read seed. It reads model.KEY, data.KEY, probe.KEY, tracker.KEY, tracker"),
        (["--set", "guidance.scale=2"], 2, "does not read guidance.scale"),
        (["--set", "tracker.flow=none"], 2, "flow"),
        (["--site", "best"], 2, "'best' is not a site"),
        (["--model", "zero-motion"], 2, "is not a diffusers video model"),
    ],
)
def test_bad_input_is_one_clear_message(more, code, words, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("vcorr.diffusion.accelerators.stored_weights._is_installed", lambda name: False)
    command = list(COMMAND)
    if more[0] == "--model":
        command[command.index("cogvideox")] = more.pop()
        del more[0], command[command.index("--weights") : command.index("--data")]
    assert run(*command, *more, "--out", str(tmp_path)) == code
    said = " ".join(capsys.readouterr().err.split())
    assert words in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_the_usual_arms_are_all_accelerators_and_fewer_steps():
    arms = parse_arms((), 50)
    assert [arm.label for arm in arms] == [*USUAL, "steps=25", "steps=12"]
    assert all(arm.is_usual for arm in arms)
    assert [arm.label for arm in parse_arms((), 1)] == list(USUAL)


def test_an_arm_may_be_another_model_or_low_rank_weights():
    (arm,) = parse_arms(("model=fast+lora=x.safetensors+steps=4+fp8",), 50)
    assert (arm.model, arm.lora, arm.num_steps, arm.accelerate) == ("fast", "x.safetensors", 4, "fp8")
    assert arm.unread == ""
    with pytest.raises(UsageError, match="Unknown accelerator"):
        parse_arms(("fp8+",), 50)


def test_values_are_paired_by_clip_and_p_is_corrected_over_the_arms():
    plain = {str(i): 0.5 for i in range(8)} | {"extra": 9.0}
    rows = [
        compare_values_of(
            AcceleratorRow(accelerator=name, metric="m"), {str(i): 0.5 + shift + 0.01 * i for i in range(8)}, plain
        )
        for name, shift in (("a", 0.1), ("b", 0.2))
    ]
    assert [row.difference for row in rows] == pytest.approx([0.135, 0.235])
    assert all(row.clips == 8 and row.low < row.difference < row.high for row in rows)
    assert [row.p for row in rows] == pytest.approx([2 / 256, 2 / 256])
    assert [row.p_holm for row in correct_rows(rows)] == pytest.approx([4 / 256, 4 / 256])


def test_small_differences_of_scores_are_not_rounded_to_zero(capsys):
    shared = {"accelerator": "nf4", "clips": 8}
    rows = [
        AcceleratorRow(metric="skill", value=0.2, difference=-0.01, low=-0.024, high=0.004, **shared),
        AcceleratorRow(metric="warp_error", value=1e-4, difference=-6.44e-5, low=-1e-4, high=-2e-5, **shared),
    ]
    facts = {"model": "tiny", "site": "7:49"}
    say_study(SimpleNamespace(rows=rows, facts=facts, folder=Path("study")))
    out = capsys.readouterr().out
    assert "-6.44e-05" in out
    assert "-0.010" in out
