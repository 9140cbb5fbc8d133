"""Queries in any frame: against loops, reordered latents, and reversed time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import TokenGrid, UsageError
from vcorr.functional import (
    CORRECTED,
    DIFFTRACK,
    DIFFTRACK_TAPVID,
    QueryPoints,
    attention_rows,
    attention_score,
    confidence_score,
    latent_to_frames,
    match,
    match_features,
    matching_accuracy,
)
from vcorr.metrics import to_frames

fast = settings(max_examples=40, deadline=None, derandomize=True)
VARIANTS = [CORRECTED, DIFFTRACK, DIFFTRACK_TAPVID]

cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "frames": st.integers(1, 4),
        "rows": st.integers(1, 4),
        "cols": st.integers(1, 5),
        "ratio": st.integers(1, 4),
        "causal": st.booleans(),
    }
)


def draw(seed, frames, rows, cols, ratio, causal, dtype=torch.float32, points=5):
    """Returns a grid, q and k on it, text keys and query points."""
    generator = torch.Generator().manual_seed(seed)
    grid = TokenGrid(frames, rows, cols, (8, 16), temporal_ratio=ratio, causal=causal)
    q, k = (torch.randn(2, frames, rows, cols, 4, generator=generator).to(dtype) for _ in range(2))
    text = torch.randn(2, 3, 4, generator=generator).to(dtype)
    queries = np.random.default_rng(seed).uniform(0, 1, (points, 2)) * [grid.width, grid.height]
    return grid, q, k, text, queries.astype(np.float32)


def slow_match(q, k, grid, queries, frame):
    """Follows docs/protocol.md word by word for queries in `frame`: (N, F, 2)."""
    q, k = (tensor.double().numpy().reshape(2, grid.frames, -1, 4) for tensor in (q, k))
    own = next(j for j, (first, last) in enumerate(grid.time_spans) if first <= frame <= last)
    out = np.empty((len(queries), grid.frames, 2))
    for n, query in enumerate(queries):
        x = int(grid.tokens_at(query))
        for j in range(grid.frames):
            cost = np.zeros(grid.tokens_per_frame)
            for a in range(2):
                forward = np.exp([q[a, own, x] @ key / math.sqrt(4) for key in k[a, j]])
                cost += forward / forward.sum()
                for y in range(grid.tokens_per_frame):
                    reverse = np.exp([q[a, j, y] @ key / math.sqrt(4) for key in k[a, own]])
                    cost[y] += reverse[x] / reverse.sum()
            best = grid.centres[int(cost.argmax())]
            out[n, j] = query if j == own else query + best - grid.centres[x]
    return out


@fast
@given(case=cases, data=st.data())
def test_matching_from_any_frame_agrees_with_the_loops(case, data):
    grid, q, k, _, queries = draw(**case)
    frame = data.draw(st.integers(0, grid.video_frames - 1))
    got = match(q, k, grid, queries, query_frame=frame).numpy()
    np.testing.assert_allclose(got, slow_match(q, k, grid, queries, frame), atol=1e-3)
    np.testing.assert_array_equal(got[:, grid.latent_at(frame)], queries)
    np.testing.assert_array_equal(got, match(q, k, grid, QueryPoints(queries, frame)).numpy())


@fast
@given(case=cases, data=st.data(), variant=st.sampled_from(VARIANTS), dtype=st.sampled_from([None, torch.bfloat16]))
def test_the_latent_of_the_query_takes_the_place_of_the_first(case, data, variant, dtype):
    """Compares with queries in frame 0 after the query's latent was put first, in every variant."""
    grid, q, k, text, queries = draw(**case | {"ratio": 1}, dtype=dtype or torch.float32)
    frame = data.draw(st.integers(0, grid.frames - 1))
    first = [frame, *(j for j in range(grid.frames) if j != frame)]
    back = np.argsort(first)
    for got, expected in (
        (match(q, k, grid, queries, query_frame=frame, variant=variant),
         match(q[:, first], k[:, first], grid, queries, variant=variant)),
        (match_features(q[0], grid, queries, query_frame=frame, variant=variant),
         match_features(q[0][first], grid, queries, variant=variant)),
    ):  # fmt: skip
        assert torch.equal(got, expected[:, back])
    rows = attention_rows(q, k, text, grid, queries, query_frame=frame, variant=variant)
    moved = attention_rows(q[:, first], k[:, first], text, grid, queries, variant=variant)
    for got, expected in zip(rows, moved, strict=True):
        torch.testing.assert_close(got, expected)


