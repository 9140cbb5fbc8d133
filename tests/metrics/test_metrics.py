"""Accuracies by construction and against loops; the built-in metrics."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import TokenGrid, Tracks, UsageError
from vcorr.contract.protocols import Metric
from vcorr.metrics import MatchingAccuracy, Pck, PckConfig, accuracy

fast = settings(max_examples=60, deadline=None, derandomize=True)
GRID = TokenGrid(frames=5, rows=30, cols=45, stride=(16, 16))


def five_points(frames=5, step=(20.0, 0.0)):
    """Returns five points that move by `step` pixels per frame, all visible."""
    queries = np.float32([[100, 100], [200, 120], [300, 140], [150, 300], [250, 320]])
    xy = queries[:, None] + np.arange(frames)[None, :, None] * np.float32(step)
    return Tracks(xy.astype(np.float32), np.ones((5, frames), dtype=bool), tracker="exact")


def slow_accuracy(tracks, reference, visible, stride, limit, moving, motion=None):
    """Counts hits one by one. motion: pixels in x and y beyond which a pair moves; None for a stride."""
    hits = pairs = 0
    wide, high = motion or stride
    for n in range(len(tracks)):
        if not visible[n, 0]:
            continue
        for t in range(1, tracks.shape[1]):
            moved = reference[n, t] - reference[n, 0]
            if not visible[n, t] or (moving and not math.hypot(moved[0] / wide, moved[1] / high) > 1):
                continue
            error = tracks[n, t] - reference[n, t]
            if limit is None:
                hits += math.hypot(error[0] / stride[0], error[1] / stride[1]) < 0.5
            else:
                hits += math.hypot(*error) < limit
            pairs += 1
    return (hits / pairs if pairs else math.nan), pairs


@fast
@given(
    seed=st.integers(0, 10_000),
    stride=st.sampled_from([(16, 16), (8, 24), (5.5, 2.0)]),
    threshold=st.sampled_from([None, 4.0, 9.0]),
    moving=st.booleans(),
    shape=st.tuples(st.integers(0, 6), st.integers(1, 6)),
)
def test_agrees_with_the_loops(seed, stride, threshold, moving, shape):
    generator = np.random.default_rng(seed)
    grid = TokenGrid(frames=2, rows=4, cols=4, stride=stride)
    reference = generator.uniform(0, 40, (*shape, 2))
    visible = generator.random(shape) < 0.7
    tracks = reference + generator.normal(0, 6, reference.shape)
    reference[~visible] = np.nan  # what cannot be seen may be anything
    share = accuracy(tracks, reference, visible, grid, threshold=threshold, moving=moving)
    expected = slow_accuracy(tracks, reference, visible, stride, threshold, moving)
    np.testing.assert_allclose(share, expected)


def test_perfect_tracks_score_one():
    reference = five_points(step=(50.0, 0.0))  # at once further than a stride, and than 16 px of a 256x256 frame
    for metric in (MatchingAccuracy(), Pck()):
        for score in metric.score(reference.xy, reference, GRID).values():
            assert score.value == 1.0
            assert score.n == 20


def test_one_of_five_points_costs_exactly_its_share():
    reference = five_points()
    tracks = reference.xy.copy()
    tracks[2] += [6, 6]  # hypot 8.49: over half a stride, though neither axis is
    assert MatchingAccuracy().score(tracks, reference, GRID)["matching_accuracy"].value == 0.8
    tracks[2] = reference.xy[2] + [5, 5]
    assert MatchingAccuracy().score(tracks, reference, GRID)["matching_accuracy"].value == 1.0


def test_half_a_stride_is_strict():
    reference = five_points()
    for offset, value in (([8.0, 0.0], 0.0), ([7.999, 0.0], 1.0), ([0.0, -8.0], 0.0)):
        assert accuracy(reference.xy + np.float32(offset), reference.xy, reference.visible, GRID).value == value
    assert accuracy(reference.xy + np.float32([3, 4]), reference.xy, reference.visible, GRID, threshold=5).value == 0.0
    assert (
        accuracy(reference.xy + np.float32([3, 4]), reference.xy, reference.visible, GRID, threshold=5.01).value == 1.0
    )


def test_half_a_stride_is_measured_along_each_axis():
    grid = TokenGrid(frames=5, rows=30, cols=45, stride=(8, 32))
    reference = five_points()
    for offset, value in (([0, 15.9], 1.0), ([4, 0], 0.0), ([3, 12], 0.0), ([2, 12], 1.0)):
        assert accuracy(reference.xy + np.float32(offset), reference.xy, reference.visible, grid).value == value


def test_query_frame_and_points_hidden_in_it_do_not_count():
    reference = five_points()
    visible = reference.visible.copy()
    visible[4, 0] = False
    visible[3, 2:] = False
    tracks = reference.xy.copy()
    tracks[4] += 100  # never asked for
    tracks[:, 0] += 100  # given, not answered
    tracks[3, 1] += 100  # the one miss
    share = accuracy(tracks, reference.xy, visible, GRID)
    assert share.pairs == 3 * 4 + 1
    assert share.value == 12 / 13


def test_moving_pairs_have_left_their_stride():
    reference = five_points(step=(16.0, 0.0))  # after one frame exactly one stride: not more
    tracks = np.repeat(reference.xy[:, :1], 5, axis=1)
    scores = MatchingAccuracy().score(tracks, reference, GRID)
    assert scores["matching_accuracy_moving"].n == 15
    assert scores["matching_accuracy_moving"].value == 0.0
    still = five_points(step=(2.0, 0.0))
    scores = MatchingAccuracy().score(still.xy, still, GRID)
    assert scores["matching_accuracy"].n == 20
    assert scores["matching_accuracy_moving"].n == 0
    assert math.isnan(scores["matching_accuracy_moving"].value)


def test_nan_predictions_are_misses_and_no_pair_is_not_scored():
    reference = five_points()
    tracks = reference.xy.copy()
    tracks[0] = np.nan
    assert accuracy(tracks, reference.xy, reference.visible, GRID).value == 0.8
    for score in (
        *MatchingAccuracy().score(tracks, reference, GRID).values(),
        *Pck().score(tracks, reference, GRID).values(),
    ):
        assert score.value == 0.8
    hidden = Tracks(reference.xy, np.zeros((5, 5), dtype=bool), tracker="exact")
    for metric in (MatchingAccuracy(), Pck()):
        for score in metric.score(tracks, hidden, GRID).values():
            assert math.isnan(score.value)
            assert score.n == 0


def test_predictions_at_infinity_are_misses_without_a_warning():
    reference = np.zeros((1, 3, 2))
    tracks = np.stack([np.zeros(2), np.full(2, np.inf), np.full(2, 1e300)])[None]
    grid = TokenGrid(frames=3, rows=4, cols=4, stride=(8, 8))
    assert accuracy(tracks, reference, np.ones((1, 3), bool), grid) == (0.0, 2)


def test_pck_is_measured_in_a_256_frame():
    reference = five_points()
    pixel = np.float32([GRID.width / 256, GRID.height / 256])  # one pixel of that frame
    for distance in (1, 2, 4, 8, 16):
        for axis in ([1, 0], [0, -1]):
            at, under = (reference.xy + pixel * np.float32(axis) * factor * distance for factor in (1.0, 0.999))
            name = f"pck_{distance}"
            assert Pck().score(under, reference, GRID)[name].value == 1.0
            assert Pck().score(at * np.float32(1) + pixel * axis * 1e-3, reference, GRID)[name].value == 0.0
    at = reference.xy + np.float32([4, 0])
    square = TokenGrid(frames=5, rows=16, cols=16, stride=(16, 16))  # 256x256: no rescaling
    assert Pck().score(at, reference, square)["pck_4"].value == 0.0, "strictly closer"
    assert Pck().score(at, reference, square)["pck_8"].value == 1.0


@pytest.mark.parametrize("stride", [4, 8, 32, 64])
def test_a_pair_of_pck_moves_beyond_16_pixels_of_a_256_frame_whatever_the_tokens(stride):
    grid = TokenGrid(frames=5, rows=512 // stride, cols=1024 // stride, stride=(stride, stride))
    offsets = np.float32([[0, 0], [64, 0], [65, 0], [0, 32], [0, 33]])  # 16 px of 256 are 64 px in x and 32 px in y
    xy = (np.float32([200, 200]) + offsets)[None]
    reference = Tracks(xy, np.ones((1, 5), dtype=bool), tracker="exact")
    scores = Pck().score(xy, reference, grid)
    assert (scores["pck_8"].n, scores["pck_8_moving"].n) == (4, 2)
    by_stride = MatchingAccuracy().score(xy, reference, grid)["matching_accuracy_moving"].n
    assert by_stride == sum(np.hypot(*offset) > stride for offset in offsets)


def test_the_moving_pairs_of_the_function_are_one_stride_away_with_any_threshold():
    grid = TokenGrid(frames=3, rows=64, cols=64, stride=(8, 8))
    reference = np.float32([[[100, 100], [109, 100], [100, 180]]])
    tracks = np.repeat(reference[:, :1], 3, axis=1)
    for threshold, expected in ((None, 0.0), (8.0, 0.0), (10.0, 0.5)):
        share = accuracy(tracks, reference, np.ones((1, 3), bool), grid, threshold=threshold, moving=True)
        assert share == (expected, 2)


@fast
@given(seed=st.integers(0, 10_000))
def test_pck_columns_agree_with_the_loops_and_rise(seed):
    generator = np.random.default_rng(seed)
    grid = TokenGrid(frames=4, rows=6, cols=8, stride=(10, 20))
    visible = generator.random((6, 4)) < 0.8
    reference = Tracks(generator.uniform(0, 80, (6, 4, 2)).astype(np.float32), visible, tracker="exact")
    tracks = reference.xy + generator.normal(0, 4, reference.xy.shape).astype(np.float32)
    scores = Pck(PckConfig(thresholds=(1, 2.5, 16))).score(tracks, reference, grid)
    assert list(scores) == ["pck_1", "pck_2.5", "pck_16", "pck_1_moving", "pck_2.5_moving", "pck_16_moving"]
    scale = np.array([256 / grid.width, 256 / grid.height])
    for suffix, moving in (("", False), ("_moving", True)):
        for limit in (1, 2.5, 16):
            scaled = tracks.astype(float) * scale, reference.xy.astype(float) * scale
            expected = slow_accuracy(*scaled, visible, np.array(grid.stride), limit, moving, motion=(16, 16))
            score = scores[f"pck_{limit:g}{suffix}"]
            np.testing.assert_allclose((score.value, score.n), expected)
        values = [scores[f"pck_{limit:g}{suffix}"].value for limit in (1, 2.5, 16)]
        assert np.isnan(values).all() or values == sorted(values)


@fast
@given(seed=st.integers(0, 10_000), dx=st.integers(-64, 64), dy=st.integers(-64, 64))
def test_translation_and_order_of_points_do_not_matter(seed, dx, dy):
    generator = np.random.default_rng(seed)
    reference = generator.integers(0, 200, (6, 5, 2)).astype(np.float64)
    tracks = reference + generator.integers(-12, 12, reference.shape)
    visible = generator.random((6, 5)) < 0.7
    order = generator.permutation(6)
    shift = np.array([dx, dy])
    for moving in (False, True):
        share = accuracy(tracks, reference, visible, GRID, moving=moving)
        moved = accuracy(tracks + shift, reference + shift, visible, GRID, moving=moving)
        shuffled = accuracy(tracks[order], reference[order], visible[order], GRID, moving=moving)
        np.testing.assert_equal(tuple(moved), tuple(share))
        np.testing.assert_equal(tuple(shuffled), tuple(share))


def test_arguments_are_left_alone():
    reference = five_points()
    visible = reference.visible.copy()
    accuracy(reference.xy, reference.xy, visible, GRID, moving=True)
    assert visible.all()


def test_metrics_meet_the_protocol_and_refuse_bad_options():
    for metric in (MatchingAccuracy(), Pck(), Pck(PckConfig()), MatchingAccuracy(variant="difftrack")):
        assert isinstance(metric, Metric)
        assert metric.higher_is_better
        with pytest.raises(UsageError, match="tracks: expected"):
            metric.score(np.zeros((5, 4, 2)), five_points(), GRID)
    for metric_type in (MatchingAccuracy, Pck):
        with pytest.raises(UsageError, match="Unknown variant 'corect'"):
            metric_type(variant="corect")
    for thresholds in ((), (0,), (1, -2), (2, 2), (math.nan,), (math.inf,)):
        with pytest.raises(UsageError, match="thresholds"):
            PckConfig(thresholds=thresholds)


def test_metrics_and_stats_need_no_torch():
    code = "import sys, vcorr.metrics, vcorr.stats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
