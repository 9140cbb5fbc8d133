"""Datasets built in generate mode: clips are stored, judged, found again, and never made twice."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from support import knowing, sliding

import vcorr
from vcorr import Queries
from vcorr.contract.errors import StoreError, UsageError
from vcorr.contract.seeds import stable_seed
from vcorr.data.clip_filters import Filters
from vcorr.data.clip_table import write_row
from vcorr.data.dataset_folder import DatasetFolder
from vcorr.data.dataset_options import FolderConfig
from vcorr.data.prompt_dataset import Prompts
from vcorr.data.stored_dataset import StoredDataset
from vcorr.data.video.lossless import read_lossless, write_lossless
from vcorr.runner.coordinator import execute
from vcorr.runner.dataset_building import build, items
from vcorr.runner.events import Silent
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec

DEFAULT = Filters()


class Listener(Silent):
    """Keeps the notes of a build."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture
def found(plugins):
    return plugins(knowing)


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a picture\nanother picture\n")
    return path


@pytest.fixture
def make(found, tmp_path, prompts):
    """Builds a dataset in `out`; returns its outcome and the notes that the user gets."""

    def run(seeds=(1,), filters=DEFAULT, out="set", **changes):
        options = {"model": {"marker": str(tmp_path / "marker")}}
        base = {"model": "sliding-model", "data": f"prompts:{prompts}", "mode": "generate", "tracker": "knowing"}
        plan = make_plan(RunSpec(**{**base, "options": options, **changes}), found, probing=False)
        listener = Listener()
        return build(
            plan, items(plan, seeds), filters, out if isinstance(out, Path) else tmp_path / out, listener
        ), listener.notes

    return run


def made(tmp_path) -> int:
    return len((tmp_path / "marker").read_text().split())


def test_every_prompt_is_sampled_with_every_seed(make, tmp_path):
    built, _ = make(seeds=(3, 4))
    rows = built.folder.rows()
    ids = [f"prompt-000{p}-seed{s}" for p in (0, 1) for s in (3, 4)]
    assert [row.clip for row in rows] == [row.clip for row in built.rows] == ids
    assert [row.prompt for row in rows] == ["a picture"] * 2 + ["another picture"] * 2
    for row in rows:
        video = sliding.slide(stable_seed(row.seed, row.clip.split("-seed")[0]))[0]
        assert (read_lossless(tmp_path / "set" / row.video, row.video_sha256) == video).all()
        assert (row.xy == knowing.Knowing().track(video, Queries.at(row.queries)).xy).all()
        assert (row.tracker, row.tracker_licence, row.weights, row.query_side) == ("knowing", "CC0-1.0", "hub", 20)
        assert (row.frames, row.height, row.width, row.num_steps) == (5, 64, 64, 10)
    assert built.folder.record()["status"] == "complete"


def test_a_clip_without_a_frame_rate_is_built_and_read(make, tmp_path, monkeypatch):
    whole = Prompts.clip
    monkeypatch.setattr(Prompts, "clip", lambda self, clip_id: dataclasses.replace(whole(self, clip_id), fps=0))
    built, _ = make(limit=1)
    assert [(row.status, row.reason, row.fps) for row in built.rows] == [("ok", "", 8.0)]
    assert StoredDataset(FolderConfig(path=str(tmp_path / "set"))).clip(built.rows[0].clip).fps == 8


def test_a_built_dataset_is_measured_on_like_any_other(make, found, tmp_path):
    make(seeds=(1, 2), filters=Filters(min_moving=0, min_visible=0))
    spec = RunSpec(model="sliding-model", probe="qk", steps="last", data=str(tmp_path / "set"))
    outcome = execute(make_plan(spec, found), tmp_path / "runs")
    assert (outcome.status, outcome.clips) == ("complete", 4)
    scores = [r for r in outcome.run.read("scores").to_pylist() if r["metric"] == "matching_accuracy"]
    assert {(r["dataset"], r["split"], r["mode"], r["tracker"]) for r in scores} == {
        ("folder", "set", "renoise", "knowing")
    }
    assert {r["value"] for r in scores if r["layer"] == 0} == {1.0}


def test_videos_of_random_weights_are_marked(make, tmp_path):
    make()
    assert "weights were random" not in (tmp_path / "set" / "README.md").read_text()
    make(out="random", weights="random")
    assert "weights were random" in (tmp_path / "random" / "README.md").read_text()


def test_repeating_makes_nothing_and_more_of_it_extends_it(make, tmp_path):
    first, _ = make(limit=1)
    again, _ = make(limit=1)
    assert (again.reused, made(tmp_path)) == (1, 1)
    assert again.rows[0].identity() == first.rows[0].identity()
    more, _ = make(seeds=(1, 2))
    assert (more.reused, len(more.rows), made(tmp_path)) == (1, 4, 4)
    whole, _ = make(seeds=(1, 2), out="at-once")
    assert [r.identity() for r in whole.folder.rows()] == [r.identity() for r in more.folder.rows()]


