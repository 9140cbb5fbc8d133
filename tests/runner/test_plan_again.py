"""A command that is repeated is planned from what its finished run knows, and the plan is the same."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import sliding
from support.tables import same

import vcorr
from vcorr.contract.records import Clip, Queries
from vcorr.runner.coordinator import Reuse, execute
from vcorr.runner.known_clip import FIRST_CLIP, describe_clip, outline_clip
from vcorr.runner.plan import make_plan
from vcorr.runner.plan_again import plan_again
from vcorr.runner.spec import RunSpec
from vcorr.store import shards
from vcorr.store.record import read_record


@pytest.fixture
def found(plugins):
    return plugins()


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """The ids of the clips that the dataset has loaded."""
    loaded, load = [], sliding.SlidingData.clip
    monkeypatch.setattr(sliding.SlidingData, "clip", lambda self, name: loaded.append(name) or load(self, name))
    return loaded


def spec(**changes) -> RunSpec:
    return RunSpec(**{"model": "sliding-model", "probe": "qk", "steps": "last", "limit": 2, **changes})


@pytest.mark.parametrize(
    "changes",
    [{}, {"mode": "generate", "tracker": "token-match", "metrics": "pck"}, {"task": "tracking", "layers": "0"}],
    ids=["renoise", "generate", "tracking"],
)
def test_the_plan_is_the_one_that_reads_the_clip(found, tmp_path, reads, changes) -> None:
    if changes.get("task"):
        changes = {**changes, "data": "token-slide"}
    if "tracker" in changes:
        changes = {**changes, "tracker": found.trackers.names()[0]}
    asked = spec(**changes)
    first = make_plan(asked, found)
    assert plan_again(asked, found, tmp_path) is None  # nothing is there yet
    assert execute(first, tmp_path).status == "complete"
    reads.clear()
    again = plan_again(asked, found, tmp_path)
    assert reads == []
    unlike = [
        field.name
        for field in dataclasses.fields(first)
        if field.compare and getattr(again, field.name) != getattr(first, field.name)
    ]
    assert unlike == []
    assert again.fingerprints() == first.fingerprints()
    outcome = execute(again, tmp_path, reuse=Reuse.ONLY)
    assert (outcome.status, outcome.reused, reads) == ("complete", 2, [])


def test_another_command_is_planned_anew(found, tmp_path) -> None:
    execute(make_plan(spec(), found), tmp_path)
    for changes in ({"seed": 1}, {"limit": 1}, {"steps": "0"}, {"options": {"data": {"moved": 1.0}}}):
        assert plan_again(spec(**changes), found, tmp_path) is None, changes
    assert plan_again(spec(), found, tmp_path / "elsewhere") is None
    assert plan_again(spec(), found, tmp_path) is not None


def test_a_run_that_is_not_whole_is_planned_anew(found, tmp_path) -> None:
    run = execute(make_plan(spec(), found), tmp_path).run
    for table in ("predictions", "tracks", "scores"):
        kept = run.shard(table, "slide-1").read_bytes()
        run.shard(table, "slide-1").unlink()
        assert plan_again(spec(), found, tmp_path) is None, table
        run.shard(table, "slide-1").write_bytes(kept)
    record = run.record()
    del record["status"]
    run.write_record(record, "partial")
    assert plan_again(spec(), found, tmp_path) is None


def test_a_record_that_cannot_be_read_is_passed_by(found, tmp_path) -> None:
    run = execute(make_plan(spec(), found), tmp_path).run
    (run.path / "run.json").unlink()
    (run.path / "run.json").mkdir()
    assert plan_again(spec(), found, tmp_path) is None


@pytest.mark.parametrize(
    "known",
    [
        None,
        {},
        {"id": "slide-0"},
        [1],
        {"id": "slide-0", "prompt": "", "fps": -1, "stills": 0, "size": [1], "tracks": {}},
    ],
    ids=str,
)
def test_a_record_that_knows_no_clip_is_no_help(found, tmp_path, known) -> None:
    run = execute(make_plan(spec(), found), tmp_path).run
    record = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**record, FIRST_CLIP: known}))
    assert plan_again(spec(), found, tmp_path) is None


def test_a_clip_with_another_id_is_read(found, tmp_path, reads) -> None:
    run = execute(make_plan(spec(), found), tmp_path).run
    record = run.record()
    run.write_record({**record, FIRST_CLIP: {**record[FIRST_CLIP], "id": "slide-9", "size": [1, 8, 8]}}, "complete")
    reads.clear()
    again = plan_again(spec(), found, tmp_path)
    assert reads == ["slide-0"]
    assert again.first == record[FIRST_CLIP]


def test_other_versions_are_planned_anew(found, tmp_path, monkeypatch) -> None:
    execute(make_plan(spec(), found), tmp_path)
    monkeypatch.setattr("vcorr.runner.identity.SCORING_VERSION", 99)
    assert plan_again(spec(), found, tmp_path) is None


def test_a_damaged_shard_is_found_and_made_again(found, tmp_path, reads) -> None:
    outcome = execute(make_plan(spec(), found), tmp_path)
    path = outcome.run.shard("predictions", "slide-1")
    before = shards.read_shard(path, "predictions")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    again = plan_again(spec(), found, tmp_path)
    reads.clear()
    execute(again or make_plan(spec(), found), tmp_path)
    assert "slide-1" in reads
    assert same(shards.read_shard(path, "predictions"), before)


@given(
    prompt=st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    fps=st.floats(0, 1e6),
    stills=st.booleans(),
    size=st.none() | st.tuples(*[st.integers(1, 5)] * 3),
    points=st.integers(0, 3),
    tracked=st.booleans(),
)
def test_what_a_plan_reads_of_a_clip_comes_back(prompt, fps, stills, size, points, tracked) -> None:
    frames = size[0] if size else 1
    queries = Queries(np.arange(points, dtype=np.int32) % frames, np.full((points, 2), 0.5, np.float32))
    tracks = None
    if tracked and size:
        xy, visible = np.full((points, frames, 2), 0.5, np.float32), np.ones((points, frames), bool)
        tracks = vcorr.Tracks(xy, visible, tracker="made", version=3, query_frame=queries.t)
    video = None if size is None else np.zeros((*size, 3), np.uint8)
    clip = Clip("a", prompt, queries, video, tracks, fps=fps, stills=stills)
    facts = json.loads(json.dumps(describe_clip(clip)))
    outline = outline_clip(facts)
    assert describe_clip(outline) == facts
    assert (outline.id, outline.prompt, outline.fps, outline.stills) == ("a", prompt, fps, stills)
    assert (outline.video is None) == (video is None)
    assert video is None or outline.video.shape == video.shape


def test_the_record_is_read_back(found, tmp_path) -> None:
    run = execute(make_plan(spec(), found), tmp_path).run
    assert read_record(run.path / "run.json")[FIRST_CLIP]["size"] == [sliding.FRAMES, sliding.SIDE, sliding.SIDE]
