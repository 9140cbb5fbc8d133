"""The floor, the ceiling, and that no prediction of the read-out beats the ceiling at the latent times."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import TokenGrid, UsageError
from vcorr.functional import match
from vcorr.metrics import accuracy, ceiling_tracks, token_oracle, zero_motion

fast = settings(max_examples=60, deadline=None, derandomize=True)

grids = st.builds(
    lambda frames, rows, cols, stride, ratio, causal: TokenGrid(
        frames=frames, rows=rows, cols=cols, stride=stride, temporal_ratio=ratio, causal=causal
    ),
    frames=st.integers(1, 4),
    rows=st.integers(1, 5),
    cols=st.integers(1, 6),
    stride=st.sampled_from([(16, 16), (8, 24), (5.5, 2.0)]),
    ratio=st.integers(1, 4),
    causal=st.booleans(),
)


def random_walk(seed, grid, points=6):
    generator = np.random.default_rng(seed)
    queries = (generator.uniform(0, 1, (points, 2)) * [grid.width, grid.height]).astype(np.float32)
    steps = generator.normal(0, 0.4, (points, grid.video_frames, 2)) * grid.stride
    steps[:, 0] = 0
    return queries, queries[:, None] + steps.cumsum(axis=1)


def latent_reference(reference, grid):
    """Returns the reference at the latent times, by np.interp; the query in latent 0."""
    frames = np.arange(grid.video_frames)
    out = np.stack(
        [
            np.stack([np.interp(grid.latent_times, frames, track[:, axis]) for axis in range(2)], axis=-1)
            for track in reference
        ]
    )
    out[:, 0] = reference[:, 0]
    return out


def test_zero_motion_stays():
    queries = np.float32([[1, 2], [3, 4]])
    still = zero_motion(queries, 3)
    assert still.shape == (2, 3, 2)
    assert still.dtype == np.float32
    assert (still == queries[:, None]).all()


@fast
@given(grid=grids, seed=st.integers(0, 10_000))
def test_token_oracle_is_the_nearest_reachable_position(grid, seed):
    queries, reference = random_walk(seed, grid)
    oracle = token_oracle(reference, queries, grid)
    assert oracle.shape == (6, grid.frames, 2)
    np.testing.assert_array_equal(oracle[:, 0], queries)
    target = latent_reference(reference, grid)
    for n in range(6):
        start = grid.centres[grid.tokens_at(queries[n])]
        reachable = queries[n] + grid.centres - start
        for j in range(1, grid.frames):
            for unit in (np.array(grid.stride), 1.0):  # nearest in strides and in pixels
                distances = np.linalg.norm((reachable - target[n, j]) / unit, axis=-1)
                got = np.linalg.norm((oracle[n, j] - target[n, j]) / unit)
                np.testing.assert_allclose(got, distances.min(), atol=1e-4)
            assert np.abs(reachable - oracle[n, j]).sum(-1).min() < 1e-3


@fast
@given(grid=grids, seed=st.integers(0, 10_000))
def test_free_oracle_is_the_reference(grid, seed):
    queries, reference = random_walk(seed, grid)
    oracle = token_oracle(reference, queries, grid, readout="free")
    expected = latent_reference(reference, grid)
    expected[:, 0] = queries
    np.testing.assert_allclose(oracle, expected, atol=1e-3)


@fast
@given(grid=grids, seed=st.integers(0, 10_000), moving=st.booleans())
def test_no_match_beats_the_token_oracle_at_latent_times(grid, seed, moving):
    queries, reference = random_walk(seed, grid)
    generator = torch.Generator().manual_seed(seed)
    f = torch.randn(1, grid.frames, grid.rows, grid.cols, 4, generator=generator)
    target = latent_reference(reference, grid)
    seen = np.ones(target.shape[:2], dtype=bool)
    oracle, answer = (
        accuracy(tracks, target, seen, grid, moving=moving).value
        for tracks in (token_oracle(reference, queries, grid), match(f, f, grid, queries).numpy())
    )
    assert np.isnan(oracle) or oracle >= answer


def test_whole_token_motion_has_a_ceiling_of_one():
    grid = TokenGrid(frames=4, rows=6, cols=10, stride=(8, 16), temporal_ratio=4)
    queries = np.float32([[3.3, 20.1], [17.9, 40.0], [30.5, 95.9]])
    motion = np.interp(np.arange(13), grid.latent_times, [0, 1, 3, 4])[:, None] * [8, -16]
    reference = queries[:, None] + motion
    inside = (reference >= 0).all((1, 2))
    seen = np.ones((3, 13), dtype=bool)
    assert inside.tolist() == [False, False, True]
    ceiling = ceiling_tracks(reference[2:], queries[2:], grid)
    np.testing.assert_allclose(ceiling, reference[2:], atol=1e-4)
    assert accuracy(ceiling, reference[2:], seen[2:], grid).value == 1.0
    left = ceiling_tracks(reference[:2], queries[:2], grid)  # the grid ends above them: the oracle stays on it
    assert accuracy(left, reference[:2], seen[:2], grid).value < 1.0
    assert accuracy(ceiling_tracks(reference, queries, grid, readout="free"), reference, seen, grid).value == 1.0


def test_oracle_fills_frames_without_a_position():
    grid = TokenGrid(frames=5, rows=4, cols=10, stride=(8, 8))
    queries = np.float32([[4, 4], [12, 12]])
    reference = np.full((2, 5, 2), np.nan)
    reference[0, [0, 2, 3]] = [[4, 4], [20, 4], [28, 4]]
    oracle = token_oracle(reference, queries, grid)
    assert oracle[0, :, 0].tolist() == [4, 12, 20, 28, 28]
    np.testing.assert_array_equal(oracle[1], zero_motion(queries, 5)[1])


def test_oracle_refusals():
    grid = TokenGrid(frames=3, rows=4, cols=4, stride=(8, 8), temporal_ratio=4)
    with pytest.raises(UsageError, match="reference: expected shape"):
        token_oracle(np.zeros((2, 3, 2)), np.zeros((2, 2)), grid)
    with pytest.raises(UsageError, match="outside the frame"):
        token_oracle(np.zeros((1, 9, 2)), [[40, 1]], grid)
    with pytest.raises(UsageError, match="readout"):
        token_oracle(np.zeros((1, 9, 2)), [[1, 1]], grid, readout="tokens")