def test_other_thresholds_judge_what_is_there(make, tmp_path):
    strict, notes = make(filters=Filters(min_visible=0.99))
    assert [row.status for row in strict.rows] == ["rejected"] * 2
    assert all("under 0.99" in row.reason and row.video for row in strict.folder.rows())
    assert len(notes) == 2
    assert "is rejected: " in notes[0]
    mild, _ = make(filters=Filters(min_visible=0))
    assert [row.status for row in mild.folder.rows()] == ["ok"] * 2
    assert made(tmp_path) == 2
    assert "clips: 2 ok" in (tmp_path / "set" / "README.md").read_text()


def test_another_spec_does_not_go_into_the_same_folder(make):
    make()
    with pytest.raises(StoreError, match=r"belongs to another dataset(.|\n)*  settings.num_steps: 10 there, 5 now"):
        make(num_steps=5)
    with pytest.raises(StoreError, match="belongs to another dataset") as refused:
        make(tracker="lk")
    lines = refused.value.message.splitlines()[1:]
    assert lines == ["  tracker.name: knowing there, lk now"]


def test_a_dataset_that_appears_before_the_lock_is_taken_is_not_overwritten(make, tmp_path, monkeypatch):
    whole = DatasetFolder.create

    def beaten(path, fingerprint):
        folder = whole(path, fingerprint)
        folder.write_record({"fingerprint": "of another"}, "complete")
        return folder

    monkeypatch.setattr(DatasetFolder, "create", beaten)
    with pytest.raises(StoreError, match=r"dataset\.json belongs to another dataset \(fingerprint of another,"):
        make()
    assert not list((tmp_path / "set" / "data").iterdir())


def test_a_dataset_that_another_process_writes_is_left_alone(make, tmp_path):
    built, _ = make()
    before = {path: path.read_bytes() for path in built.folder.path.rglob("*") if path.is_file()}
    with built.folder.write_lock(), pytest.raises(StoreError, match=r"set is being written by process \d+ on host"):
        make(seeds=(1, 2))
    assert before == {path: path.read_bytes() for path in built.folder.path.rglob("*") if path.is_file()}


