"""Generate mode and pseudo tracks through all stages: videos are stored, tracked and scored, and never made twice."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support import knowing, sliding
from support.tables import same

from vcorr.analysis.estimate import estimate
from vcorr.contract.errors import StoreError
from vcorr.contract.seeds import stable_seed
from vcorr.data.prompt_dataset import Prompts
from vcorr.data.video.lossless import read_lossless, video_hash, write_lossless
from vcorr.runner.coordinator import Reuse, execute
from vcorr.runner.events import Silent
from vcorr.runner.plan import make_plan
from vcorr.runner.rescore import rescore
from vcorr.runner.spec import RunSpec
from vcorr.store import shards
from vcorr.store.schema import PredictionRow


@pytest.fixture
def found(plugins):
    return plugins(knowing)


def spec(out, **changes) -> RunSpec:
    marker = {"model": {"marker": str(out / "marker")}}
    base = {"model": "sliding-model", "probe": "qk", "steps": "last", "prompt": "a picture", "tracker": "knowing"}
    return RunSpec(**{**base, "options": marker, **changes})


def run(found, out, reuse=Reuse.MATCHING, **changes):
    return execute(make_plan(spec(out, **changes), found), out, reuse=reuse)


def made(out) -> int:
    return len((out / "marker").read_text().split())


def test_a_generated_video_is_kept_tracked_and_scored(found, tmp_path) -> None:
    outcome = run(found, tmp_path)
    (path,) = (outcome.run.path / "videos").iterdir()
    (tracks,) = outcome.run.read("tracks").to_pylist()
    video = sliding.slide(stable_seed(42, "prompt-0000"))[0]
    assert (read_lossless(path) == video).all()
    assert (tracks["video"], tracks["tracker"], tracks["prompt"]) == (video_hash(video), "knowing", "a picture")
    assert tracks["points"] == 400
    rows = [r for r in outcome.run.read("scores").to_pylist() if r["metric"] == "matching_accuracy"]
    assert {(r["mode"], r["tracker"], r["dataset"]) for r in rows} == {("generate", "knowing", "prompts")}
    value = {r["layer"]: r["value"] for r in rows}
    assert value[0] == 1.0
    assert value[1] == rows[1]["floor"]


def test_a_video_without_a_known_frame_rate_is_kept(found, tmp_path, monkeypatch) -> None:
    whole = Prompts.clip
    monkeypatch.setattr(Prompts, "clip", lambda self, clip_id: dataclasses.replace(whole(self, clip_id), fps=0))
    outcome = run(found, tmp_path)
    assert (outcome.status, outcome.failed) == ("complete", ())


def test_another_tracker_tracks_the_kept_video_and_makes_nothing(found, tmp_path) -> None:
    first = run(found, tmp_path)
    second = run(found, tmp_path, tracker="lk")
    assert (second.run, second.reused, made(tmp_path)) == (first.run, 1, 1)
    assert second.run.read("tracks")["tracker"].to_pylist() == ["lk"]
    assert set(second.run.read("scores")["tracker"].to_pylist()) == {"lk"}


def lose(path) -> None:
    path.unlink()


def exchange(path) -> None:
    write_lossless(path, sliding.slide(7)[0], 8)


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path) -> None:
    path.write_bytes(b"")


def make_folder(path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def link_to_nowhere(path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


@pytest.mark.parametrize("damage", [lose, exchange, cut, empty, make_folder, link_to_nowhere])
@pytest.mark.parametrize("tracks", ["kept", "lost"])
def test_a_video_that_is_not_the_one_that_was_made_is_made_again(found, tmp_path, damage, tracks) -> None:
    first = run(found, tmp_path)
    before = {name: first.run.read(name) for name in ("predictions", "tracks", "scores")}
    (path,) = (first.run.path / "videos").iterdir()
    whole = path.read_bytes()
    damage(path)
    if tracks == "lost":
        first.run.shard("tracks", path.stem).unlink()
        with pytest.raises(StoreError, match=r"mkv(.|\n)*Repeat the command that made the run"):
            run(found, tmp_path, Reuse.ONLY)
    else:
        assert run(found, tmp_path, Reuse.ONLY).reused == 1, "nothing needs the video"
    notes = Notes()
    again = execute(make_plan(spec(tmp_path), found), tmp_path, events=notes)
    assert path.read_bytes() == whole
    assert [note for note in notes.said if str(path) in note and note.endswith(f"Clip {path.stem} is made again.")]
    assert all(same(again.run.read(name), table) for name, table in before.items())
    assert (again.reused, made(tmp_path)) == (0, 2)
    assert run(found, tmp_path).reused == 1


class Notes(Silent):
    """Keeps the notes of a run."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


