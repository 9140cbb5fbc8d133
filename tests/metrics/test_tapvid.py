"""TAP-Vid's metrics against loops over points and frames, and at their edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import UsageError
from vcorr.functional import tapvid
from vcorr.metrics.tapvid import tapvid as tapvid_of_arrays

fast = settings(max_examples=60, deadline=None, derandomize=True)


def random_case(seed, n, frames):
    generator = np.random.default_rng(seed)
    occluded = generator.random((n, frames)) < 0.4
    query = np.column_stack([generator.integers(0, frames, n), generator.uniform(0, 256, (n, 2))])
    tracks = generator.uniform(0, 256, (n, frames, 2)).astype(np.float32)
    tracks[occluded] = np.nan  # an occluded point may be anywhere
    pred = np.nan_to_num(tracks) + generator.normal(0, 4, tracks.shape)
    return query, occluded, tracks, generator.random((n, frames)) < 0.4, pred


def slow(query, occluded, tracks, pred_occluded, pred, mode):
    def share(hits, total):
        return hits / total if total else math.nan

    pairs = [
        (n, t)
        for n in range(len(query))
        for t in range(occluded.shape[1])
        if (t > query[n, 0] if mode == "first" else t != query[n, 0])
    ]
    out = {"occlusion_accuracy": share(sum(occluded[p] == pred_occluded[p] for p in pairs), len(pairs))}
    for x in (1, 2, 4, 8, 16):
        within = {p: math.dist(tracks[p], pred[p]) < x for p in pairs}
        visible = [p for p in pairs if not occluded[p]]
        out[f"pts_within_{x}"] = share(sum(within[p] for p in visible), len(visible))
        right = sum(within[p] and not pred_occluded[p] for p in visible)
        wrong = sum(not pred_occluded[p] and (occluded[p] or not within[p]) for p in pairs)
        out[f"jaccard_{x}"] = share(right, len(visible) + wrong)
    for name, stem in (("average_jaccard", "jaccard"), ("average_pts_within_thresh", "pts_within")):
        out[name] = np.mean([out[f"{stem}_{x}"] for x in (1, 2, 4, 8, 16)])
    return out


@fast
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(0, 6),
    frames=st.integers(1, 6),
    mode=st.sampled_from(["first", "strided"]),
)
def test_agrees_with_the_loops(seed, n, frames, mode):
    case = random_case(seed, n, frames)
    expected = slow(*case, mode)
    for got in (tapvid(*case, mode=mode), tapvid(*(torch.from_numpy(array) for array in case), mode=mode)):
        assert got.keys() == expected.keys()
        np.testing.assert_allclose([got[name] for name in expected], list(expected.values()))
        assert all(type(value) is float for value in got.values())


def still(n=2, frames=4):
    query = np.zeros((n, 3))
    tracks = np.full((n, frames, 2), 100.0)
    return query, np.zeros((n, frames), bool), tracks, np.zeros((n, frames), bool), tracks.copy()


def test_perfect_tracks_score_one_in_both_modes():
    for mode in ("first", "strided"):
        assert set(tapvid(*still(), mode=mode).values()) == {1.0}


def test_thresholds_are_strict():
    query, occluded, tracks, pred_occluded, pred = still()
    pred[..., 0] += 4
    got = tapvid(query, occluded, tracks, pred_occluded, pred, mode="first")
    assert (got["pts_within_4"], got["pts_within_8"]) == (0, 1)
    assert got["average_pts_within_thresh"] == pytest.approx(2 / 5)


def test_distances_are_measured_as_precisely_as_the_tracks_are_given():
    # the public evaluation, fed float32, finds exactly 4 px between the float32 numbers nearest to 1.1 and 5.1
    query, occluded, tracks, pred_occluded, _ = still()
    tracks = np.full_like(tracks, 1.1, dtype=np.float32)
    pred = tracks + np.float32([4, 0])

    def within_4(convert):
        return tapvid(query, occluded, convert(tracks), pred_occluded, convert(pred), mode="first")["pts_within_4"]

    assert within_4(np.asarray) == within_4(torch.from_numpy) == 0
    assert within_4(np.float64) == 1


def test_infinite_predictions_are_too_far_without_a_warning():
    query, occluded, tracks, pred_occluded, pred = still(n=1)
    occluded[0, 2] = True
    tracks[0, 2], pred[0, 1:3] = np.inf, np.inf
    pred[0, 3] = 1e300
    assert tapvid(query, occluded, tracks, pred_occluded, pred, mode="first")["pts_within_16"] == 0


def test_a_track_that_is_never_visible_is_only_a_false_positive():
    query, occluded, tracks, pred_occluded, pred = still()
    occluded[1] = True
    got = tapvid(query, occluded, tracks, pred_occluded, pred, mode="first")
    assert got["pts_within_1"] == 1
    assert got["jaccard_1"] == 3 / (3 + 3)
    assert got["occlusion_accuracy"] == 0.5
    pred_occluded[1] = True
    assert set(tapvid(query, occluded, tracks, pred_occluded, pred, mode="first").values()) == {1.0}


def test_a_query_in_the_last_frame_has_nothing_after_it():
    case = still(n=1)
    case[0][:, 0] = 3
    assert all(math.isnan(value) for value in tapvid(*case, mode="first").values())
    assert set(tapvid(*case, mode="strided").values()) == {1.0}


def test_frames_before_the_query_count_only_when_strided():
    query, occluded, tracks, pred_occluded, pred = still(n=1)
    query[:, 0] = 2
    pred[0, :2] += 50
    assert tapvid(query, occluded, tracks, pred_occluded, pred, mode="first")["pts_within_16"] == 1
    assert tapvid(query, occluded, tracks, pred_occluded, pred, mode="strided")["pts_within_16"] == pytest.approx(1 / 3)


def test_a_missing_prediction_is_too_far():
    query, occluded, tracks, pred_occluded, pred = still(n=1)
    pred[0, 1] = np.nan
    assert tapvid(query, occluded, tracks, pred_occluded, pred, mode="first")["pts_within_16"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, np.zeros((2, 2)), "query_points_tyx: expected shape"),
        (0, np.full((2, 3), 4.0), "query_points_tyx: t must be a frame"),
        (0, np.full((2, 3), -1.0), "query_points_tyx: t must be a frame"),
        (0, np.full((2, 3), np.nan), "query_points_tyx: t is NaN"),
        (1, np.zeros((2, 4)), "occluded: expected bool"),
        (1, np.zeros(4, bool), "occluded: expected shape"),
        (2, np.zeros((2, 3, 2)), "tracks: expected shape"),
        (2, np.full((2, 4, 2), np.nan), "tracks: NaN"),
        (2, "tracks", "tracks: expected numbers"),
        (3, np.zeros((2, 4), int), "pred_occluded: expected bool"),
        (3, np.zeros((2, 3), bool), "pred_occluded: expected shape"),
        (4, np.zeros((2, 4)), "pred_tracks: expected shape"),
    ],
)
def test_refusals_name_the_argument(position, value, message):
    case = list(still())
    case[position] = value
    with pytest.raises(UsageError, match=message):
        tapvid(*case, mode="first")


def test_unknown_mode():
    with pytest.raises(UsageError, match="Did you mean 'strided'"):
        tapvid_of_arrays(*still(), mode="stride")
