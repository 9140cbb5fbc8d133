"""Metrics remember what depends on the reference alone, and only for as long as it lives."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import vcorr.metrics.pairs as pairs_module
from vcorr import TokenGrid, Tracks
from vcorr.metrics import DIFFTRACK, MatchingAccuracy, Pck

GRID = TokenGrid(frames=5, rows=30, cols=45, stride=(16, 16))


def reference(seed):
    generator = np.random.default_rng(seed)
    xy = (generator.uniform(0, 400, (6, 1, 2)) + generator.normal(0, 40, (6, 5, 2)).cumsum(1)).astype(np.float32)
    return Tracks(xy, generator.random((6, 5)) < 0.7, tracker="exact")


@pytest.mark.parametrize("variant", ["corrected", "difftrack"])
@pytest.mark.parametrize("metric_type", [MatchingAccuracy, Pck])
def test_a_used_metric_scores_like_a_new_one(metric_type, variant):
    used = metric_type(variant=variant)
    other = TokenGrid(frames=5, rows=15, cols=45, stride=(16, 32))
    generator = np.random.default_rng(0)
    for round_ in range(3):
        for seed in (0, 1):
            truth = reference(seed)
            for grid in (GRID, other, GRID):
                tracks = truth.xy + generator.normal(0, 6, truth.xy.shape).astype(np.float32)
                expected = metric_type(variant=variant).score(tracks, truth, grid)
                np.testing.assert_equal(used.score(tracks, truth, grid), expected, err_msg=str(round_))


def test_pairs_are_found_once_for_a_reference(monkeypatch):
    calls = []
    found = pairs_module.Pairs.of
    monkeypatch.setattr(pairs_module.Pairs, "of", lambda *args: calls.append(1) or found(*args))
    truth, metric = reference(0), Pck()
    for _ in range(5):
        metric.score(truth.xy, truth, GRID)
    assert len(calls) == 1
    metric.score(truth.xy, reference(0), GRID)
    assert len(calls) == 2


def test_a_metric_keeps_no_reference_alive():
    truth, metric = reference(0), MatchingAccuracy()
    metric.score(truth.xy, truth, GRID)
    alive = weakref.ref(truth)
    del truth
    gc.collect()
    assert alive() is None


def test_difftrack_metrics_count_the_query_frame():
    truth = reference(0)
    score = MatchingAccuracy().under(DIFFTRACK).score(truth.xy, truth, GRID)
    assert score["matching_accuracy"].n == truth.visible.sum()
    assert score["matching_accuracy"].value == 1.0
