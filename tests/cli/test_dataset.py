"""`vcorr dataset` as users type it, and its data in runs; in this process and as processes killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import process_environment
from support import knowing, sliding
from support.difftrack import make_set
from support.distributions import install
from support.folders import make_folder, row
from support.processes import PATIENCE, read_marker
from support.tapvid import entry as tapvid_entry
from support.tapvid import write

from vcorr.cli import main as program
from vcorr.contract.errors import UsageError
from vcorr.data.dataset_folder import DatasetFolder
from vcorr.store.shards import read_shard

BUILD = ("dataset", "build", "--model", "sliding-model", "--prompts", "prompts.txt", "--tracker", "knowing")
RUN = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "last")


@pytest.fixture
def vcorr(plugins, capsys, monkeypatch, tmp_path):
    """Runs a command line in a folder with prompts.txt; returns its exit code and what it printed."""
    plugins(knowing)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VCORR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "prompts.txt").write_text("a picture\nanother\n")

    def run(*arguments: str):
        with pytest.raises(SystemExit) as ended:
            program.main(arguments)
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def read_table(path):
    (row,) = read_shard(path, "tracks").to_pylist()
    return row


def test_build_show_and_run(vcorr):
    code, out, _ = vcorr(*BUILD)
    assert code == 0
    assert "2 clips kept, 0 rejected, 0 failed." in out
    path = out.splitlines()[-1].removeprefix("Dataset: ")
    assert path.startswith("built/sliding-model-")
    assert "2 were there already" in vcorr(*BUILD)[1]
    vcorr(*BUILD, "--weights", "random", "--out", "random")
    assert "The weights were random" in vcorr("dataset", "show", "random")[1]
    code, out, _ = vcorr("dataset", "show", path)
    assert code == 0
    assert "5 frames of 64x64" in out
    assert "prompt-0001-seed42" in out
    assert "CC0-1.0" in out
    code, out, _ = vcorr(*RUN, "--data", path, "--json")
    assert code == 0
    assert {s["value"] for s in json.loads(out)["sites"] if s["layer"] == 0} == {1.0}
    assert vcorr(*RUN, "--data", f"folder:{path}", "--json")[1].count('"reused": 2')


def test_what_is_rejected_is_printed_with_its_reason(vcorr):
    code, out, err = vcorr(*BUILD, "--min-visible", "0.9", "--out", "strict")
    assert code == 0
    assert "0 clips kept, 2 rejected" in out
    assert out.count("of the points and frames can be seen, under 0.9") == 2
    assert err.count("is rejected") == 2
    shown = json.loads(vcorr("dataset", "show", "strict", "--json")[1])
    assert (shown["usable"], shown["rejected"], [c["status"] for c in shown["clips"]]) == (0, 2, ["rejected"] * 2)
    code, _, err = vcorr(*RUN, "--data", "strict")
    assert code == 2
    assert "vcorr dataset show strict" in err


def test_a_failed_clip_gives_exit_code_one(vcorr, monkeypatch):
    monkeypatch.setattr(sliding.SlidingModel, "run", lambda *_: 1 / 0)
    code, out, err = vcorr(*BUILD, "--json")
    assert code == 1
    assert {(c["status"], c["reason"]) for c in json.loads(out)["clips"]} == {
        ("failed", "ZeroDivisionError: division by zero (model 'sliding-model' of support.sliding 1, in run())")
    }
    assert "failed: ZeroDivisionError" in err


def test_imported_prompts_are_used_by_name(vcorr, tmp_path):
    make_set(tmp_path / "source", clips=3)
    code, out, _ = vcorr("dataset", "import", "difftrack", "source")
    assert code == 0
    assert "cogvideox_t2v_2b/fg: 3 prompts, 3 with tracks   --data difftrack:cogvideox_t2v_2b/fg" in out
    assert json.loads(vcorr("show", "dataset", "difftrack", "--json")[1])["imported"] == [
        "difftrack:cogvideox_t2v_2b/fg"
    ]
    assert "the tracks cannot serve as reference" in vcorr("dataset", "show", "difftrack:cogvideox_t2v_2b/fg")[1]
    command = (*RUN, "--data", "difftrack:cogvideox_t2v_2b/fg", "--set", "tracker=knowing", "--json")
    code, out, _ = vcorr(*command)
    found = json.loads(out)
    assert (code, found["clips"]) == (0, 3)
    # scored against the tracks of the videos that the run made: DiffTrack's are of other videos
    assert {s["value"] for s in found["sites"] if s["layer"] == 0} == {1.0}
    tracks = read_table(next(Path(found["path"]).glob("tracks/*.arrow")))
    assert (tracks["tracker"], tracks["split"], tracks["points"]) == ("knowing", "cogvideox_t2v_2b/fg", 400)


def test_import_elsewhere_is_named_by_its_path(vcorr, tmp_path):
    make_set(tmp_path / "source", scenes="bg")
    _, out, _ = vcorr("dataset", "import", "difftrack", "source", "--out", "there", "--json")
    (found,) = json.loads(out)
    assert (found["path"], found["clips"]) == ("there/cogvideox_t2v_2b/bg", 2)
    assert json.loads(vcorr("dataset", "show", "there/cogvideox_t2v_2b/bg", "--json")[1])["points"] == "100"
    assert vcorr(*RUN, "--data", "there/cogvideox_t2v_2b/bg", "--limit", "1")[0] == 0


def test_imported_prompts_can_be_built_from(vcorr, tmp_path):
    make_set(tmp_path / "source", scenes="bg")
    vcorr("dataset", "import", "difftrack", "source")
    arguments = [*BUILD, "--limit", "1", "--json"]
    arguments[arguments.index("prompts.txt")] = "difftrack:cogvideox_t2v_2b/bg"
    (clip,) = json.loads(vcorr(*arguments)[1])["clips"]
    assert (clip["clip"], clip["points"], clip["prompt"]) == ("000-seed42", 100, "a thing, number 0")


def test_prompts_as_json_lines(vcorr, tmp_path):
    (tmp_path / "p.jsonl").write_text('{"prompt": "a picture", "id": 7}\n\n"another\\n one"\n')
    arguments = [*BUILD, "--json"]
    arguments[arguments.index("prompts.txt")] = "p.jsonl"
    assert [c["prompt"] for c in json.loads(vcorr(*arguments)[1])["clips"]] == ["a picture", "another one"]


def test_prompts_of_a_dataset_by_its_name(vcorr, tmp_path):
    arguments = [*BUILD, "--limit", "1", "--json"]
    arguments[arguments.index("prompts.txt")] = "token-slide"
    (clip,) = json.loads(vcorr(*arguments)[1])["clips"]
    assert (clip["clip"], clip["prompt"]) == ("slide-0-seed42", "a sliding picture")
    (tmp_path / "token-slide").write_text("a file comes first\n")
    assert json.loads(vcorr(*arguments)[1])["clips"][0]["prompt"] == "a file comes first"


def test_a_record_that_says_little_is_shown(vcorr, tmp_path):
    make_folder(tmp_path / "small").write_text("dataset.json", '{"kind": "built"}')
    code, out, _ = vcorr("dataset", "show", "small", "--json")
    assert (code, json.loads(out)["made"]) == (0, "built")


def test_a_folder_with_masks_says_so_and_is_run_on(vcorr, tmp_path):
    made = make_folder(tmp_path / "masked")
    assert "layer maps" not in json.loads(vcorr("dataset", "show", "masked", "--json")[1])
    layers = np.random.default_rng(0).integers(0, 3, (5, sliding.SIDE, sliding.SIDE), dtype=np.uint8)
    first = replace(made.rows()[0], point_layers=np.int32([0, 2, -1]))
    made.write(made.write_layers(first, layers))
    assert json.loads(vcorr("dataset", "show", "masked", "--json")[1])["layer maps"] == 1
    run = json.loads(vcorr(*RUN, "--data", "masked", "--json")[1])["path"]
    (row,) = read_shard(Path(run) / "tracks" / "clip-0.arrow", "tracks").to_pylist()
    assert row["point_layers"] == [0, 2, -1]
    (made.path / "layers" / "clip-0.mkv").unlink()
    code, _, err = vcorr(*RUN, "--data", "masked", "--seed", "1")
    assert (code, "Clip clip-0: its layer map" in err, "is missing" in err) == (4, True, True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((*BUILD, "--min-moving", "2"), 2, "--min-moving must be a share in [0, 1]"),
        ((*BUILD, "--seeds", "a"), 2, "seeds are whole numbers"),
        ((*BUILD, "--seeds", ","), 2, "--seeds"),
        ((*BUILD, "--seeds", "-1"), 2, "--seeds -1 is out of range"),
        ((*BUILD, "--seeds", str(2**63)), 2, f"whole numbers from 0 to {2**63 - 1}"),
        ((*BUILD, "--set", f"seed={2**64}"), 2, "whole numbers have at most 64 bits"),
        ((*BUILD, "--prompts", ""), 2, "--prompts is empty"),
        ((*BUILD, "--prompts", "table.csv"), 2, "table.csv is .csv; prompts are read from text"),
        ((*BUILD, "--prompts", "bad.jsonl"), 2, "bad.jsonl: line 2 is not JSON"),
        ((*BUILD, "--prompts", "none.jsonl"), 2, "none.jsonl: line 1 holds no prompt"),
        ((*BUILD, "--limit", "0"), 2, "--limit must be at least 1"),
        ((*BUILD, "--tracker", "knowin"), 2, "Did you mean 'knowing'?"),
        ((*BUILD, "--prompts", "nowhere.txt"), 4, "nowhere.txt does not exist"),
        ((*BUILD, "--prompts", "empty.txt"), 2, "empty.txt is empty"),
        ((*BUILD, "--weights", "missing"), 4, "Fetch them."),
        ((*BUILD, "--out", "home"), 2, "home is not empty, and not a dataset"),
        (("dataset", "import", "diftrack", "x"), 2, "Did you mean 'difftrack'?"),
        (("dataset", "import", "difftrack", "nowhere"), 4, "nowhere does not exist"),
        (("dataset", "show", "nowhere"), 4, "neither a folder nor the name of an imported dataset"),
        (("dataset", "show", "sprites"), 4, "vcorr show dataset NAME"),
        (("dataset", "show", "difftrack:a/fg"), 4, "vcorr dataset import difftrack DiffTrack/dataset"),
        (("dataset", "show", "home"), 2, "home is not a dataset folder"),
        ((*RUN, "--data", "home"), 2, "--data video:home"),
        ((*RUN, "--data", "./nowhere"), 4, "./nowhere is neither"),
        ((*RUN, "--data", "difftrack:a/fg"), 4, "vcorr dataset import difftrack"),
        ((*RUN, "--data", "difftrack"), 4, "vcorr dataset import difftrack"),
        ((*RUN, "--data", "folder:"), 2, "folder:built/my-dataset"),
        ((*RUN, "--data", "small", "--mode", "renoise"), 2, "--mode renoise needs videos"),
    ],
)
def test_bad_input_is_one_message_with_its_exit_code(vcorr, tmp_path, arguments, code, message):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "file").touch()
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "table.csv").write_text("id,prompt\n1,a dog\n")
    (tmp_path / "bad.jsonl").write_text('{"prompt": "a dog"}\na cat\n')
    (tmp_path / "none.jsonl").write_text('{"text": "a dog"}\n')
    DatasetFolder.create(tmp_path / "small", "f" * 64).write(row())
    found, _, err = vcorr(*arguments)
    assert found == code
    assert message in err
    assert "Traceback" not in err


def test_a_dataset_whose_video_was_exchanged_is_refused_before_anything_runs(vcorr, tmp_path):
    from vcorr.data.video.lossless import write_lossless

    make_folder(tmp_path / "small")
    write_lossless(tmp_path / "small/videos/clip-1.mkv", sliding.slide(5)[0], 8)
    code, _, err = vcorr(*RUN, "--data", "small")
    assert code == 2
    assert "Clip clip-1: its tracks were made on another video than small/videos/clip-1.mkv holds" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("short", ["clip-0", "clip-1"])
def test_a_clip_the_model_cannot_take_is_a_failed_row(vcorr, tmp_path, monkeypatch, short):
    make_folder(tmp_path / "small")
    calm = sliding.SlidingModel.grid

    def demanding(self, clip, site):
        if clip.id == short and clip.video is not None:
            raise UsageError(f"Clip {clip.id} has {len(clip.video)} frames, too few for one latent.")
        return calm(self, clip, site)

    monkeypatch.setattr(sliding.SlidingModel, "grid", demanding)
    code, out, err = vcorr(*RUN, "--data", "small", "--json")
    assert code == 1
    assert json.loads(out)["failed"] == [short]
    assert f"{short} has 5 frames, too few" in err
    # alone it is an error at once, before anything is loaded
    (tmp_path / "small" / "data" / f"clip-{1 - int(short[-1])}.parquet").unlink()
    code, _, err = vcorr(*RUN, "--data", "small", "--weights", "missing")
    assert (code, f"{short} has 5 frames" in err) == (2, True)


def test_options_that_fit_no_clip_are_one_error(vcorr, tmp_path, monkeypatch):
    make_folder(tmp_path / "small")

    def refusing(self, clip, site):
        raise UsageError("model.height does not divide.")

    monkeypatch.setattr(sliding.SlidingModel, "grid", refusing)
    code, _, err = vcorr(*RUN, "--data", "small")
    assert (code, "does not divide" in err, (tmp_path / "runs").exists()) == (2, True, False)


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGKILL, -9), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_stopped_build_loses_the_clip_in_flight_and_resumes(tmp_path, vcorr_program, start_program, signum, code):
    packages = tmp_path / "packages"
    packages.mkdir()
    install(packages, "vcorr-sliding", Path(sliding.__file__).read_text())
    (tmp_path / "prompts.txt").write_text("\n".join(f"picture {n}" for n in range(5)))
    marker, built = tmp_path / "marker", tmp_path / "set"
    command = [*BUILD[:-1], "lk", "--out", "set", "--min-moving", "0", "--min-visible", "0"]
    command += ["--set", f"model.marker={marker}"]
    os.mkfifo(marker)
    words = [sys.executable, "-m", "vcorr", *command]
    process = start_program(words, cwd=tmp_path, env=process_environment(packages))
    for _ in range(3):  # waits until the next clip has begun
        assert read_marker(process, marker)
    process.send_signal(signum)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, err
    kept = DatasetFolder.open(built).rows()
    assert len(kept) in (2, 3)
    assert DatasetFolder(built).record()["status"] == ("partial" if signum == signal.SIGINT else "started")
    assert "path: data/*.parquet" in (built / "README.md").read_text()

    marker.unlink()
    marker.touch()
    resumed = vcorr_program(*command, "--json", path=packages)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["reused"] == len(kept)
    assert len(marker.read_text().split()) == 5 - len(kept)
    whole = DatasetFolder.open(built)
    assert [r.prompt for r in whole.rows()] == [f"picture {n}" for n in range(5)]
    assert not list(built.rglob(".*"))
    for found in whole.rows():
        whole.check_video(found)
        assert np.isfinite(found.xy).all()


def test_tapvid_is_imported_shown_and_run(vcorr, tmp_path):
    clips = {"fine": tapvid_entry(frames=6), "odd": tapvid_entry(frames=1)}
    source = str(write(tmp_path / "tapvid_davis.pkl", clips))
    assert vcorr(*RUN, "--data", "tapvid-davis")[0] == 4
    code, out, err = vcorr("dataset", "import", "tapvid", source)
    assert (code, out) == (1, "tapvid-davis: 1 clip, 1 failed   --data tapvid-davis\n")
    assert "failed Clip odd cannot be used: video has 1 frame; a track needs at least 2." in err
    code, out, _ = vcorr("dataset", "import", "tapvid", source, "--json")
    found = json.loads(out)
    assert (code, found["clips"], found["reused"], list(found["failed"])) == (1, 2, 1, ["odd"])
    assert "6 frames of 256x256" in vcorr("dataset", "show", "tapvid-davis")[1]
    assert '"tapvid-davis"' in vcorr("list", "datasets", "--json")[1]
    for queries in ("first", "strided"):
        code, out, err = vcorr(*RUN, "--data", "tapvid-davis", "--set", f"data.queries={queries}", "--json")
        assert (code, json.loads(out)["reused"]) == (0, 0), err
    stored = [read_table(path) for path in (tmp_path / "runs").glob("*/tracks/*.arrow")]
    asked = {(row["query_mode"], row["input_class"], *row["query_frames"]) for row in stored}
    assert asked == {("first", "256", 0, 0, 4), ("strided", "256", 0, 0, 5)}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("dataset", "import", "tapvid", "none.pkl"), 4, "none.pkl does not exist"),
        (("dataset", "import", "tapvid", "prompts.txt"), 2, "not a pickle of protocol 2 to 5, but JSON or other text"),
        (("dataset", "import", "tapvid", "some.pkl", "--partial"), 2, "--partial is not for tapvid"),
        (("dataset", "import", "difftrack", ".", "--resize", "none"), 2, "--resize is not for difftrack"),
        (("dataset", "import", "tapvid", "some.pkl", "--name", "davis", "--resize", "255"), 2, "--resize '255'"),
        (("dataset", "import", "tapvid", "some.pkl", "--name", "devis"), 2, "davis"),
        (("dataset", "show", "robotap"), 4, "vcorr dataset import tapvid PATH --name robotap"),
        ((*RUN, "--data", "tapvid-davis"), 4, "vcorr dataset import tapvid PATH --name davis"),
        ((*RUN, "--data", "tapvid-davis:some.pkl"), 2, "vcorr dataset import tapvid some.pkl --name davis"),
        ((*RUN, "--data", "tapvid-davis", "--set", "data.queries=all"), 2, "data.queries"),
    ],
)
def test_what_is_wrong_with_tapvid_is_one_error(vcorr, arguments, code, message):
    write(Path("some.pkl"), {"a": tapvid_entry()})
    found = vcorr(*arguments)
    assert found[0] == code
    assert message in found[2]
    assert "Traceback" not in found[2]
