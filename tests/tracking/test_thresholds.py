"""Thresholds of visibility: against scoring every clip at every threshold, and by construction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import UsageError
from vcorr.metrics.tapvid import ComparedPairs, score_pairs
from vcorr.stats.halves import Halves
from vcorr.tracking import thresholds as module
from vcorr.tracking.thresholds import (
    ConfidentPairs,
    find_candidates,
    sample_confidence,
    trace_thresholds,
)

fast = settings(max_examples=40, deadline=None, derandomize=True)


def draw_clips(seed, *, levels=6):
    rng = np.random.default_rng(seed)
    clips = []
    for _ in range(int(rng.integers(1, 5))):
        shape = (int(rng.integers(1, 4)), int(rng.integers(1, 6)))
        visible, counted, shown = (rng.random(shape) < share for share in (0.6, 0.8, 0.5))
        squares = np.where(visible, rng.uniform(0, 18, shape) ** 2, np.nan)
        confidence = (rng.integers(0, levels, shape) / (levels - 1)).astype(np.float32)
        clips.append(ConfidentPairs(ComparedPairs(counted, visible, shown, squares), confidence))
    return clips


def choose_threshold(clips):
    return trace_thresholds(clips, find_candidates(map(sample_confidence, clips))).choose()


def slow_curve(clips, thresholds):
    """Returns mean Jaccard and occlusion accuracy at each threshold, from the metric itself."""
    found = [[score_pairs(clip.show_above(threshold)) for threshold in thresholds] for clip in clips]
    return [
        np.array([[one[name] for one in clip] for clip in found]) for name in ("average_jaccard", "occlusion_accuracy")
    ]


def means(values):
    known = np.isfinite(values)
    return np.array([column[ok].mean() if ok.any() else np.nan for column, ok in zip(values.T, known.T, strict=True)])


@fast
@given(st.integers(0, 100_000))
def test_the_curve_is_what_the_metric_gives_at_each_threshold(seed):
    clips = draw_clips(seed)
    drawn = np.random.default_rng(seed).uniform(0, 1, 7)
    thresholds = np.unique([*drawn, *clips[0].confidence.ravel().astype(np.float64)])  # a pair at a threshold is hidden
    curve = trace_thresholds(clips, thresholds)
    jaccard, accuracy = slow_curve(clips, thresholds)
    np.testing.assert_allclose(curve.jaccard, jaccard, atol=1e-12)
    np.testing.assert_allclose(curve.occlusion_accuracy, accuracy, atol=1e-12)
    own = [score_pairs(clip.pairs) for clip in clips]
    np.testing.assert_allclose(curve.own, [[one["average_jaccard"], one["occlusion_accuracy"]] for one in own])


@fast
@given(st.integers(0, 100_000))
def test_no_threshold_is_better_than_the_chosen_one(seed):
    clips = draw_clips(seed)
    everywhere = np.linspace(0, 1, 21)  # the confidences are 0, 0.2, ..., 1
    expected = means(slow_curve(clips, everywhere)[0])
    if np.isnan(expected).all():
        with pytest.raises(UsageError, match="no clip has a pair that counts"):
            choose_threshold(clips)
        return
    chosen = choose_threshold(clips)
    assert chosen.jaccard == pytest.approx(np.nanmax(expected), abs=1e-12)
    at = slow_curve(clips, [chosen.threshold])
    assert (chosen.jaccard, chosen.occlusion_accuracy) == pytest.approx([means(part)[0] for part in at], nan_ok=True)
    assert chosen.maximised == f"the mean of average_jaccard over {len(clips)} clips"


def one_clip(confidence, visible):
    shape = np.shape(visible)
    pairs = ComparedPairs(np.ones(shape, bool), np.array(visible, bool), np.ones(shape, bool), np.zeros(shape))
    return ConfidentPairs(pairs, np.array(confidence, np.float32))


def test_of_equal_thresholds_the_middle_one_is_chosen():
    # hidden at 0.1, seen from 0.7 on: every threshold between is right, whatever the other clip's confidences are
    clip, other = one_clip([[0.1, 0.7, 0.9]], [[0, 1, 1]]), one_clip([[0.3, 0.5]], [[0, 0]])
    assert choose_threshold([clip]).threshold == pytest.approx(0.4)
    # between 0.5 and 0.7 alone nothing of the other clip is shown; its Jaccard is then not scored
    assert find_candidates(map(sample_confidence, [clip, other])) == pytest.approx([0.05, 0.2, 0.4, 0.6, 0.8, 0.95])
    seen = one_clip([[0.1, 0.3, 0.5, 0.7, 0.9]], [[0, 1, 1, 1, 1]])
    flat = trace_thresholds([one_clip([[0.5]], [[1]])], np.array([0.1, 0.2, 0.3, 0.4, 0.8]))
    assert flat.choose().threshold == 0.2  # of four equal ones the lower of the two in the middle
    assert choose_threshold([seen]).threshold == pytest.approx(0.2)


def test_ends_and_few_confidences():
    assert find_candidates([np.array([0.0, 1.0])]).tolist() == [0.5, 1.0]
    assert find_candidates([np.array([0.4])]) == pytest.approx([0.2, 0.7])
    assert len(find_candidates([])) == 0
    many = np.linspace(0, 1, 5000)
    assert len(find_candidates([many])) == module.MOST_CANDIDATES


def test_each_half_reports_at_the_threshold_of_the_other():
    low, high = one_clip([[0.1, 0.2]], [[0, 1]]), one_clip([[0.5, 0.9]], [[0, 1]])
    curve = trace_thresholds([low, high], find_candidates(map(sample_confidence, [low, high])))
    assert (curve.choose([0]).threshold, curve.choose([1]).threshold) == pytest.approx((0.15, 0.7))
    halves = Halves(np.array([0]), np.array([1]))
    # low at 0.7 shows nothing: no true positive of one visible pair. high at 0.15 shows the hidden pair as well
    assert curve.cross_fit(halves) == pytest.approx(((0 + 1 / 2) / 2, (1 / 2 + 1 / 2) / 2))
