"""Key frames: by construction, and against all choices of frames."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Tracks
from vcorr.tracking.key_frames import choose_key_frames, cover, find_again, rate_frames, space_evenly


def scenes(*lengths, points=4):
    """Makes a table of a video of several scenes: a point is found again in the frames of its own scene alone."""
    scene = np.repeat(np.arange(len(lengths)), lengths)
    same = scene[:, None] == scene[None]
    return np.repeat(same[:, None], points, axis=1)


def test_every_scene_gets_a_key_frame_however_short_it_is():
    found = scenes(20, 2, 10, 3)
    kept = choose_key_frames(found, 4)
    scene = np.repeat(np.arange(4), [20, 2, 10, 3])
    assert sorted(scene[list(kept.frames)]) == [0, 1, 2, 3]
    assert (kept.mean, kept.least) == (1.0, 1.0)
    even = space_evenly(found, 4)
    assert even.frames == (4, 13, 21, 30)
    assert even.mean < 1
    assert even.least == 0


def test_the_first_frame_is_kept_first_and_ties_go_to_the_farthest_frame():
    found = scenes(9)
    assert choose_key_frames(found, 3).frames == (0, 8, 4)


def test_coverage_joins_the_kept_frames():
    """Keeps two frames with half of the points each: together they cover all points."""
    found = np.zeros((3, 4, 3), bool)
    found[np.arange(3), :, np.arange(3)] = True
    found[1, :2, 0] = found[1, 2:, 2] = True
    assert cover(found, [0]).tolist() == [1, 0.5, 0]
    assert cover(found, [0, 2]).tolist() == [1, 1, 1]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(1, 4))
def test_the_next_frame_is_the_least_covered_one(seed, count):
    found = np.random.default_rng(seed).random((6, 5, 6)) < 0.4
    found |= np.eye(6, dtype=bool)[:, None]
    frames = choose_key_frames(found, count).frames
    assert len(set(frames)) == count
    for index in range(1, count):
        covered = [np.mean([any(found[t, p, s] for s in frames[:index]) for p in range(5)]) for t in range(6)]
        others = [t for t in range(6) if t not in frames[:index]]
        assert covered[frames[index]] == min(covered[t] for t in others)
    best = max(rate_frames(found, kept).least for kept in combinations(range(6), count))
    assert choose_key_frames(found, count).least <= best


class SeesNeighbours:
    """Finds points again in the frames next to their own."""

    def track(self, video, queries):
        near = np.abs(np.arange(len(video))[None] - queries.t[:, None]) <= 1
        return Tracks(np.repeat(queries.xy[:, None], len(video), axis=1), near, "near")


def test_a_tracker_is_asked_for_a_grid_in_every_frame():
    found = find_again(SeesNeighbours(), np.zeros((5, 32, 48, 3), np.uint8), grid=3)
    assert found.shape == (5, 9, 5)
    away = np.abs(np.arange(5)[:, None] - np.arange(5)[None])
    assert np.array_equal(found.all(axis=1), away <= 1)


@pytest.mark.parametrize("count", [0, 10])
def test_more_key_frames_than_frames_are_refused(count):
    for choose in (choose_key_frames, space_evenly):
        with pytest.raises(UsageError, match="the video has 9 frames"):
            choose(scenes(9), count)
