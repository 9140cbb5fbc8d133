"""A dry run needs neither weights nor data: what is missing is a part of what it prints."""

from __future__ import annotations

import json

import pytest
import torch
from support.videos import numbered, write

RUN = ("run", "--model", "sliding-model", "--probe", "qk")


def plan(vcorr, *flags):
    """Returns what a dry run says as JSON, after checking that the printed form ends well too."""
    assert vcorr(*RUN, *flags, "--dry-run").code == 0
    ended = vcorr(*RUN, *flags, "--dry-run", "--json")
    assert (ended.code, ended.err) == (0, "")
    return json.loads(ended.out)


def test_steps_that_are_sampled_are_counted_and_those_that_are_read_are_said_apart(vcorr) -> None:
    found = plan(vcorr, "--prompt", "a picture", "--steps", "0,3")
    assert found["per_clip"] == {
        "runs": 10,
        "branches": 1,
        "read": 2,
        "encodes": 0,
        "decodes": 1,
        "further": 0,
        "passes": 10,
    }
    assert found["forward_passes"] == 10
    text = " ".join(vcorr(*RUN, "--prompt", "a picture", "--steps", "0,3", "--dry-run").out.split())
    assert "2 of 10 are read: 0, 3" in text
    assert "per clip 10 runs of the denoiser, 1 decoded video" in text


@pytest.mark.parametrize(
    ("data", "message", "mode"),
    [
        ("video:nowhere.mp4", "The video nowhere.mp4 does not exist.", "renoise"),
        ("video:nothing/*.mp4", "No file matches nothing/*.mp4.", "renoise"),
        ("prompts:nowhere.txt", "The prompt file nowhere.txt does not exist.", "generate"),
        ("difftrack:cogvideox_t2v_2b/fg", "is not imported", "generate"),
        ("built/nowhere", "built/nowhere is neither a folder nor the name of an imported dataset.", "renoise"),
    ],
)
def test_missing_data_are_a_line_and_the_rest_is_plan(vcorr, data, message, mode) -> None:
    assert vcorr(*RUN, "--data", data).code == 4
    found = plan(vcorr, "--data", data)
    (gap,) = found["missing"]
    assert gap["kind"] == "data"
    assert message in gap["message"]
    assert (found["clips"], found["path"], found["mode"]) == (None, None, mode)
    assert (found["layers"], found["forward_passes"]) == ([0, 1], None)
    assert found["per_clip"]["passes"] == {"renoise": 8, "generate": 10}[mode]