@fast
@given(case=cases, variant=st.sampled_from(VARIANTS))
def test_reversed_time_answers_backwards(case, variant):
    """Compares queries in the last frame of a reversed clip with queries in frame 0 of the clip."""
    grid, q, k, text, queries = draw(**case | {"causal": False})
    last = grid.video_frames - 1
    found = match(q, k, grid, queries, variant=variant)
    backwards = match(q.flip(1), k.flip(1), grid, queries, query_frame=last, variant=variant)
    assert torch.equal(backwards, found.flip(1))
    tracks = latent_to_frames(found, grid, queries, variant=variant)
    reversed_tracks = latent_to_frames(backwards, grid, queries, query_frame=last, variant=variant)
    torch.testing.assert_close(reversed_tracks, tracks.flip(1), rtol=0, atol=1e-3)
    visible = torch.rand(5, grid.video_frames, generator=torch.Generator().manual_seed(case["seed"])) < 0.7
    reference = tracks + 4 * torch.randn(tracks.shape, generator=torch.Generator().manual_seed(1))
    for moving in (False, True):
        options = {"variant": variant, "moving": moving}
        score = matching_accuracy(tracks, reference, visible, grid, **options)
        flipped = (tracks.flip(1), reference.flip(1), visible.flip(1))
        np.testing.assert_equal(matching_accuracy(*flipped, grid, query_frame=last, **options), score)
    rows = attention_rows(q, k, text, grid, queries, variant=variant)
    turned = attention_rows(q.flip(1), k.flip(1), text, grid, queries, query_frame=last, variant=variant)
    torch.testing.assert_close(turned.peak_cross, rows.peak_cross.flip(1))
    for one, other in (
        (confidence_score(rows, visible, grid, variant=variant),
         confidence_score(turned, visible.flip(1), grid, query_frame=last, variant=variant)),
        (attention_score(rows, visible), attention_score(turned, visible.flip(1), query_frame=last)),
    ):  # fmt: skip
        assert one == pytest.approx(other, rel=1e-4, nan_ok=True)


@fast
@given(case=cases, data=st.data())
def test_only_the_query_frame_of_a_latent_is_pinned(case, data):
    """Checks that the query's latent has the query at its centre, and that the query frame has it exactly."""
    grid, *_, queries = draw(**case)
    frame = data.draw(st.integers(0, grid.video_frames - 1))
    xy = np.random.default_rng(case["seed"]).uniform(0, 40, (5, grid.frames, 2)).astype(np.float32)
    got = latent_to_frames(xy, grid, queries, query_frame=frame).numpy()
    for n, axis in np.ndindex(5, 2):
        expected = np.interp(np.arange(grid.video_frames), grid.latent_times, xy[n, :, axis])
        expected[frame] = queries[n, axis]
        np.testing.assert_allclose(got[n, :, axis], expected, atol=1e-3)
    np.testing.assert_array_equal(got[:, frame], queries)
    np.testing.assert_allclose(to_frames(xy, grid, queries, query_frame=frame), got, atol=1e-4)


@fast
@given(case=cases, data=st.data())
def test_a_point_that_stands_still_stays_whatever_the_frame(case, data):
    grid, *_, queries = draw(**case)
    frame = data.draw(st.integers(0, grid.video_frames - 1))
    still = np.repeat(queries[:, None], grid.frames, axis=1)
    expected = np.repeat(queries[:, None], grid.video_frames, axis=1)
    np.testing.assert_array_equal(latent_to_frames(still, grid, queries, query_frame=frame).numpy(), expected)


def test_a_track_through_the_middle_of_the_clip():
    """Moves the picture by one column per latent: a query in the third latent is found before and after it."""
    picture = torch.randn(1, 6, 9, 32, generator=torch.Generator().manual_seed(0)) * 6
    q = torch.stack([picture.roll(j, dims=2) for j in range(5)], dim=1)
    grid = TokenGrid(frames=5, rows=6, cols=9, stride=(8, 8), temporal_ratio=4)
    xy = match(q, q, grid, [[36.5, 20.0]], query_frame=6)  # latent 2 covers frames 5 to 8
    assert xy[0, :, 0].tolist() == [20.5, 28.5, 36.5, 44.5, 52.5]
    tracks = latent_to_frames(xy, grid, [[36.5, 20.0]], query_frame=6)
    assert tracks[0, [0, 6, 16], 0].tolist() == [20.5, 36.5, 52.5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q, g, p: match(q, q, g, p, query_frame=9), "query_frame: No latent covers frame 9 of this 9-frame"),
        (lambda q, g, p: match(q, q, g, p, query_frame=-1), "query_frame: expected the number of a video frame"),
        (lambda q, g, p: match_features(q[0], g, p, query_frame=9), "query_frame: No latent covers"),
        (lambda q, g, p: attention_rows(q, q, q[:, 0, 0], g, p, query_frame=9), "query_frame: No latent covers"),
        (lambda q, g, p: match(q, q, g, QueryPoints(p, 3), query_frame=2), "queries are in frame 3"),
        (lambda q, g, p: latent_to_frames(torch.zeros(1, 3, 2), g, p, query_frame=9), "frame 9 is not in the video"),
        (
            lambda q, g, p: latent_to_frames(torch.zeros(1, 3, 2), g, p, query_frame=5, video_frames=5),
            "frame 5 is not in the video of 5 frames",
        ),
        (
            lambda q, g, p: matching_accuracy(
                torch.zeros(1, 9, 2), torch.zeros(1, 9, 2), torch.ones(1, 9) > 0, g, query_frame=[0, 1]
            ),
            "query_frame: expected the number of a video frame, or one for each of the 1 points",
        ),
    ],
)
def test_frames_that_cannot_be_asked_are_refused_by_name(call, message):
    grid = TokenGrid(frames=3, rows=2, cols=2, stride=(8, 8), temporal_ratio=4)
    with pytest.raises(UsageError, match=message):
        call(torch.ones(1, 3, 2, 2, 4), grid, [[1.0, 1.0]])
