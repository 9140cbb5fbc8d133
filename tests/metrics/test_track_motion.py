"""Scores of tracks without a reference, on tracks whose scores are known by construction."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Tracks
from vcorr.metrics.track_motion import (
    score_cycle,
    score_dynamics,
    score_jerk,
    score_outliers,
    score_survival,
)

SIZE = (256, 256)
WITHOUT_WAY_BACK = (score_survival, score_jerk, score_outliers, score_dynamics)


def tracks(xy, visible=None):
    xy = np.asarray(xy, np.float32)
    return Tracks(xy, np.ones(xy.shape[:2], bool) if visible is None else np.asarray(visible, bool), "made")


def path(x, y=100.0):
    """Returns one point whose x is given for every frame."""
    return np.stack([np.asarray(x, float), np.full(len(x), y)], -1)[None]


def test_a_steady_point_has_the_best_scores():
    steady = tracks(path(100 + 3.0 * np.arange(9)))
    assert score_survival(steady, SIZE) == score_survival(tracks(path([50.0] * 9)), SIZE)
    assert (score_survival(steady, SIZE).value, score_survival(steady, SIZE).n) == (1.0, 1)
    assert score_jerk(steady, SIZE).value == pytest.approx(0, abs=1e-5)
    assert (score_outliers(steady, SIZE).value, score_outliers(steady, SIZE).n) == (0.0, 7)
    assert (score_dynamics(steady, SIZE).value, score_dynamics(steady, SIZE).n) == (pytest.approx(3.0), 5)
    assert (score_cycle(steady, steady, SIZE).value, score_cycle(steady, steady, SIZE).n) == (0.0, 1)


def test_survival_is_the_share_of_frames_until_the_loss():
    visible = np.ones((4, 5), bool)
    visible[0, 2:] = False  # lost after one of four later frames
    visible[1, 2] = False  # hidden and seen again: not lost
    visible[3] = False  # never seen, so not judged
    found = score_survival(tracks(np.full((4, 5, 2), 100.0), visible), SIZE)
    assert (found.value, found.n) == (pytest.approx((0.25 + 1 + 1) / 3), 3)


def test_a_point_that_leaves_the_frame_survives():
    out = path([240.0, 250.0, 250.0, 250.0])
    assert score_survival(tracks(out, [[True, True, False, False]]), SIZE).value == 1
    assert score_survival(tracks(path([253.0] * 4), [[True, False, False, False]]), SIZE).value == 1
    assert score_survival(tracks(out - (100, 0), [[True, True, False, False]]), SIZE).value == pytest.approx(1 / 3)


def test_cycle_error_is_the_distance_to_the_query_and_capped():
    xy = np.full((5, 3, 2), 100.0)
    back = xy.copy()
    back[0, 0] += (3, 4)
    back[1, 0] += (300, 0)
    seen, reached = np.ones((5, 3), bool), np.ones((5, 3), bool)
    seen[2, 0] = False  # lost on the way back
    reached[4, 2] = False  # lost on the way there: not judged
    found = score_cycle(tracks(xy, reached), tracks(back, seen), SIZE)
    assert (found.value, found.n) == (pytest.approx((5 + 16 + 16 + 0) / 4), 4)


def test_a_way_back_of_other_points_is_refused():
    with pytest.raises(UsageError, match=r"\(2, 3, 2\).*\(1, 3, 2\)"):
        score_cycle(tracks(np.zeros((1, 3, 2))), tracks(np.zeros((2, 3, 2))), SIZE)


def test_jerk_is_the_third_difference():
    t = np.arange(8.0)
    assert score_jerk(tracks(path(t**2)), SIZE).value == pytest.approx(0, abs=1e-4)
    found = score_jerk(tracks(path(t**3 / 6)), SIZE)
    assert (found.value, found.n) == (pytest.approx(1.0, abs=1e-4), 5)


def test_one_jump_gives_two_outliers_and_shaking_gives_none():
    jump = path([50.0] * 5 + [60.0] * 5)
    assert score_outliers(tracks(jump), SIZE).value == pytest.approx(2 / 8)
    assert score_outliers(tracks(path([50.0, 60.0] * 5)), SIZE).value == 0


def test_dynamics_do_not_count_trembling():
    trembling, moving = path([50.0, 52.0] * 6), path(50 + 2.0 * np.arange(12))
    assert score_dynamics(tracks(trembling), SIZE).value == 0
    assert score_dynamics(tracks(moving), SIZE).value == pytest.approx(2)
    assert score_dynamics(tracks(path([50.0, 53.0])), SIZE).value == pytest.approx(3)  # shorter than the stride


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_scores_without_enough_frames_are_not_numbers(frames):
    hidden = tracks(np.full((3, frames, 2), 9.0), np.zeros((3, frames), bool))
    for score in WITHOUT_WAY_BACK:
        found = score(hidden, SIZE)
        assert math.isnan(found.value)
        assert found.n == 0
    assert math.isnan(score_cycle(hidden, hidden, SIZE).value)
    assert score_jerk(tracks(np.full((3, frames, 2), 9.0)), SIZE).n == 0


def slow_means(t, size):
    """Returns jerk and dynamics, one window at a time."""
    scale = np.array([256 / size[1], 256 / size[0]])
    jerks, moves = [], []
    for xy, seen in zip(t.xy.astype(float) * scale, t.visible, strict=True):
        whole = [[seen[i : i + length].all() for i in range(len(xy) - length + 1)] for length in (4, 5)]
        third = [xy[i + 3] - 3 * xy[i + 2] + 3 * xy[i + 1] - xy[i] for i, there in enumerate(whole[0]) if there]
        moved = [(xy[i + 4] - xy[i]) / 4 for i, there in enumerate(whole[1]) if there]
        jerks += [np.linalg.norm(vector) for vector in third]
        moves += [np.linalg.norm(vector) for vector in moved]
    return [np.mean(values) if values else math.nan for values in (jerks, moves)]


@given(seed=st.integers(0, 999), scale=st.sampled_from([0.5, 1.0, 3.0]))
@settings(max_examples=25, deadline=None)
def test_scores_agree_with_loops_and_do_not_depend_on_size_or_order(seed, scale):
    draws = np.random.default_rng(seed)
    xy, visible = draws.uniform(0, 128, (5, 8, 2)), draws.random((5, 8)) < 0.8
    one = tracks(xy, visible)
    found = [score(one, (128, 128)).value for score in WITHOUT_WAY_BACK]
    np.testing.assert_allclose(found[1::2], slow_means(one, (128, 128)), rtol=1e-4)
    order = draws.permutation(5)
    other = tracks(xy[order] * scale, visible[order])
    side = 128 * scale
    np.testing.assert_allclose([s(other, (side, side)).value for s in WITHOUT_WAY_BACK], found, rtol=1e-3)