def test_all_that_is_missing_is_said_at_once(vcorr, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    flags = ("--data", "video:nowhere.mp4", "--device", "cuda")
    assert vcorr(*RUN, *flags).code == 4
    found = plan(vcorr, *flags)
    assert [gap["kind"] for gap in found["missing"]] == ["data", "device"]
    assert found["tracker"] == "dis"
    assert found["seconds"] is None
    out = vcorr(*RUN, *flags, "--dry-run").out
    assert "Missing (device): --device cuda: no CUDA device is available here." in out
    assert "how many clips it has is not known" in out


def test_a_device_beyond_the_last_one_is_missing(vcorr, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda name: "a card")
    ended = vcorr(*RUN, "--device", "cuda:2")
    assert (ended.code, ended.err) == (
        2,
        "Error: --device cuda:2: there is no such device.\nThere are cuda:0 to cuda:1.\n",
    )
    (gap,) = plan(vcorr, "--device", "cuda:2")["missing"]
    assert gap["kind"] == "device"


WRONG = (
    ("--layers", "9"),
    ("--steps", "99"),
    ("--probe", "nothing"),
    ("--mode", "nothing"),
    ("--set", "model.nothing=1"),
    ("--device", "nothing"),
    ("--dtype", "nothing"),
    ("--set", "tracker=nothing"),
    ("--limit", "0"),
)
LACKING = ("video:nowhere.mp4", "prompts:nowhere.txt", "difftrack:cogvideox_t2v_2b/fg")


@pytest.mark.parametrize("wrong", WRONG, ids=" ".join)
@pytest.mark.parametrize("data", LACKING)
def test_a_usage_error_stays_one_whatever_is_missing(vcorr, wrong, data) -> None:
    ended = vcorr(*RUN, *wrong, "--data", data, "--dry-run")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Error: ")


def test_what_is_chosen_by_default_is_said_and_kept(vcorr, tmp_path) -> None:
    said = "Chosen by default: --data token-slide, --mode renoise, --steps 8-spread."
    assert plan(vcorr)["notes"] == [said]
    ended = vcorr(*RUN, "--json")
    assert said in ended.err
    found = json.loads(ended.out)
    assert found["notes"] == [said]
    (record,) = tmp_path.glob("runs/*/run.json")
    assert json.loads(record.read_text())["notes"] == [said]
    assert said in vcorr("show", "run", str(record.parent)).out
    assert plan(vcorr, "--data", "token-slide", "--mode", "renoise", "--steps", "all")["notes"] == []


@pytest.mark.parametrize(
    ("flags", "note"),
    [
        (("--layers", "0,0-1"), "--layers names 0 more than once; each counts once."),
        (("--steps", "3,1-4"), "--steps names 3 more than once; each counts once."),
        (("--probe", "qk,feature,qk"), "--probe names qk more than once; each counts once."),
        (("--set", "metrics=pck,pck"), "--set metrics names pck more than once; each counts once."),
        (("--limit", "9"), "--limit 9 takes all clips: split test of token-slide has 4."),
        (("--cfg", "6"), "--cfg 6 does not apply: mode renoise runs the conditional branch alone."),
        (("--mode", "generate"), "Mode generate uses the prompts of token-slide."),
    ],
)
def test_what_a_plan_changes_is_said(vcorr, flags, note) -> None:
    assert any(note in said for said in plan(vcorr, *flags)["notes"])


@pytest.mark.parametrize(
    ("flags", "tracker", "words"),
    [
        ((), "exact", "exact, known by construction"),
        (("--set", "tracker=dis"), "dis", "pseudo tracks by dis version 1, opencv "),
        (("--prompt", "a picture"), "dis", "pseudo tracks by dis version 1, opencv "),
        (("--data", "video:own"), "dis", "pseudo tracks by dis version 1, opencv "),
    ],
)
def test_where_the_reference_tracks_come_from_is_said_everywhere(vcorr, tmp_path, flags, tracker, words) -> None:
    (tmp_path / "own").mkdir()
    write(tmp_path / "own" / "one.mp4", numbered(5, 64, 64))
    flags = (*flags, "--steps", "last", "--limit", "1")
    assert plan(vcorr, *flags)["reference"]["tracker"] == tracker
    ended = vcorr(*RUN, *flags)
    assert f"Reference tracks: {words}" in ended.out
    path = ended.out.splitlines()[-1].removeprefix("Results: ")
    facts = json.loads(vcorr(*RUN, *flags, "--json").out)["reference"]
    assert (facts["tracker"], facts["pseudo"]) == (tracker, tracker == "dis")
    assert json.loads((tmp_path / path / "run.json").read_text())["reference"] == facts
    assert json.loads(vcorr("show", "run", path, "--json").out)["reference"] == facts
    assert words in " ".join(vcorr("show", "run", path).out.split())
    assert f"Reference tracks: {words}" in vcorr("score", path).out


def test_every_way_of_fitting_a_clip_is_noted_once_and_kept(vcorr, tmp_path) -> None:
    (tmp_path / "own").mkdir()
    for name, side in {"a": 64, "b": 68, "c": 68, "d": 76}.items():
        write(tmp_path / "own" / f"{name}.mp4", numbered(5, side, side))
    flags = ("--data", "video:own", "--steps", "last")
    noted = ["b: resized from 68x68 to 64x64 pixels.", "d: resized from 76x76 to 72x72 pixels."]
    ended = vcorr(*RUN, *flags, "--limit", "3")
    assert [note in ended.err for note in noted] == [True, False]
    ended = vcorr(*RUN, *flags)
    assert [note in ended.err for note in noted] == [False, True]
    (record,) = tmp_path.glob("runs/*/run.json")
    kept = json.loads(record.read_text())["clip_notes"]
    assert [note for note in kept if "resized" in note] == noted, "c is brought to its size like b"


def test_layers_of_a_model_without_any_are_not_counted(vcorr) -> None:
    flags = ("--model", "zero-motion", "--data", "token-slide", "--layers", "0-999999999999", "--dry-run")
    ended = vcorr("run", *flags)  # a list of that many layers would not fit into memory
    assert ended.code == 0
    assert "--layers 0-999999999999 does not apply." in ended.out
