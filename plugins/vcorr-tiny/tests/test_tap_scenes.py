"""Tests `sprites-tap` and `photos-tap`: layers come back, points are hidden and seen again, tracks are exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from vcorr_tiny.plugin import vcorr_datasets
from vcorr_tiny.sprites.camera_faults import draw_gains
from vcorr_tiny.sprites.clips import scene
from vcorr_tiny.sprites.draws import Draws
from vcorr_tiny.sprites.motion import draw_returns
from vcorr_tiny.sprites.scenes import DRIFT
from vcorr_tiny.tap_scenes import (
    PhotosTap,
    PhotosTapConfig,
    SpritesTap,
    SpritesTapConfig,
    _share_out,
    find_returns,
)

from vcorr import UsageError
from vcorr.runner.content_hash import hash_of_video
from vcorr.testing import assert_passed, check_dataset

SMALL = {"size": 64, "frames": 24, "points": 48, "clips": 3}
LEVELS = ("easy", "hard")


@pytest.fixture(scope="module", params=LEVELS)
def clips(request):
    data = SpritesTap(SpritesTapConfig(level=request.param, **SMALL))
    return data, [data.clip(clip_id) for clip_id in data.ids()]


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(0, 4), st.integers(1, 9))))
def test_a_point_returns_if_it_is_hidden_between_two_frames_in_which_it_is_seen(visible):
    expected = ["".join("x" if v else " " for v in row).strip().count(" ") > 0 for row in visible]
    assert find_returns(visible).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=4, max_size=4), st.integers(0, 40))
def test_parts_share_a_count_as_evenly_as_their_sizes_allow(sizes, count):
    parts = [np.arange(size) + 100 * number for number, size in enumerate(sizes)]
    shares = [len(part) for part in _share_out(parts, count)]
    assert sum(shares) == min(count, sum(sizes))
    assert all(share == size or share >= max(shares) - 1 for share, size in zip(shares, sorted(sizes), strict=True))
    assert len(np.unique(np.concatenate(_share_out(parts, count)))) == sum(shares)


def test_half_of_the_points_are_hidden_and_return_half_lie_on_sprites_and_some_start_later(clips):
    _, found = clips
    assert all(len(clip.queries) == SMALL["points"] for clip in found)
    returns = np.mean([find_returns(clip.tracks.visible).mean() for clip in found])
    front = np.mean([(clip.tracks.layer > 0).mean() for clip in found])
    late = np.mean([(clip.queries.t > 0).mean() for clip in found])
    assert 0.4 <= returns <= 0.6
    assert 0.4 <= front <= 0.6
    assert late > 0.05
    assert np.mean([clip.tracks.visible.mean() for clip in found]) > 0.5  # most stay in view


def test_each_point_is_asked_for_in_the_first_frame_in_which_it_is_visible(clips):
    data, found = clips
    for clip in found:
        assert (clip.query_mode, clip.input_class, clip.prompt) == ("first", "256", "")
        assert (clip.tracks.visible.argmax(axis=1) == clip.queries.t).all()
        assert clip.tracks.visible.sum(axis=1).min() >= 3
        assert (clip.tracks.xy[range(len(clip.queries)), clip.queries.t] == clip.queries.xy).all()
    strided = SpritesTap(SpritesTapConfig(level=data.config.level, queries="strided", **SMALL)).clip("test-0001")
    first = found[1]
    frames, points = np.nonzero(first.tracks.visible[:, ::5].T)
    assert (strided.queries.t == 5 * frames).all()
    assert (strided.tracks.xy == first.tracks.xy[points]).all()
    assert (strided.video == first.video).all()
    assert strided.query_mode == "strided"


def test_tracks_are_those_of_the_scene_and_agree_with_the_layer_map(clips):
    data, found = clips
    size = SMALL["size"]
    for clip in found[:2]:
        again = data.track(clip.id, clip.queries)
        assert np.abs(again.xy - clip.tracks.xy).max() < 0.01
        assert (again.visible != clip.tracks.visible).mean() < 0.01
        assert (again.layer == clip.tracks.layer).all()
        assert (again.boundary == clip.tracks.boundary).all()
        point, frame = np.nonzero(clip.tracks.visible)
        x, y = np.floor(clip.tracks.xy[point, frame]).astype(int).T.clip(0, size - 1)
        same = clip.layers[frame, y, x] == clip.tracks.layer[point]
        assert same.mean() > 0.95  # a pixel at an outline may have its centre on the other side


def test_a_clip_depends_on_neither_the_number_of_clips_nor_the_order():
    few, many = (SpritesTap(SpritesTapConfig(**{**SMALL, "clips": count})) for count in (2, 900))
    first = [hash_of_video(few.clip(name)) for name in ("test-0000", "test-0001")]
    assert [hash_of_video(many.clip(name)) for name in ("test-0001", "test-0000")] == first[::-1]
    other = SpritesTap(SpritesTapConfig(split="validation", **SMALL))
    assert hash_of_video(other.clip("validation-0000")) not in first


def test_layers_go_their_way_and_come_back():
    ways = draw_returns(Draws(torch.Generator().manual_seed(1)), 40, 3, torch.linspace(0, 1, 48))
    assert ways.min() >= 0
    assert ways.max() <= 1
    steps = ways.diff(dim=-1)
    assert ((steps > 0).any(-1) & (steps < 0).any(-1)).all()
    assert (ways.amax(-1) - ways.amin(-1)).min() > 0.7
    paths = scene("test", 0, 64, 48, returns=True).beta[0]
    once = scene("test", 0, 64, 48).beta[0]
    assert paths.shape == once.shape


def test_a_drift_comes_back_before_a_long_clip_goes_dark():
    drawn = scene("test", 0, 16, 104, level="drift", returns=True)
    clock = drawn._clock()
    assert clock.max() <= DRIFT
    assert clock.diff().abs().max() <= 1
    gains = draw_gains(Draws(torch.Generator().manual_seed(2)), torch.full((16,), 0.04), 5, clock)
    assert (gains[..., 1:] / gains[..., :-1]).max() <= 1.0401
    assert gains.min() > 0.4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "data.frames must be from 1"),
        ({"points": 0}, "data.points must be from 1 to 4096"),
        ({"level": "hrad"}, "level of sprites-tap"),
        ({"split": "val"}, "split of sprites-tap"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        SpritesTap(SpritesTapConfig(**options))


def test_photographs_are_the_textures_and_part_of_the_identity():
    data, drawn = PhotosTap(PhotosTapConfig(**SMALL)), SpritesTap(SpritesTapConfig(level="hard", **SMALL))
    assert data.config.level == "hard"
    assert "chelsea" in data.identity()["pictures"]
    clip, other = data.clip("test-0000"), drawn.clip("test-0000")
    assert (clip.video != other.video).any()
    assert find_returns(clip.tracks.visible).mean() == pytest.approx(0.5, abs=0.1)


def test_the_dataset_passes_the_checks_of_datasets():
    (entry,) = [entry for entry in vcorr_datasets() if entry.name == "sprites-tap"]
    config = SpritesTapConfig(size=32, frames=8, points=8, clips=2, queries="strided")
    assert_passed(check_dataset(entry, config=config))