def test_a_dataset_in_the_folder_one_is_in_has_its_name(make, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    built, _ = make(out=Path())
    assert {row.dataset for row in built.rows} == {"here"}


def test_other_prompts_do_not_go_into_the_same_folder(make, prompts, tmp_path):
    make()
    before = {path: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()}
    prompts.write_text("a picture\nyet another picture\n")
    with pytest.raises(
        StoreError, match=r"built with other options:\n  data\.content\.prompts: \w{12}… there, \w{12}… now"
    ):
        make()
    assert {path: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()} == before


def test_a_record_of_something_else_does_not_stand_in_for_a_dataset(make, tmp_path):
    built, _ = make()
    built.folder.write_text("dataset.json", '{"fingerprint": "0", "resolved": {"settings": 3}}')
    with pytest.raises(StoreError, match=r"dataset\.json belongs to another dataset \(fingerprint 0,"):
        make()


DAMAGES = {"half": '{"name": "set", ', "empty": "", "zeros": "\0" * 300, "list": "[1]", "lost": None}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_lost_record_is_written_again(make, tmp_path, damage):
    built, _ = make(out="first")
    was = built.folder.record()
    folder = DatasetFolder((tmp_path / "first").rename(tmp_path / "renamed"))
    text = DAMAGES[damage]
    (folder.path / "dataset.json").write_text(text or "")
    if text is None:
        (folder.path / "dataset.json").unlink()
    again, notes = make(out="renamed", seeds=(1, 2))
    assert (again.reused, made(tmp_path), {row.dataset for row in again.rows}) == (2, 4, {"first"})
    assert {**folder.record(), "updated": 0, "started": 0} == {**was, "updated": 0, "started": 0}
    kept = [path.read_text() for path in folder.path.glob("dataset.json.*")]
    assert kept == ([text] if text else [])
    assert (["written again" in note for note in notes if "dataset.json" in note] == [True]) == (text is not None)


@pytest.mark.parametrize("text", ["{", None])
def test_without_a_record_clips_of_another_build_are_left_alone(make, tmp_path, text):
    built, _ = make()
    record = built.folder.path / "dataset.json"
    record.write_text(text) if text else record.unlink()
    before = {path: path.read_bytes() for path in built.folder.path.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match=r"do not say that this command built them|is not empty, and not a dataset"):
        make(num_steps=5)
    write_row(built.folder.row_path("x"), dataclasses.replace(built.rows[0], clip="x"))  # as older versions wrote it
    before[built.folder.row_path("x")] = built.folder.row_path("x").read_bytes()
    with pytest.raises(StoreError, match=r"do not say that this command built them|is not empty, and not a dataset"):
        make()
    assert {path: path.read_bytes() for path in built.folder.path.rglob("*") if path.is_file()} == before


def test_a_video_that_was_exchanged_is_made_again(make, tmp_path):
    built, _ = make()
    row = built.rows[0]
    write_lossless(tmp_path / "set" / row.video, sliding.slide(7)[0], 8)
    again, notes = make()
    assert (again.reused, made(tmp_path)) == (1, 3)
    assert any("made on another video" in note and row.video in note for note in notes)
    assert StoredDataset(FolderConfig(path=str(tmp_path / "set"))).identity()["clips"][row.clip] == row.identity()


def test_a_damaged_row_is_made_again(make, tmp_path):
    built, _ = make()
    built.folder.row_path(built.rows[1].clip).write_bytes(b"PAR1")
    again, notes = make()
    assert again.reused == 1
    assert any("is damaged" in note for note in notes)
    assert [row.status for row in again.folder.rows()] == ["ok"] * 2


def test_a_build_killed_before_its_first_file_goes_on(make, tmp_path):
    (tmp_path / "set" / "data").mkdir(parents=True)
    (tmp_path / "set" / ".dataset.json.1.tmp").touch()
    built, _ = make()
    assert len(built.rows) == 2
    assert not list((tmp_path / "set").glob(".*"))


def test_a_clip_that_fails_is_a_row_and_is_tried_again(make, monkeypatch, tmp_path):
    calm = sliding.SlidingModel.run

    def failing(self, clip, settings, recorder):
        if clip.prompt == "a picture":
            raise RuntimeError("no luck\nat all")
        return calm(self, clip, settings, recorder)

    monkeypatch.setattr(sliding.SlidingModel, "run", failing)
    built, _ = make()
    first = built.rows[0]
    assert (first.status, first.video) == ("failed", "")
    assert first.reason == "RuntimeError: no luck (model 'sliding-model' of support.sliding 1, in run())"
    assert [row.status for row in built.folder.rows()] == ["failed", "ok"]
    assert built.folder.record()["status"] == "partial"
    monkeypatch.setattr(sliding.SlidingModel, "run", calm)
    again, _ = make()
    assert ([row.status for row in again.rows], again.reused) == (["ok", "ok"], 1)
    assert again.folder.record()["status"] == "complete"


def test_positions_that_are_not_finite_fail_the_clip(make, monkeypatch):
    def lost(self, video, queries):
        xy = np.full((len(queries), len(video), 2), np.nan, dtype=np.float32)
        return vcorr.Tracks(xy, np.zeros(xy.shape[:2], dtype=bool), tracker="knowing")

    monkeypatch.setattr(knowing.Knowing, "track", lost)
    built, _ = make()
    assert {row.status for row in built.rows} == {"failed"}
    assert "returned NaN or infinity for 400 of 400 points in the frame of the query" in built.rows[0].reason


def test_a_folder_that_was_renamed_goes_on(make, tmp_path):
    make(limit=1)
    shutil.move(tmp_path / "set", tmp_path / "renamed")
    more, _ = make(out="renamed")
    assert more.reused == 1
    assert {row.dataset for row in more.folder.rows()} == {"set"}


def test_seeds(make):
    for seeds in ((), (1, 1)):
        with pytest.raises(UsageError, match="--seeds"):
            make(seeds=seeds)


def test_the_fingerprint_ignores_what_is_read_on_the_way(found, prompts):
    from vcorr.runner.dataset_building import build_fingerprint

    spec = RunSpec(model="sliding-model", data=f"prompts:{prompts}", mode="generate", tracker="knowing")
    plain = build_fingerprint(make_plan(spec, found, probing=False))
    for same in ({"steps": "last"}, {"layers": "0"}, {"probe": "qk"}, {"seed": 1}, {"limit": 1}):
        assert build_fingerprint(make_plan(dataclasses.replace(spec, **same), found, probing=False)) == plain
    for other in ({"num_steps": 3}, {"cfg": 2.0}, {"tracker": "dis"}, {"dtype": "bfloat16"}):
        assert build_fingerprint(make_plan(dataclasses.replace(spec, **other), found, probing=False)) != plain


def test_settings_that_the_model_applies_by_itself_are_said_and_part_of_a_build(make, monkeypatch) -> None:
    for shift in (3, 8):
        applied = vcorr.AppliedSettings({"flow_shift": shift}, (f"The shift is {shift}.",))
        monkeypatch.setattr(sliding.SlidingModel, "own_settings", lambda self, s, made=applied: made, raising=False)
        if shift == 3:
            assert "The shift is 3." in make()[1]
        else:
            with pytest.raises(StoreError, match=r"applied\.flow_shift: 3 there, 8 now"):
                make()
