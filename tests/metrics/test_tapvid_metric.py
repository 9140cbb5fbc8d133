"""The metric `tapvid`: against numbers of the published code, and against loops over videos of any size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import Tracks, UsageError
from vcorr.metrics.tapvid_metric import TapVid
from vcorr.testing import assert_passed, check_metric

fast = settings(max_examples=40, deadline=None, derandomize=True)
SMALL = (256, 256)
THRESHOLDS = (1, 2, 4, 8, 16)


@pytest.fixture(scope="module")
def data(pytestconfig):
    return np.load(pytestconfig.rootpath / "tests" / "data" / "difftrack_scores.npz")


def tracks(xy, visible, asked, mode="first"):
    return Tracks(
        np.asarray(xy, np.float32), visible, "test", query_frame=np.asarray(asked).astype(np.int32), query_mode=mode
    )


def values(scores):
    return {name: score.value for name, score in scores.items()}


@pytest.mark.parametrize("mode", ["first", "strided", "first_all_visible"])
def test_numbers_of_the_published_code(data, mode):
    asked, shown = data["c_b1_query_points"][0, :, 0], ~data["c_b1_pred_occluded"][0] | (mode == "first_all_visible")
    plain = mode.removesuffix("_all_visible")
    reference = tracks(data["c_b1_gt_tracks"][0], ~data["c_b1_gt_occluded"][0], asked, plain)
    got = values(TapVid().score_tracks(tracks(data["c_b1_pred_tracks"][0], shown, asked), reference, SMALL))
    names = data[f"c_b1_{plain}_keys"]
    assert got.keys() == set(names)
    np.testing.assert_allclose([got[name] for name in names], data[f"c_b1_{mode}_values"][:, 0], atol=1e-9)


@pytest.mark.parametrize("size", [SMALL, (54, 81)])
def test_a_whole_video_of_the_published_code(data, size):
    """Takes its variant, in which all points are predicted visible, and pixels of a video of any size."""
    asked, visible = data["d_T24_query_points"][0, :, 0], data["d_T24_visible"].T
    scale = np.array([size[1] / 256, size[0] / 256])
    reference = tracks(data["d_T24_tracks"].transpose(1, 0, 2) * scale, visible, asked)
    predicted = tracks(data["d_T24_interval_avg_pred_tracks"][0] * scale, np.zeros_like(visible), asked)
    got = values(TapVid(variant="difftrack").score_tracks(predicted, reference, size))
    names, expected = data["d_T24_interval_avg_metric_keys"], data["d_T24_interval_avg_metric_values"]
    np.testing.assert_allclose([got[name] for name in names], expected, atol=1e-9)


def draw_video(seed):
    """Returns predicted and reference tracks of a made-up video of odd size, with points that start later."""
    rng = np.random.default_rng(seed)
    points, frames = int(rng.integers(1, 6)), int(rng.integers(2, 7))
    size = (int(rng.integers(20, 300)), int(rng.integers(20, 300)))
    asked, visible = rng.integers(0, frames, points), rng.random((points, frames)) < 0.6
    visible[np.arange(points), asked] = True
    xy = rng.uniform(0, 1, (points, frames, 2)) * size[::-1]
    found = xy + rng.normal(0, 4, xy.shape) * size[::-1] / 256
    xy[~visible] = np.nan
    mode = str(rng.choice(["first", "strided", "frame"]))
    return tracks(found, rng.random(visible.shape) < 0.7, asked), tracks(xy, visible, asked, mode), size


def slow(predicted, reference, size, *, published=False):
    """Returns the metrics of one video, as the text of TAP-Vid defines them, pair by pair."""
    pairs = []
    for n, asked in enumerate(reference.query_frame):
        for t in range(reference.xy.shape[1]):
            if published and asked != 0:
                continue
            if t > asked or (t < asked and reference.query_mode != "first"):
                x, y = (predicted.xy[n, t] - reference.xy[n, t]) * 256 / np.float64(size[::-1])
                pairs.append((math.hypot(x, y), reference.visible[n, t], published or predicted.visible[n, t]))
    seen = [pair for pair in pairs if pair[1]]

    def share(part, whole):
        return part / whole if whole else math.nan

    out = {"occlusion_accuracy": (share(sum(v == p for _, v, p in pairs), len(pairs)), len(pairs))}
    for limit in THRESHOLDS:
        right = sum(e < limit for e, _, _ in seen)
        positive = sum(e < limit and p for e, _, p in seen)
        false = sum(p and not (v and e < limit) for e, v, p in pairs)
        out[f"pts_within_{limit}"] = (share(right, len(seen)), len(seen))
        out[f"jaccard_{limit}"] = (share(positive, len(seen) + false), len(pairs))
    for name, stem, n in (("average_pts_within_thresh", "pts_within", seen), ("average_jaccard", "jaccard", pairs)):
        out[name] = (np.mean([out[f"{stem}_{limit}"][0] for limit in THRESHOLDS]), len(n))
    return {name: (value, 0 if math.isnan(value) else n) for name, (value, n) in out.items()}


@fast
@given(st.integers(0, 100_000), st.booleans())
def test_a_mean_over_clips_is_the_mean_over_videos(seed, published):
    videos = [draw_video(seed * 3 + k) for k in range(3)]
    metric = TapVid(variant="difftrack" if published else "corrected")
    found = [metric.score_tracks(*video) for video in videos]
    expected = [slow(*video, published=published) for video in videos]
    assert [{name: score.n for name, score in one.items()} for one in found] == [
        {name: n for name, (_, n) in one.items()} for one in expected
    ]
    for name in expected[0]:
        # each video weighs the same, whatever its number of points
        mean = np.mean([one[name].value for one in found])
        np.testing.assert_allclose(mean, np.mean([one[name][0] for one in expected]), atol=1e-9)


def test_points_that_start_later_stay_in_unless_the_published_variant_is_asked_for():
    xy, visible = np.zeros((2, 4, 2)), np.ones((2, 4), bool)
    reference = tracks(xy, visible, [0, 2])
    wrong = tracks(xy + np.array([[[0, 0]], [[30, 0]]]), visible, [0, 2])
    assert TapVid().score_tracks(wrong, reference, SMALL)["pts_within_16"].value == pytest.approx(3 / 4)
    only = TapVid(variant="corrected+pooling=everything").score_tracks(wrong, reference, SMALL)["pts_within_16"]
    assert (only.value, only.n) == (1, 3)


def test_nothing_counts_without_a_frame_after_the_query():
    last = tracks(np.zeros((1, 3, 2)), np.ones((1, 3), bool), [2])
    assert all(math.isnan(s.value) and s.n == 0 for s in TapVid().score_tracks(last, last, SMALL).values())


def test_shapes_that_differ_are_refused():
    one, two = (tracks(np.zeros((n, 3, 2)), np.ones((n, 3), bool), [0] * n) for n in (1, 2))
    with pytest.raises(UsageError, match="expected the reference's shape"):
        TapVid().score_tracks(one, two, SMALL)


def test_it_keeps_the_contract():
    assert_passed(check_metric(TapVid()))


def test_accuracies_that_perfect_tracks_do_not_reach_are_reported():
    class Halved(TapVid):
        def score_tracks(self, predicted, reference, size):
            found = super().score_tracks(predicted, reference, size)
            return {name: type(score)(score.value / 2, score.n) for name, score in found.items()}

    failed = [check.name for check in check_metric(Halved()) if not check.passed]
    assert failed == ["accuracies are 1 for perfect tracks"]
