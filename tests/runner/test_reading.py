"""How often a run reads its data: every video is decoded once, and only files that are used are read."""

from __future__ import annotations

import os
import pickle
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from support import folders, videos

import vcorr
from vcorr import Clip
from vcorr.runner.coordinator import Outcome, Silent, execute
from vcorr.runner.parts import Part, model_part
from vcorr.runner.plan import make_plan
from vcorr.runner.run_data import ClipReader, data_part
from vcorr.runner.spec import RunSpec


@pytest.fixture
def found(plugins):
    return plugins()


@pytest.fixture
def opened(monkeypatch) -> Counter[str]:
    """Counts how often each video file is opened for reading, by its name."""
    counts: Counter[str] = Counter()
    whole = av.open

    def counting(file, mode="r", **options):
        counts[Path(file).name] += mode == "r"
        return whole(file, mode, **options)

    monkeypatch.setattr(av, "open", counting)
    return counts


@pytest.fixture
def own(tmp_path) -> Path:
    """Makes a folder of three videos."""
    folder = tmp_path / "own"
    folder.mkdir()
    for seed, name in enumerate(("a", "b", "c")):
        videos.write(folder / f"{name}.mp4", videos.noise(5, 64, 64, seed))
    return folder


class Notes(Silent):
    """Keeps what a run reports."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


def run(found, out: Path, data: str, events=None, **changes) -> Outcome:
    given = RunSpec(**{"model": "sliding-model", "probe": "qk", "steps": "0", "data": data, **changes})
    return execute(make_plan(given, found), out, events=events)


def test_a_users_video_is_decoded_once(found, tmp_path, own, opened) -> None:
    events = Notes()
    options = {"data": {"frames": 3}}
    outcome = run(found, tmp_path / "runs", f"video:{own / 'a.mp4'}", events, options=options)
    assert (outcome.status, opened) == ("complete", {"a.mp4": 1})
    assert events.said.count("a.mp4: the first 3 of 5 frames were read.") == 1


def test_of_a_folder_of_videos_only_the_clips_that_run_are_read(found, tmp_path, own, opened) -> None:
    outcome = run(found, tmp_path / "runs", f"video:{own}", limit=2)
    assert (outcome.status, opened) == ("complete", {"a.mp4": 1, "b.mp4": 1})


def test_of_a_dataset_folder_only_the_clips_that_run_are_read(found, tmp_path, opened) -> None:
    made = folders.make_folder(tmp_path / "small", clips=3)
    (made.path / "videos/clip-2.mkv").unlink()
    opened.clear()
    outcome = run(found, tmp_path / "runs", str(made.path), limit=2)
    assert (outcome.status, opened) == ("complete", {"clip-0.mkv": 1, "clip-1.mkv": 1})


def test_a_dataset_folder_has_the_fingerprint_of_all_its_clips(found, tmp_path) -> None:
    made = folders.make_folder(tmp_path / "small", clips=2)
    first = run(found, tmp_path / "runs", str(made.path), limit=1)
    more = run(found, tmp_path / "runs", str(made.path), limit=2)
    assert (more.run, more.reused) == (first.run, 1)
    made.write(folders.with_video(made, folders.row("clip-1", prompt="another")))
    assert run(found, tmp_path / "runs", str(made.path), limit=1).run != first.run


def test_a_video_that_is_damaged_further_on_fails_as_a_clip(found, tmp_path, own) -> None:
    path = own / "b.mp4"
    videos.write(path, videos.noise(40, 64, 64), codec="mjpeg", pixels="yuvj420p")
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes(2000) + whole[middle + 2000 :])
    outcome = run(found, tmp_path / "runs", f"video:{own}")
    assert (outcome.status, outcome.failed) == ("partial", ("b",))


def test_a_file_that_is_no_video_fails_as_a_clip_also_as_the_first(found, tmp_path, own) -> None:
    (own / "a.mp4").write_bytes(b"rubbish" * 100)
    for number, data in enumerate([f"video:{own}", f"video:{own}/*.mp4"]):
        outcome = run(found, tmp_path / f"runs-{number}", data)
        assert (outcome.status, outcome.failed) == ("partial", ("a",))


def test_a_path_of_a_video_needs_no_kind(found, tmp_path, own, monkeypatch) -> None:
    monkeypatch.chdir(own)
    (own / "take:2.mp4").write_bytes((own / "a.mp4").read_bytes())
    (own / "folder.mp4").mkdir()
    for given, kind in [
        ("a.mp4", "video"),
        ("take:2.mp4", "video"),
        (f"{own}/*.mp4", "video"),
        ("folder.mp4", "folder"),
    ]:
        spec = RunSpec(model="sliding-model", probe="qk", data=given)
        part = data_part(spec, model_part(spec, found), found, needs_image=False)
        assert (part.entry.name, part.config.path) == (kind, given)


def test_a_name_that_is_not_utf8_runs(found, tmp_path, own) -> None:
    os.rename(own / "a.mp4", os.fsencode(own) + b"/caf\xe9.mp4")
    events = Notes()
    outcome = run(found, tmp_path / "runs", f"video:{own}", events, options={"data": {"frames": 3}})
    assert (outcome.status, outcome.failed) == ("complete", ())
    assert r"caf\xe9.mp4: the first 3 of 5 frames were read." in events.said


@pytest.mark.parametrize("form", ["video:{}", "{}", "video:{}/../caf*.mp4"])
def test_a_name_that_is_not_utf8_can_be_typed(found, tmp_path, own, monkeypatch, form) -> None:
    monkeypatch.chdir(own)
    os.rename(b"a.mp4", b"caf\xe9.mp4")
    typed = form.format(os.fsdecode(b"caf\xe9.mp4"))
    if "*" in typed:
        os.mkdir(b"caf\xe9.mp4.d")
        typed = os.fsdecode(b"video:caf\xe9.mp4.d/../caf*.mp4")
    outcome = run(found, tmp_path / "runs", typed)
    assert (outcome.status, outcome.failed) == ("complete", ())
    assert r"caf\xe9.mp4" in outcome.run.record()["spec"]["data"]


class Numbered:
    """A dataset that counts how often it reads a clip."""

    split = "test"

    def __init__(self) -> None:
        self.read: list[str] = []

    def ids(self):
        return ("a", "b")

    def clip(self, clip_id: str) -> Clip:
        self.read.append(clip_id)
        return Clip(clip_id, "a prompt", np.zeros((1, 2), dtype=np.float32))


def read_numbered() -> ClipReader:
    entry = vcorr.DatasetEntry(name="numbered", summary="", factory=f"{__name__}:Numbered")
    return ClipReader(Part(entry, "of-the-tests 1", None))


def test_a_clip_looked_at_ahead_is_handed_over_once() -> None:
    reader = read_numbered()
    data = reader.made
    ahead = reader.look_ahead("a")
    assert reader.clip("a") is ahead
    assert data.read == ["a"]
    reader.clip("a")
    assert data.read == ["a", "a"]


def test_at_most_one_clip_is_held_and_none_is_pickled() -> None:
    reader = read_numbered()
    data = reader.made
    reader.look_ahead("a")
    reader.clip("b")
    reader.clip("a")
    assert data.read == ["a", "b", "a"]
    reader.look_ahead("a")
    sent = pickle.loads(pickle.dumps(reader))
    sent.clip("a")
    assert sent.made.read == [*data.read, "a"]


def test_a_dataset_without_optional_members_has_their_defaults() -> None:
    reader = read_numbered()
    reader.check_files(["a"])
    assert (reader.split, list(reader.ids()), reader.identity(), list(reader.notes("a"))) == (
        "test",
        ["a", "b"],
        None,
        [],
    )
