"""Tests the layers of the clips of `sprites`, and the tracks of queries in any frame, against the layer maps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from vcorr_tiny.dataset import Sprites, SpritesConfig
from vcorr_tiny.sprites.clips import scene
from vcorr_tiny.sprites.level_names import EASY, LEVEL_NAMES

from vcorr import Queries, UsageError
from vcorr.cli import main as program
from vcorr.data.clip_row import ClipRow
from vcorr.data.dataset_folder import VIDEOS, DatasetFolder, file_hash
from vcorr.data.dataset_options import FolderConfig
from vcorr.data.stored_dataset import StoredDataset
from vcorr.data.video.lossless import write_lossless
from vcorr.runner.content_hash import hash_of_video
from vcorr.store.rundir import RunDirectory

SIZE, FRAMES, POINTS = 64, 5, 40
AWAY = 1.5
"""Pixels from a visible outline beyond which the layer of a point and of its pixel are the same."""
property_of_scenes = settings(max_examples=25, deadline=None, derandomize=True)


def make_data(level: str, **options: int) -> Sprites:
    return Sprites(SpritesConfig(level=level, **{"size": SIZE, "frames": FRAMES, "grid": 6, **options}))


def draw_queries(seed: int, size: int = SIZE, frames: int = FRAMES) -> Queries:
    rng = np.random.default_rng(seed)
    return Queries(rng.integers(0, frames, POINTS), rng.uniform(0, size, (POINTS, 2)).astype(np.float32))


@property_of_scenes
@given(level=st.sampled_from(LEVEL_NAMES), clip=st.integers(0, 50), seed=st.integers(0, 999))
def test_a_point_is_visible_exactly_where_the_map_has_its_layer(level: str, clip: int, seed: int) -> None:
    name, drawn = f"test-{clip:04d}", scene("test", clip, SIZE, FRAMES, level=level)
    tracks, layers = make_data(level).track(name, draw_queries(seed)), drawn.layer_map()[0].numpy()
    checked = 0
    for frame in range(FRAMES):
        xy = tracks.xy[:, frame]
        inside = ((xy > AWAY) & (xy < SIZE - AWAY)).all(axis=1)
        away = drawn.boundary_distances(torch.from_numpy(xy), frame)[0].numpy() >= AWAY
        x, y = np.floor(xy[inside & away]).astype(int).T
        there = layers[frame, y, x] == tracks.layer[inside & away]
        np.testing.assert_array_equal(tracks.visible[inside & away, frame], there)
        checked += len(there)
    assert checked > POINTS


@property_of_scenes
@given(level=st.sampled_from(LEVEL_NAMES), clip=st.integers(0, 50), seed=st.integers(0, 999))
def test_a_query_on_a_track_gives_that_track(level: str, clip: int, seed: int) -> None:
    name, data = f"test-{clip:04d}", make_data(level)
    drawn = scene("test", clip, SIZE, FRAMES, level=level)
    queries = draw_queries(seed)
    known, points = data.track(name, queries), np.arange(POINTS)
    np.testing.assert_array_equal(known.xy[points, queries.t], queries.xy)
    assert known.visible[points, queries.t].all()
    distances = [drawn.boundary_distances(torch.from_numpy(known.xy[:, t]), t)[0].numpy() for t in range(FRAMES)]
    frame, seen = np.nonzero(known.visible.T & (np.array(distances) > 0.01))
    again = data.track(name, Queries(frame, known.xy[seen, frame]))  # all frames in one scene, which is slow to draw
    assert np.abs(again.xy - known.xy[seen]).max() < 5e-3
    np.testing.assert_array_equal(again.layer, known.layer[seen])
    others = (again.visible != known.visible[seen]).mean(axis=1)
    # rounding may put a point on the other side of an outline, or of the border, that passes over it
    assert max(others[frame == asked].mean() for asked in set(frame)) < 0.02


@pytest.mark.parametrize("level", ["clean", "hard"])
def test_the_layers_at_points_are_those_of_their_tracks(level: str) -> None:
    drawn, queries = scene("test", 3, SIZE, FRAMES, level=level), draw_queries(3)
    xy, frames = torch.from_numpy(queries.xy), torch.from_numpy(queries.t).long()
    assert torch.equal(drawn.layers.layers_at(xy, frames), drawn.tracks(xy, frames).layer)
    assert len(drawn.layers.layers_at(xy, frames).unique()) > 1


@pytest.mark.parametrize("level", ["clean", "hard"])
def test_clips_know_the_layers_of_points_and_pixels(level: str) -> None:
    data = make_data(level)
    clip = data.clip("test-0001")
    assert (clip.layers.dtype, clip.layers.shape) == (np.uint8, (FRAMES, SIZE, SIZE))
    assert set(clip.tracks.layer.tolist()) <= set(clip.layers[0].ravel().tolist())
    assert (clip.tracks.layer > 0).sum() == len(clip.queries) // 2
    asked = data.track("test-0001", clip.queries)
    for name in ("xy", "visible", "layer", "boundary"):
        np.testing.assert_array_equal(getattr(asked, name), getattr(clip.tracks, name), strict=True)


def test_clips_of_easy_have_the_hash_that_they_had_before_layers_could_be_known() -> None:
    clip = Sprites(SpritesConfig()).clip("test-0000")
    assert (clip.layers, clip.tracks.layer) == (None, None)
    assert hash_of_video(clip) == "12a051eb95d10bf6"
    assert Sprites(SpritesConfig()).track("test-0000", clip.queries).layer.max() > 0


def test_queries_that_the_clip_cannot_have() -> None:
    data = make_data(EASY)
    with pytest.raises(UsageError, match="Clip test-0001 has 5 frames, counted from 0; a query is in frame 5"):
        data.track("test-0001", Queries(np.int32([0, 5]), np.zeros((2, 2), np.float32)))
    with pytest.raises(UsageError, match="sprites has no clip 'test-0064'"):
        data.track("test-0064", draw_queries(0))
    assert data.track("test-0001", Queries.at(np.zeros((0, 2), np.float32))).xy.shape == (0, FRAMES, 2)


def test_a_clip_with_masks_is_the_same_clip_in_a_dataset_folder(tmp_path: Path) -> None:
    clip = make_data("hard").clip("test-0002")
    made = DatasetFolder.create(tmp_path / "hard", "f" * 64)
    (made.path / VIDEOS).mkdir()
    name = made.video_name(clip.id)
    row = ClipRow(
        dataset="hard",
        split="test",
        clip=clip.id,
        prompt=clip.prompt,
        model="sprites",
        frames=FRAMES,
        height=SIZE,
        width=SIZE,
        queries=clip.queries.xy,
        xy=clip.tracks.xy,
        visible=clip.tracks.visible,
        point_layers=clip.tracks.layer,
        tracker="exact",
        video=name,
        video_sha256=write_lossless(made.path / name, clip.video, clip.fps),
        file_sha256=file_hash(made.path / name),
    )
    made.write(made.write_layers(row, clip.layers))
    found = StoredDataset(FolderConfig(path=str(made.path))).clip(clip.id)
    np.testing.assert_array_equal(found.layers, clip.layers, strict=True)
    assert hash_of_video(found) == hash_of_video(clip)


def test_foreground_and_background_are_scored_from_the_command_line(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("metrics=matching_accuracy,strata", "metric.pairs=[all,moving]", "data.level=clean")
    options = [word for option in asked for word in ("--set", option)]
    with pytest.raises(SystemExit) as ended:
        program.main(["run", "--model", "token-patches", "--data", "sprites", "--limit", "1", "--json", *options])
    assert not ended.value.code
    run = RunDirectory(Path(json.loads(capsys.readouterr().out)["path"]))
    rows = {row["metric"]: row for row in run.read("scores").to_pylist()}
    for whole in ("matching_accuracy", "matching_accuracy_moving"):
        parts = [rows[f"{whole}@layer:{layer}"] for layer in ("background", "foreground")]
        assert min(part["n"] for part in parts) > 0
        assert sum(part["n"] for part in parts) == rows[whole]["n"]
        mean = sum(part["n"] * part["value"] for part in parts) / rows[whole]["n"]
        assert mean == pytest.approx(rows[whole]["value"])
        assert all(part["floor"] <= part["ceiling"] for part in parts)
