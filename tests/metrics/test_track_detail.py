"""Re-detection, survival, strata and calibration of tracks: against loops over drawn videos, and by construction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import Tracks, UsageError
from vcorr.metrics.calibration import TrackCalibration, find_calibration_error, find_risk_area
from vcorr.metrics.occlusions import measure_latest_occlusion
from vcorr.metrics.track_detail import TrackDetail, TrackDetailConfig
from vcorr.testing import assert_passed, check_metric

fast = settings(max_examples=40, deadline=None, derandomize=True)
SIZE = (128, 512)
THRESHOLDS = (1, 2, 4, 8, 16)
CONFIG = TrackDetailConfig(frames=(1, 3), displacement=(10, 40), occluded=(1, 2), failure=30)


def tracks(xy, visible, asked, mode="first", confidence=None):
    asked = np.asarray(asked).astype(np.int32)
    given = {"query_frame": asked, "query_mode": mode, "confidence": confidence}
    return Tracks(np.asarray(xy, np.float32), np.asarray(visible, bool), "test", **given)


def draw_video(seed):
    rng = np.random.default_rng(seed)
    points, frames = int(rng.integers(1, 6)), int(rng.integers(2, 9))
    asked, visible = rng.integers(0, frames, points), rng.random((points, frames)) < 0.55
    visible[np.arange(points), asked] = True
    xy = np.cumsum(rng.normal(0, 15, (points, frames, 2)), axis=1) * [2, 0.5] + [256, 64]
    found = xy + rng.normal(0, 12, xy.shape) * rng.choice([0.1, 1, 3], (points, 1, 1)) * [2, 0.5]
    xy[~visible] = np.nan
    confidence = rng.integers(0, 11, visible.shape).astype(np.float32) / np.float32(10)
    predicted = tracks(found, rng.random(visible.shape) < 0.7, asked, confidence=confidence)
    return predicted, tracks(xy, visible, asked, str(rng.choice(["first", "strided"])))


def walk(reference, n):
    """Yields the counted frames of a point, nearest to the query first, in each direction by itself."""
    asked, frames = int(reference.query_frame[n]), reference.xy.shape[1]
    yield list(range(asked + 1, frames))
    if reference.query_mode != "first":
        yield list(range(asked - 1, -1, -1))


def error(predicted, reference, n, t):
    """Returns the distance in pixels of a 256x256 frame."""
    x, y = (predicted.xy[n, t] - reference.xy[n, t]) * np.array([0.5, 2])
    return math.hypot(x, y)


def list_pairs(predicted, reference):
    """Returns one record per counted pair, made frame by frame."""
    pairs = []
    for n in range(len(reference.xy)):
        for frames in walk(reference, n):
            run, latest, failed = 0, 0, False
            for t in frames:
                seen = bool(reference.visible[n, t])
                latest = run if seen and run else latest
                run = 0 if seen else run + 1
                e = error(predicted, reference, n, t) if seen else math.nan
                failed = failed or (seen and e > CONFIG.failure)
                x, y = (reference.xy[n, t] - reference.xy[n, reference.query_frame[n]]) * np.array([0.5, 2])
                moved = math.hypot(x, y)
                pairs.append(
                    {
                        "point": n,
                        "seen": seen,
                        "error": e,
                        "shown": bool(predicted.visible[n, t]),
                        "latest": latest,
                        "failed": failed,
                        "frames": abs(t - int(reference.query_frame[n])),
                        "moved": moved,
                        "confidence": float(predicted.confidence[n, t]),
                    }
                )
    return pairs


def mean(values):
    return float(np.mean(values)) if len(values) else math.nan


def slow_jaccard(pairs):
    def one(limit):
        right = sum(p["seen"] and p["shown"] and p["error"] < limit for p in pairs)
        false = sum(p["shown"] and not (p["seen"] and p["error"] < limit) for p in pairs)
        whole = sum(p["seen"] for p in pairs) + false
        return right / whole if whole else math.nan

    return float(np.mean([one(limit) for limit in THRESHOLDS]))


def slow_survival(pairs):
    points = {p["point"] for p in pairs if p["seen"]}
    return mean([mean([not p["failed"] for p in pairs if p["point"] == n]) for n in sorted(points)]), len(points)


def slow_share(pairs):
    return mean([np.mean([p["error"] < limit for limit in THRESHOLDS]) for p in pairs if p["seen"]])


def expect_strata(pairs):
    """Returns the pairs of each stratum of CONFIG."""
    within = {
        "frames": [("0-1", 0, 1), ("1-3", 1, 3), ("3+", 3, math.inf)],
        "displacement": [("0-10", -1, 10), ("10-40", 10, 40), ("40+", 40, math.inf)],
        "occluded": [("none", -1, 0), ("0-1", 0, 1), ("1-2", 1, 2), ("2+", 2, math.inf)],
    }
    number = {"frames": "frames", "displacement": "moved", "occluded": "latest"}
    for name, strata in within.items():
        for label, low, high in strata:
            yield f"{name}:{label}", [p for p in pairs if p["seen"] and low < p[number[name]] <= high]


@fast
@given(st.integers(0, 100_000))
def test_agrees_with_the_loops(seed):
    predicted, reference = draw_video(seed)
    pairs = list_pairs(predicted, reference)
    got = TrackDetail(CONFIG).score_tracks(predicted, reference, SIZE)
    after = [p for p in pairs if p["latest"]]
    np.testing.assert_allclose(got["redetection_jaccard"].value, slow_jaccard(after), atol=1e-9)
    survival, points = slow_survival(pairs)
    np.testing.assert_allclose(got["survival"].value, survival, atol=1e-9)
    assert got["survival"].n == points
    for stratum, own in expect_strata(pairs):
        found = got[f"average_pts_within_thresh@{stratum}"]
        assert found.n == len(own), stratum
        np.testing.assert_allclose(found.value, slow_share(own), atol=1e-9)
    right, sure = got["right_pairs"], got["mean_confidence"]
    assert right.n == sure.n == len(pairs)
    np.testing.assert_allclose(right.value, mean([p["seen"] and p["error"] < 8 for p in pairs]))
    np.testing.assert_allclose(sure.value, mean([p["confidence"] for p in pairs]), atol=1e-6)
    for k in range(10):
        label = f"{k / 10:g}-{(k + 1) / 10:g}"
        own = [p for p in pairs if max(math.ceil(round(p["confidence"] * 10, 4)), 1) == k + 1]
        right, sure = got[f"right_pairs@confidence:{label}"], got[f"mean_confidence@confidence:{label}"]
        assert right.n == sure.n == len(own)
        np.testing.assert_allclose(right.value, mean([p["seen"] and p["error"] < 8 for p in own]), atol=1e-6)
        np.testing.assert_allclose(sure.value, mean([p["confidence"] for p in own]), atol=1e-6)


@fast
@given(st.integers(0, 100_000))
def test_calibration_agrees_with_the_loops(seed):
    predicted, reference = draw_video(seed)
    pairs = list_pairs(predicted, reference)
    got = TrackCalibration().score_tracks(predicted, reference, SIZE)
    gaps = {}
    for p in pairs:
        bin_ = max(math.ceil(round(p["confidence"] * 10, 4)), 1)
        gaps[bin_] = gaps.get(bin_, 0) + ((p["seen"] and p["error"] < 8) - p["confidence"])
    expected = sum(map(abs, gaps.values())) / len(pairs) if pairs else math.nan
    np.testing.assert_allclose(got["calibration_error"].value, expected, atol=1e-6)
    assert got["calibration_error"].n == got["risk_coverage_area"].n == len(pairs)


@fast
@given(st.integers(0, 100_000))
def test_the_area_of_risk_and_coverage_is_the_integral_of_the_curve(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 12))
    confidence, right = rng.integers(0, 4, count) / 4, rng.random(count) < 0.5
    # each pair many times, spread evenly over its group of equal confidence: the mean over k tends to the integral
    order = np.argsort(-confidence, kind="stable")
    many = 2000
    rates = np.array([np.mean(~right[confidence == value]) for value in confidence[order]])
    risks = np.cumsum(np.repeat(rates, many)) / np.arange(1, count * many + 1)
    assert find_risk_area(confidence, right) == pytest.approx(risks.mean(), abs=2e-3)


def test_calibration_by_construction():
    right = np.array([True, True, True, False])
    assert find_calibration_error(np.full(4, 0.75), right) == 0
    assert find_calibration_error(np.full(4, 0.95), right) == pytest.approx(0.2)
    assert find_risk_area(np.full(4, 0.75), right) == 0.25  # no order: the risk is the same at every coverage
    confidence = np.array([0.9, 0.8, 0.7, 0.1])
    assert find_risk_area(confidence, right) < 0.25 < find_risk_area(1 - confidence, right)
    assert find_risk_area(np.ones(3), np.ones(3, bool)) == 0


def test_tracks_without_a_confidence_have_no_calibration():
    same = tracks(np.zeros((1, 3, 2)), np.ones((1, 3)), [0])
    for metric in (TrackCalibration(), TrackDetail()):
        found = metric.score_tracks(same, same, SIZE)
        bins = [score for name, score in found.items() if "confidence" in name or "calibration" in name]
        assert bins
        assert all(math.isnan(score.value) and score.n == 0 for score in bins)


def test_occlusions_are_seen_from_the_query():
    visible = np.array([[c == "1" for c in "1001101"]])
    assert measure_latest_occlusion(visible, np.array([0])).tolist() == [[0, 0, 0, 2, 2, 2, 1]]
    assert measure_latest_occlusion(visible, np.array([3])).tolist() == [[2, 0, 0, 0, 0, 0, 1]]
    assert measure_latest_occlusion(visible, np.array([6])).tolist() == [[2, 1, 1, 1, 1, 0, 0]]


def test_survival_by_construction():
    """Lets the track jump away in the fourth of five frames after the query, and come back: it stays lost."""
    reference = tracks(np.zeros((1, 6, 2)), np.ones((1, 6)), [0])
    found = np.zeros((1, 6, 2))
    found[0, 4, 0] = 101  # 50.5 px of a 256 frame
    survival = TrackDetail().score_tracks(tracks(found, np.ones((1, 6)), [0]), reference, SIZE)["survival"]
    assert (survival.value, survival.n) == (3 / 5, 1)
    found[0, 4, 0] = 100
    assert TrackDetail().score_tracks(tracks(found, np.ones((1, 6)), [0]), reference, SIZE)["survival"].value == 1
    found[0, 2] = np.nan
    lost = tracks(found, np.arange(6)[None] != 2, [0])
    assert TrackDetail().score_tracks(lost, reference, SIZE)["survival"].value == 1 / 5


def test_under_the_published_variant_only_queries_in_frame_0_count():
    xy, visible = np.zeros((2, 4, 2)), np.array([[1, 0, 1, 1], [1, 1, 0, 1]], bool)
    reference = tracks(xy, visible, [0, 1])
    wrong = tracks(xy + np.array([[[0, 0]], [[300, 0]]]), visible, [0, 1])
    got = TrackDetail(variant="difftrack").score_tracks(wrong, reference, SIZE)
    assert (got["survival"].value, got["survival"].n) == (1, 1)
    assert (got["redetection_jaccard"].value, got["redetection_jaccard"].n) == (1, 2)


@pytest.mark.parametrize("metric", [TrackDetail(), TrackDetail(CONFIG), TrackCalibration()])
def test_they_keep_the_contract(metric):
    assert_passed(check_metric(metric))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"frames": (4, 2)}, "metric 'track-detail': frames must be rising"),
        ({"displacement": ()}, "metric 'track-detail': displacement must be rising"),
        ({"failure": math.nan}, "metric 'track-detail': failure must be a positive number"),
    ],
)
def test_odd_options_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        TrackDetailConfig(**wrong)
