"""How still a clip is, compared with a slow count and by construction."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vcorr
from vcorr.contract.records import Queries
from vcorr.metrics.stillness import stillness

WIDTH, HEIGHT, FRAMES = 128, 64, 6


def make_clip(offsets, visible, asked_in=None, *, width=WIDTH, height=HEIGHT) -> vcorr.Clip:
    """Returns a clip whose points are at the query plus `offsets` (N, T, 2), in pixels of a 256x256 frame."""
    offsets = np.asarray(offsets, np.float32)
    points, frames = offsets.shape[:2]
    asked_in = np.zeros(points, np.int32) if asked_in is None else np.asarray(asked_in, np.int32)
    queries = np.full((points, 2), [width / 2, height / 2], np.float32)
    unit = np.float32([width / 256, height / 256])
    xy = (queries[:, None] + offsets * unit).astype(np.float32)
    xy[np.arange(points), asked_in] = queries
    tracks = vcorr.Tracks(xy, np.asarray(visible, bool), tracker="exact", query_frame=asked_in)
    video = np.zeros((frames, height, width, 3), np.uint8)
    return vcorr.Clip(id="c", prompt="", queries=Queries(asked_in, queries), video=video, tracks=tracks)


def count_slowly(clip: vcorr.Clip, frames: int) -> float:
    height, width = clip.video.shape[1:3]
    near = pairs = 0
    for point, (asked_in, (x, y)) in enumerate(zip(clip.queries.t, clip.queries.xy, strict=True)):
        for frame in range(frames):
            if frame == asked_in or not clip.tracks.visible[point, asked_in] or not clip.tracks.visible[point, frame]:
                continue
            dx, dy = (clip.tracks.xy[point, frame].astype(float) - (float(x), float(y))) * (256 / width, 256 / height)
            pairs += 1
            near += dx * dx + dy * dy < 64
    return near / pairs if pairs else math.nan


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, FRAMES))
def test_it_is_the_share_of_pairs_near_their_query(seed: int, points: int, frames: int) -> None:
    rng = np.random.default_rng(seed)
    offsets = rng.choice([0.0, 5.0, 7.5, 9.0, 30.0], (points, FRAMES, 2))
    clip = make_clip(offsets, rng.random((points, FRAMES)) < 0.7, rng.integers(0, frames, points))
    assert stillness(clip, frames) == pytest.approx(count_slowly(clip, frames), nan_ok=True)


def test_the_limit_is_8_pixels_of_a_256_frame_on_either_axis_and_is_a_miss() -> None:
    offsets = np.zeros((1, 5, 2))
    offsets[0, 1:] = [[7.9, 0], [8, 0], [0, 7.9], [0, 8]]
    assert stillness(make_clip(offsets, np.ones((1, 5))), 5) == 0.5


def test_later_frames_than_the_model_reads_do_not_count() -> None:
    offsets = np.zeros((1, FRAMES, 2))
    offsets[0, 3:] = 100
    clip = make_clip(offsets, np.ones((1, FRAMES)))
    assert [stillness(clip, frames) for frames in (3, 5, FRAMES)] == [1, 0.5, 0.4]


def test_the_size_of_the_video_does_not_matter() -> None:
    offsets = np.random.default_rng(0).choice([0.0, 4.0, 12.0], (4, FRAMES, 2))
    clips = [make_clip(offsets, np.ones((4, FRAMES)), width=w, height=h) for w, h in ((64, 64), (256, 128), (512, 512))]
    assert len({stillness(clip, FRAMES) for clip in clips}) == 1


def test_without_a_pair_it_is_not_a_number() -> None:
    clip = make_clip(np.zeros((2, 3, 2)), np.ones((2, 3)))
    hidden = make_clip(np.zeros((2, 3, 2)), [[False, True, True], [True, False, False]])
    for odd in (hidden, replace(clip, tracks=None), replace(clip, video=None, tracks=None)):
        assert math.isnan(stillness(odd, 3))
    assert math.isnan(stillness(clip, 1))