def test_a_video_that_was_copied_with_its_hash_unknown_is_compared_with_the_tracks(found, tmp_path) -> None:
    """A run of an older vcorr names the video in its tracks alone."""
    first = run(found, tmp_path)
    (path,) = (first.run.path / "videos").iterdir()
    shard = first.run.shard("predictions", path.stem)
    print_ = shards.read_fingerprint(shard)
    rows = [PredictionRow(**row) for row in shards.read_shard(shard, "predictions").to_pylist()]
    shards.write_shard(shard, "predictions", rows, print_)
    assert run(found, tmp_path).reused == 1
    exchange(path)
    assert run(found, tmp_path).reused == 0


def test_captions_of_a_dataset_are_prompts(found, tmp_path) -> None:
    outcome = run(found, tmp_path, prompt=None, mode="generate", limit=2)
    assert outcome.run.read("tracks")["prompt"].to_pylist() == ["a sliding picture"] * 2
    assert set(outcome.run.read("scores")["dataset"].to_pylist()) == {"token-slide"}


def test_generating_again_gives_the_same_bits(found, tmp_path) -> None:
    first = run(found, tmp_path)
    second = run(found, tmp_path, reuse=Reuse.NEVER)
    for table in ("predictions", "tracks", "scores"):
        assert same(second.run.read(table).drop(["run"]), first.run.read(table).drop(["run"]))


def test_a_tracker_may_replace_exact_tracks(found, tmp_path) -> None:
    exact = run(found, tmp_path, prompt=None, tracker=None)
    tracked = run(found, tmp_path, prompt=None)
    assert tracked.run == exact.run
    assert made(tmp_path) == 4
    assert set(tracked.run.read("scores")["tracker"].to_pylist()) == {"knowing"}


def test_attention_rows_are_stored_and_scored(found, tmp_path) -> None:
    outcome = run(found, tmp_path, prompt=None, tracker=None, probe="qk,attention", limit=1)
    rows = outcome.run.read("scores").to_pylist()
    cross = {r["layer"]: r for r in rows if r["metric"] == "confidence_cross"}
    assert 0 < cross[0]["value"] <= 1
    assert np.isnan(cross[0]["floor"])
    parts = {r["metric"]: r["value"] for r in rows if r["layer"] == 0 and r["metric"].startswith("attention_")}
    assert parts["attention_cross"] + parts["attention_self"] == pytest.approx(1, abs=1e-5)
    text = next(r for r in rows if r["metric"] == "attention_text")
    assert (text["status"], np.isnan(text["value"])) == ("not_scored", True)
    again = rescore(outcome.run, found, RunSpec(metrics="confidence")).clips
    assert again == 1
    assert {m.rsplit("_", 1)[0] for m in outcome.run.read("scores")["metric"].to_pylist()} == {"confidence"}


def test_a_dry_run_reckons_with_the_videos_that_will_be_kept(found, tmp_path) -> None:
    kept = estimate(make_plan(spec(tmp_path, limit=2, prompt=None, mode="generate"), found), tmp_path).disk_bytes
    read = estimate(make_plan(spec(tmp_path, limit=2, prompt=None, mode="generate", steps="0,9"), found), tmp_path)
    frames, height, width, _ = sliding.slide(42)[0].shape
    # two steps have twice the predictions of one, and the same videos
    videos = 2 * kept - read.disk_bytes
    assert videos == pytest.approx(2 * 0.8 * 3 * frames * height * width, rel=0.01)
