"""Pixels, tokens and latent time: round trips, borders and refusals."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vcorr import TokenGrid, UsageError
from vcorr.contract.geometry import latent_frames

fast = settings(max_examples=80, deadline=None, derandomize=True)
sizes = st.integers(1, 12)
strides = st.sampled_from([(16, 16), (8, 16), (16, 8), (4.5, 2.25), (1, 1)])
spatial = st.builds(lambda h, w, s: TokenGrid(frames=1, rows=h, cols=w, stride=s), sizes, sizes, strides)


@st.composite
def temporal(draw):
    """Draws a grid with any of the three time maps."""
    frames = draw(sizes)
    kind = draw(st.sampled_from(["causal", "plain", "spans"]))
    if kind != "spans":
        return TokenGrid(
            frames=frames, rows=1, cols=1, stride=(8, 8), temporal_ratio=draw(sizes), causal=kind == "causal"
        )
    spans, frame = [], 0
    for _ in range(frames):
        first = frame + draw(st.integers(0, 2))
        last = first + draw(st.integers(0, 8))
        spans.append((first, last))
        frame = last + 1
    return TokenGrid(
        frames=frames, rows=1, cols=1, stride=(8, 8), spans=tuple(spans), video_frames=frame + draw(st.integers(0, 3))
    )


# -------------------------------------------------------------------------------------------------------------- space


@fast
@given(grid=spatial)
def test_centres_are_in_their_own_token(grid):
    assert grid.centres.shape == (grid.tokens_per_frame, 2)
    assert grid.tokens_at(grid.centres).tolist() == list(range(grid.tokens_per_frame))
    assert (grid.height, grid.width) == (grid.rows * grid.stride[1], grid.cols * grid.stride[0])
    assert grid.tokens == grid.frames * grid.tokens_per_frame


@fast
@given(grid=spatial, u=st.floats(0, 1), v=st.floats(0, 1))
def test_every_position_is_within_half_a_stride_of_its_tokens_centre(grid, u, v):
    xy = np.array([u * grid.width, v * grid.height])
    centre = grid.centres[int(grid.tokens_at(xy))]
    assert (np.abs(grid.in_strides(xy - centre)) <= 0.5 + 1e-6).all()


def test_tokens_are_half_open_and_the_far_edges_belong_to_the_last():
    grid = TokenGrid(frames=1, rows=3, cols=4, stride=(8, 16))
    assert grid.tokens_at([[0, 0], [7.99, 15.99]]).tolist() == [0, 0]
    assert grid.tokens_at([[8, 0], [0, 16], [8, 16]]).tolist() == [1, 4, 5]
    assert grid.tokens_at([[32, 0], [0, 48], [32, 48]]).tolist() == [3, 8, 11]
    assert grid.centres[5].tolist() == [12, 24]
    assert grid.token_centres(1, 1).tolist() == [12, 24]
    assert grid.token_centres([0, 2], [[0], [3]]).shape == (2, 2, 2)
    assert grid.in_strides([[4, 4]]).tolist() == [[0.5, 0.25]]


@pytest.mark.parametrize("xy", [[32.01, 1], [1, 48.01], [-0.01, 1], [1, -1], [math.nan, 1], [1, math.inf]])
def test_positions_outside_are_refused(xy):
    grid = TokenGrid(frames=1, rows=3, cols=4, stride=(8, 16))
    with pytest.raises(UsageError, match="1 of 2 positions lie outside the frame"):
        grid.tokens_at([[1, 1], xy])


@pytest.mark.parametrize("xy", [3.0, [1.0, 2.0, 3.0], np.zeros((2, 3))])
def test_positions_of_a_wrong_shape_are_refused(xy):
    with pytest.raises(UsageError, match="shape"):
        TokenGrid(frames=1, rows=3, cols=4, stride=(8, 16)).tokens_at(xy)


# --------------------------------------------------------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("options", "spans"),
    [
        ({"frames": 3, "temporal_ratio": 4}, [(0, 0), (1, 4), (5, 8)]),
        ({"frames": 3, "temporal_ratio": 1}, [(0, 0), (1, 1), (2, 2)]),
        ({"frames": 3, "temporal_ratio": 4, "causal": False}, [(0, 3), (4, 7), (8, 11)]),
        ({"frames": 3, "spans": ((0, 0), (1, 8), (9, 16))}, [(0, 0), (1, 8), (9, 16)]),
        ({"frames": 2, "spans": ((0, 4), (5, 12))}, [(0, 4), (5, 12)]),
        ({"frames": 1, "temporal_ratio": 4}, [(0, 0)]),
    ],
)
def test_time_spans(options, spans):
    grid = TokenGrid(rows=1, cols=1, stride=(8, 8), **options)
    assert [tuple(span) for span in grid.time_spans.tolist()] == spans
    assert grid.latent_times.tolist() == [(first + last) / 2 for first, last in spans]
    assert grid.video_frames == spans[-1][1] + 1


def test_causal_centres_are_the_protocols():
    grid = TokenGrid(frames=13, rows=30, cols=45, stride=(16, 16), temporal_ratio=4)
    assert grid.video_frames == 49
    assert grid.latent_times[1:].tolist() == [4 * j - 1.5 for j in range(1, 13)]


@fast
@given(grid=temporal())
def test_latents_and_frames_round_trip(grid):
    covered = {}
    for latent, (first, last) in enumerate(grid.time_spans.tolist()):
        for frame in range(first, last + 1):
            assert grid.latent_at(frame) == latent
            covered[frame] = latent
    assert max(covered) < grid.video_frames
    if grid.spans is None:
        assert sorted(covered) == list(range(grid.video_frames))
    with pytest.raises(UsageError, match="No latent covers"):
        grid.latent_at(max(covered) + 1)
    with pytest.raises(UsageError, match="No latent covers"):
        grid.latent_at(-1)


@fast
@given(grid=temporal(), video_frames=st.none() | st.integers(1, 60))
def test_time_weights(grid, video_frames):
    weights = grid.time_weights(video_frames)
    assert weights.shape == (video_frames or grid.video_frames, grid.frames)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    times = grid.latent_times
    np.testing.assert_allclose(weights @ times, np.clip(np.arange(len(weights)), times[0], times[-1]), atol=1e-9)


@fast
@given(latents=sizes, ratio=sizes, causal=st.booleans())
def test_latent_frames_is_the_inverse_of_video_frames(latents, ratio, causal):
    grid = TokenGrid(frames=latents, rows=1, cols=1, stride=(8, 8), temporal_ratio=ratio, causal=causal)
    assert latent_frames(grid.video_frames, ratio, causal=causal) == latents


@pytest.mark.parametrize(
    ("frames", "causal", "below", "above"), [(50, True, 49, 53), (2, True, 1, 5), (50, False, 48, 52), (3, False, 4, 8)]
)
def test_latent_frames_names_the_nearest_counts(frames, causal, below, above):
    with pytest.raises(UsageError, match=f"are {below} and {above}"):
        latent_frames(frames, 4, causal=causal)
    for count in (below, above):
        assert latent_frames(count, 4, causal=causal)


# ------------------------------------------------------------------------------------------------------ plain, refused


@fast
@given(grid=st.one_of(temporal(), spatial))
def test_dict_round_trip(grid):
    values = json.loads(json.dumps(grid.to_dict()))
    again = TokenGrid.from_dict(values)
    assert again == grid
    assert hash(again) == hash(grid)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 0}, "frames must be a whole number"),
        ({"rows": -1}, "rows must be"),
        ({"cols": 4.0}, "cols must be"),
        ({"rows": True}, "rows must be"),
        ({"temporal_ratio": 0}, "temporal_ratio must be"),
        ({"video_frames": 0}, "video_frames must be"),
        ({"video_frames": 50}, "they make 49"),
        ({"video_frames": 49, "causal": False}, "they make 52"),
        ({"stride": 16}, "stride must be a pair"),
        ({"stride": (16,)}, "stride must be a pair"),
        ({"stride": (16, 0)}, "positive"),
        ({"stride": (16, math.nan)}, "positive"),
        ({"stride": ("16", 16)}, "positive"),
        ({"spans": ((0, 0), (1, 4))}, "2 spans were given for 13"),
        ({"frames": 2, "spans": ((0, 2), (2, 4))}, "without overlap"),
        ({"frames": 2, "spans": ((3, 4), (0, 1))}, "without overlap"),
        ({"frames": 2, "spans": ((0, 0), (4, 3))}, "without overlap"),
        ({"frames": 1, "spans": ((-1, 0),)}, "from frame 0 on"),
        ({"frames": 1, "spans": (3,)}, "pairs"),
        ({"frames": 1, "spans": ((0, 3.5),)}, "pairs"),
        ({"frames": 2, "spans": ((0, 0), (1, 4)), "video_frames": 4}, "only 4 frames"),
    ],
)
def test_contradictions_are_refused(changes, message):
    options = {"frames": 13, "rows": 30, "cols": 45, "stride": (16, 16), "temporal_ratio": 4, **changes}
    with pytest.raises(UsageError, match=message):
        TokenGrid(**options)


def test_from_dict_refuses_unknown_keys():
    with pytest.raises(UsageError, match="Not a token grid"):
        TokenGrid.from_dict({"frames": 1, "rows": 1, "cols": 1, "stride": [8, 8], "step": 1})


def test_coarser_tokens_cover_the_same_pixels():
    grid = TokenGrid(frames=3, rows=4, cols=6, stride=(8, 16), temporal_ratio=4)
    coarse = grid.coarser(2)
    assert coarse == TokenGrid(frames=3, rows=2, cols=3, stride=(16, 32), temporal_ratio=4)
    assert (coarse.width, coarse.height, coarse.video_frames) == (grid.width, grid.height, grid.video_frames)
    assert grid.coarser(1) == grid
    with pytest.raises(UsageError, match="4 x 6 tokens do not divide"):
        grid.coarser(3)
