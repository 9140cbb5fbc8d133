"""Scores, floors and ceilings of queries that are each in a frame of their own, against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import RowsPrediction, TokenGrid, Tracks, UsageError
from vcorr.metrics import MatchingAccuracy, accuracy, to_frames
from vcorr.metrics.attention_scores import attention, confidence
from vcorr.metrics.builtin_metrics import AttentionScore, Confidence
from vcorr.metrics.pairs import select_pairs

fast = settings(max_examples=60, deadline=None, derandomize=True)
N = 6

grids = st.builds(
    lambda frames, rows, cols, ratio, causal: TokenGrid(
        frames, rows, cols, (8, 12), temporal_ratio=ratio, causal=causal
    ),
    frames=st.integers(1, 4),
    rows=st.integers(1, 3),
    cols=st.integers(1, 3),
    ratio=st.integers(1, 4),
    causal=st.booleans(),
)


def draw(seed, grid):
    """Returns query frames, reference tracks through the queries, visibility."""
    generator = np.random.default_rng(seed)
    frames = generator.integers(0, grid.video_frames, N)
    queries = (generator.uniform(0, 1, (N, 2)) * [grid.width, grid.height]).astype(np.float32)
    walk = generator.normal(0, 5, (N, grid.video_frames, 2)).cumsum(axis=1)
    reference = queries[:, None] + walk - walk[np.arange(N), frames][:, None]
    return generator, frames, queries, reference, generator.random((N, grid.video_frames)) < 0.7


@fast
@given(grid=grids, seed=st.integers(0, 10_000), moving=st.booleans(), everything=st.booleans())
def test_pairs_and_accuracy_agree_with_the_loops(grid, seed, moving, everything):
    generator, frames, _, reference, visible = draw(seed, grid)
    tracks = reference + generator.normal(0, 4, reference.shape)
    variant = "difftrack" if everything else "corrected"
    expected = np.zeros_like(visible)
    hits = 0
    for n, t in np.ndindex(visible.shape):
        counts = visible[n, t] and (everything or (visible[n, frames[n]] and t != frames[n]))
        away = (reference[n, t] - reference[n, frames[n]]) / grid.stride
        expected[n, t] = counts and (not moving or math.hypot(*away) > 1)
        error = (tracks[n, t] - reference[n, t]) / grid.stride
        hits += expected[n, t] and math.hypot(*error) < 0.5
    got = select_pairs(reference, visible, grid, query_frame=frames, variant=variant, moving=moving)
    np.testing.assert_array_equal(got, expected)
    share = accuracy(tracks, reference, visible, grid, query_frame=frames, variant=variant, moving=moving)
    assert share.pairs == expected.sum()
    if share.pairs:
        assert share.value == pytest.approx(hits / share.pairs, abs=1e-6)


@fast
@given(grid=grids, seed=st.integers(0, 10_000))
def test_confidence_and_attention_agree_with_the_loops(grid, seed):
    generator, frames, _, _, visible = draw(seed, grid)
    cross, own, text = generator.random((N, grid.frames - 1)), generator.random(N), generator.random(N)
    means, answered, asked = [], [], [n for n in range(N) if visible[n, frames[n]]]
    for n in asked:
        others = [span for span in grid.time_spans if not span[0] <= frames[n] <= span[1]]
        shown = [cross[n, j] for j, (a, b) in enumerate(others) if visible[n, a : b + 1].all()]
        means += [np.mean(shown)] if shown else []
        answered += [n] if shown else []
    got = confidence(cross, own, text, visible, grid, query_frame=frames)
    assert (got["cross"].points, got["self"].points) == (len(answered), len(asked))
    if answered:
        assert got["cross"].value == pytest.approx(np.mean(means))
    if asked:
        assert got["self"].value == pytest.approx(own[asked].mean())
        sums = attention(cross.sum(1), own, text, visible, query_frame=frames)
        assert sums["text"].value == pytest.approx(text[asked].mean())


@fast
@given(grid=grids, seed=st.integers(0, 10_000), variant=st.sampled_from(["corrected", "difftrack"]))
def test_points_of_mixed_frames_are_answered_as_each_by_itself(grid, seed, variant):
    generator, frames, queries, _, _ = draw(seed, grid)
    xy = generator.uniform(0, 20, (N, grid.frames, 2))
    tracks = to_frames(xy, grid, queries, query_frame=frames, variant=variant)
    for n in range(N):
        one = {"query_frame": int(frames[n]), "variant": variant}
        np.testing.assert_array_equal(tracks[n], to_frames(xy[n : n + 1], grid, queries[n : n + 1], **one)[0])
        if variant == "corrected":
            np.testing.assert_array_equal(tracks[n, frames[n]], queries[n])


@fast
@given(grid=grids, seed=st.integers(0, 10_000), variant=st.sampled_from(["corrected", "difftrack"]))
def test_metrics_take_the_frames_from_the_reference(grid, seed, variant):
    generator, frames, _, reference, visible = draw(seed, grid)
    known = Tracks(reference.astype(np.float32), visible, "exact", query_frame=frames.astype(np.int32))
    tracks = (reference + generator.normal(0, 4, reference.shape)).astype(np.float32)
    got = MatchingAccuracy(variant=variant).score(tracks, known, grid)["matching_accuracy_moving"]
    share = accuracy(tracks, known.xy, visible, grid, query_frame=frames, variant=variant, moving=True)
    np.testing.assert_equal((got.value, got.n), share)
    parts = [generator.random((N, grid.frames - 1)), *generator.random((5, N))]
    rows = RowsPrediction("attention", *(part.astype(np.float32) for part in parts), grid=grid)
    means = confidence(*parts[:3], visible, grid, query_frame=frames, variant=variant)
    scores = Confidence(variant=variant).score_rows(rows, known, grid)
    sums = attention(*parts[3:], visible, query_frame=frames)
    scores |= AttentionScore().score_rows(rows, known, grid)
    for kind, found in (("confidence", means), ("attention", sums)):
        for part, mean in found.items():
            assert scores[f"{kind}_{part}"].value == pytest.approx(mean.value, rel=1e-5, nan_ok=True)
            assert scores[f"{kind}_{part}"].n == mean.points


@pytest.mark.parametrize("frames", [np.int32([0]), np.int32([0, 5]), np.int32([-1, 0]), np.float32([0, 0])])
def test_tracks_refuse_frames_that_are_none(frames):
    with pytest.raises(UsageError, match="Tracks: query_frame"):
        Tracks(np.zeros((2, 5, 2), np.float32), np.ones((2, 5), bool), "exact", query_frame=frames)


@pytest.mark.parametrize("frames", [[0, 5], [-1, 0], [0.0, 1.0], [0], [[0, 1]]])
def test_frames_that_are_none_are_refused(frames):
    grid = TokenGrid(frames=5, rows=2, cols=2, stride=(8, 8))
    with pytest.raises(UsageError, match="query_frame: "):
        to_frames(np.zeros((2, 5, 2)), grid, np.zeros((2, 2)), query_frame=frames)
