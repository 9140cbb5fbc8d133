"""Tests the embedded model on a dataset folder with queries in several frames, through the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from vcorr_tiny.dataset import Sprites, SpritesConfig

from vcorr.cli import main as program
from vcorr.data.clip_row import ClipRow
from vcorr.data.dataset_folder import VIDEOS, DatasetFolder, file_hash
from vcorr.data.video.lossless import write_lossless
from vcorr.store.rundir import RunDirectory

GRID = 6


@pytest.fixture
def folder(tmp_path, monkeypatch) -> tuple[Path, ClipRow]:
    """Returns a dataset folder with one clip of sprites, and its row; queries are in frames 0, 6, 9 and 16."""
    monkeypatch.chdir(tmp_path)
    clip = Sprites(SpritesConfig(grid=GRID)).clip("test-0003")
    height, width = clip.video.shape[1:3]
    frames = np.int32([0, 6, 9, 16])[np.arange(GRID**2) % 4]
    queries = clip.tracks.xy[np.arange(GRID**2), frames]
    inside = ((queries >= 0) & (queries <= [width, height])).all(axis=1)
    made = DatasetFolder.create(tmp_path / "timed", "f" * 64)
    (made.path / VIDEOS).mkdir()
    name = made.video_name("c")
    row = ClipRow(
        dataset="timed",
        split="test",
        clip="c",
        prompt=clip.prompt,
        model="sprites",
        frames=len(clip.video),
        height=height,
        width=width,
        queries=queries[inside],
        query_frames=frames[inside],
        xy=clip.tracks.xy[inside],
        visible=clip.tracks.visible[inside],
        tracker="exact",
        tracker_version=1,
        video=name,
        video_sha256=write_lossless(made.path / name, clip.video, clip.fps),
        file_sha256=file_hash(made.path / name),
    )
    made.write(row)
    return made.path, row


def run(folder: Path, *arguments: str) -> RunDirectory:
    with pytest.raises(SystemExit) as ended:
        program.main(["run", "--data", str(folder), "--out", "runs", *arguments])
    assert not ended.value.code
    return max((RunDirectory(path) for path in Path("runs").iterdir()), key=lambda run: run.path.stat().st_mtime_ns)


def test_tracks_of_the_model_start_at_the_frame_of_the_query(folder) -> None:
    path, row = folder
    assert set(row.query_frames) == {0, 6, 9, 16}
    found = run(path, "--model", "tiny", "--probe", "qk,attention", "--layers", "7", "--steps", "last")
    (prediction,) = (r for r in found.read("predictions").to_pylist() if r["kind"] == "positions")
    assert prediction["query_frames"] == row.query_frames.tolist()
    xy = np.float32(prediction["xy"]).reshape(prediction["points"], prediction["latents"], 2)
    own = np.array([0, 2, 3, 4])[np.searchsorted([0, 6, 9, 16], row.query_frames)]  # latents 5-8, 9-12 and 13-16
    assert np.array_equal(xy[np.arange(len(xy)), own], row.queries)
    scores = {r["metric"]: r for r in found.read("scores").to_pylist()}
    score = scores["matching_accuracy"]
    assert (score["query_frame"], score["data_hash"] != "", score["token_width"]) == (-1, True, 8)
    assert score["floor"] < score["value"] <= score["ceiling"]
    assert 0 < scores["attention_self"]["value"] < 1


def test_a_baseline_and_a_tracker_start_there_too(folder) -> None:
    path, row = folder
    found = run(path, "--model", "zero-motion", "--set", "tracker=dis")
    (tracks,) = found.read("tracks").to_pylist()
    xy = np.float32(tracks["xy"]).reshape(tracks["points"], tracks["frames"], 2)
    assert np.array_equal(xy[np.arange(len(xy)), row.query_frames], row.queries)
    visible = np.array(tracks["visible"]).reshape(xy.shape[:2])
    assert visible[np.arange(len(xy)), row.query_frames].all()
    values = {(r["metric"], r["value"] == r["floor"]) for r in found.read("scores").to_pylist()}
    assert ("matching_accuracy", True) in values
