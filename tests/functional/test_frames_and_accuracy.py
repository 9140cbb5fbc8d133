"""latent_to_frames and matching_accuracy on tensors, and what the package exports."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vcorr.functional as functional
from vcorr import TokenGrid, UsageError
from vcorr.functional import latent_to_frames, match, matching_accuracy
from vcorr.metrics import accuracy, to_frames

fast = settings(max_examples=40, deadline=None, derandomize=True)

GRIDS = [
    TokenGrid(frames=13, rows=2, cols=3, stride=(16, 16), temporal_ratio=4),
    TokenGrid(frames=5, rows=2, cols=3, stride=(8, 16)),
    TokenGrid(frames=22, rows=2, cols=3, stride=(8, 8), temporal_ratio=4, causal=False),
    TokenGrid(frames=4, rows=2, cols=3, stride=(8, 8), spans=((0, 0), (1, 8), (9, 16), (17, 24))),
    TokenGrid(frames=3, rows=2, cols=3, stride=(8, 8), spans=((0, 4), (7, 8), (9, 9)), video_frames=14),
    TokenGrid(frames=1, rows=2, cols=3, stride=(8, 8)),
    TokenGrid(frames=1, rows=2, cols=3, stride=(8, 8), temporal_ratio=4, causal=False),
]


def slow_frames(xy, grid, queries, video_frames):
    out = np.empty((len(xy), video_frames, 2))
    for n in range(len(xy)):
        for axis in range(2):
            out[n, :, axis] = np.interp(np.arange(video_frames), grid.latent_times, xy[n, :, axis])
        out[n, 0] = queries[n]
    return out


@pytest.mark.parametrize("video_frames", [None, 1, 7, 60])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_latent_to_frames_against_np_interp(grid, video_frames):
    xy = np.random.default_rng(0).uniform(0, 40, (5, grid.frames, 2)).astype(np.float32)
    queries = np.random.default_rng(1).uniform(0, 20, (5, 2)).astype(np.float32)
    got = latent_to_frames(torch.from_numpy(xy), grid, torch.from_numpy(queries), video_frames=video_frames)
    frames = video_frames or grid.video_frames
    assert got.shape == (5, frames, 2)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), slow_frames(xy, grid, queries, frames), atol=1e-4)
    np.testing.assert_array_equal(got[:, 0].numpy(), queries)
    np.testing.assert_allclose(to_frames(xy, grid, queries, video_frames=video_frames), got.numpy(), atol=1e-5)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_standing_still_stays_exact_through_the_time_map(grid):
    queries = np.random.default_rng(2).uniform(0, 16, (30, 2)).astype(np.float32)
    still = np.repeat(queries[:, None], grid.frames, axis=1)
    expected = np.repeat(queries[:, None], grid.video_frames, axis=1)
    np.testing.assert_array_equal(latent_to_frames(still, grid, queries).numpy(), expected)
    np.testing.assert_array_equal(to_frames(still, grid, queries), expected)


def test_leading_axes_and_half_precision():
    grid, generator = GRIDS[0], torch.Generator().manual_seed(0)
    xy = torch.rand(2, 3, 4, 13, 2, generator=generator)
    queries = torch.rand(4, 2, generator=generator)
    got = latent_to_frames(xy, grid, queries)
    assert got.shape == (2, 3, 4, 49, 2)
    torch.testing.assert_close(got[1, 2], latent_to_frames(xy[1, 2], grid, queries))
    assert latent_to_frames(xy.bfloat16(), grid, queries).dtype == torch.float32


def test_latents_between_frames_are_met_at_their_centre():
    grid = TokenGrid(frames=3, rows=1, cols=1, stride=(8, 8), temporal_ratio=3)  # centres 0, 2, 5
    got = latent_to_frames([[[0, 0], [4, 2], [10, 2]]], grid, [[0, 0]])
    assert got[0, :, 0].tolist() == [0, 2, 4, 6, 8, 10, 10]


def test_a_missing_latent_reaches_only_the_frames_beside_it():
    grid = TokenGrid(frames=4, rows=1, cols=1, stride=(8, 8), temporal_ratio=3)  # centres 0, 2, 5, 8
    xy = np.zeros((1, 4, 2), dtype=np.float32)
    xy[0, 2] = np.nan
    for tracks in (latent_to_frames(xy, grid, [[0, 0]]).numpy(), to_frames(xy, grid, [[0, 0]])):
        assert np.flatnonzero(np.isnan(tracks[0, :, 0])).tolist() == [3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.zeros((2, 12, 2)), GRIDS[0], np.zeros((2, 2))), {}, "xy: expected shape"),
        ((np.zeros((3, 13, 2)), GRIDS[0], np.zeros((2, 2))), {}, "xy: expected shape"),
        ((np.zeros((13, 2)), GRIDS[0], np.zeros((2, 2))), {}, "xy: expected shape"),
        ((np.zeros((2, 13, 2)), GRIDS[0], np.zeros((2, 3))), {}, "queries: expected shape"),
        ((np.zeros((2, 13, 2)), GRIDS[0], torch.zeros(2)), {}, "queries: expected shape"),
        ((np.zeros((2, 13, 2)), GRIDS[0], np.zeros((2, 2))), {"video_frames": 0}, "video_frames"),
        ((np.zeros((2, 13, 2)), GRIDS[0], np.zeros((2, 2))), {"variant": "stretched"}, "Unknown variant"),
    ],
)
def test_latent_to_frames_refusals(arguments, options, message):
    with pytest.raises(UsageError, match=message):
        latent_to_frames(*arguments, **options)


@fast
@given(seed=st.integers(0, 10_000), moving=st.booleans(), threshold=st.sampled_from([None, 6.0]))
def test_accuracy_of_tensors_is_accuracy_of_arrays(seed, moving, threshold):
    generator = np.random.default_rng(seed)
    grid = TokenGrid(frames=6, rows=4, cols=4, stride=(8, 16))
    reference = generator.uniform(0, 32, (5, 6, 2)).astype(np.float32)
    tracks = reference + generator.normal(0, 5, reference.shape).astype(np.float32)
    visible = generator.random((5, 6)) < 0.7
    options = {"moving": moving, "threshold": threshold}
    expected = accuracy(tracks, reference, visible, grid, **options).value
    tensors = (torch.from_numpy(array) for array in (tracks, reference, visible))
    np.testing.assert_equal(matching_accuracy(*tensors, grid, **options), expected)
    np.testing.assert_equal(matching_accuracy(tracks, reference, visible, grid, **options), expected)
    assert isinstance(expected, float)


def test_the_whole_way_on_a_known_motion():
    generator = torch.Generator().manual_seed(0)
    field = torch.nn.functional.normalize(torch.randn(8, 12 + 4, 64, generator=generator), dim=-1) * 8
    f = torch.stack([field[:, 4 - 2 * j : 16 - 2 * j] for j in range(3)])[None]  # two tokens to the right a latent
    grid = TokenGrid(frames=3, rows=8, cols=12, stride=(16, 16), temporal_ratio=4)
    queries = np.random.default_rng(0).uniform([0, 0], [grid.width - 65, grid.height], (40, 2)).astype(np.float32)
    motion = np.interp(np.arange(9), grid.latent_times, [0, 32, 64])
    reference = queries[:, None] + np.stack([motion, 0 * motion], axis=-1)[None]
    tracks = latent_to_frames(match(f, f, grid, queries), grid, queries)
    assert matching_accuracy(tracks, reference, np.ones((40, 9), bool), grid) == 1.0
    assert matching_accuracy(tracks, reference, np.ones((40, 9), bool), grid, moving=True) == 1.0


@fast
@given(
    seed=st.integers(0, 10_000),
    frames=st.integers(2, 4),
    size=st.tuples(st.integers(2, 5), st.integers(2, 5)),
    stride=st.sampled_from([(16, 16), (8, 24)]),
    causal=st.booleans(),
    share=st.floats(0, 1),
    moved=st.sampled_from([0.25, 0.75]),
)
def test_a_known_warp_scores_one_and_moved_pairs_cost_exactly_their_share(
    seed, frames, size, stride, causal, share, moved
):
    # any warp of whole tokens: every frame shows the tokens of the first in an order of its own
    generator = np.random.default_rng(seed)
    grid = TokenGrid(frames=frames, rows=size[0], cols=size[1], stride=stride, temporal_ratio=4, causal=causal)
    tokens = grid.tokens_per_frame
    places = np.stack([np.arange(tokens), *(generator.permutation(tokens) for _ in range(frames - 1))])
    f = torch.zeros(1, frames, tokens, tokens)
    for j, place in enumerate(places):
        f[0, j, place] = 9 * torch.eye(tokens)
    queries = generator.uniform(0, [grid.width, grid.height], (20, 2)).astype(np.float32)
    start = grid.tokens_at(queries)
    latent = queries[:, None] + grid.centres[places[:, start]].transpose(1, 0, 2) - grid.centres[start][:, None]
    reference = slow_frames(latent, grid, queries, grid.video_frames)
    f = f.unflatten(2, (grid.rows, grid.cols))
    tracks = latent_to_frames(match(f, f, grid, queries), grid, queries).double().numpy()
    visible = np.ones(tracks.shape[:2], dtype=bool)
    assert matching_accuracy(tracks, reference, visible, grid) == 1.0
    # a distance in strides along any direction; only the later frames count
    wrong = generator.random((20, grid.video_frames - 1)) < share
    angle = generator.uniform(0, 2 * np.pi, wrong.shape)
    offset = moved * np.stack([np.cos(angle), np.sin(angle)], axis=-1) * stride
    tracks[:, 1:] += np.where(wrong[..., None], offset, 0.0)
    expected = 1.0 if moved < 0.5 else 1.0 - wrong.mean()
    assert matching_accuracy(tracks, reference, visible, grid) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tracks": np.zeros((2, 4, 2))}, "tracks: expected the reference's shape"),
        ({"tracks": "tracks"}, "tracks: expected numbers"),
        ({"reference": np.zeros((2, 3))}, "reference: expected shape"),
        ({"reference": np.full((2, 3, 2), np.nan)}, "reference: NaN"),
        ({"visible": np.ones((2, 4), bool)}, "visible: expected bool"),
        ({"visible": torch.ones(2, 3)}, "visible: expected bool"),
        ({"threshold": 0}, "threshold: expected"),
        ({"threshold": float("nan")}, "threshold: expected"),
        ({"variant": "diftrack"}, "Did you mean 'difftrack'"),
    ],
)
def test_accuracy_refusals(changes, message):
    arguments = {"tracks": np.zeros((2, 3, 2)), "reference": np.zeros((2, 3, 2)), "visible": np.ones((2, 3), bool)}
    grid = TokenGrid(frames=3, rows=4, cols=4, stride=(8, 16))
    with pytest.raises(UsageError, match=message):
        matching_accuracy(**{"grid": grid, **arguments, **changes})


@pytest.mark.parametrize(
    ("name", "positional", "keywords"),
    [
        (
            "match",
            "q k grid queries",
            {"query_frame": 0, "variant": "corrected", "symmetric": True, "heads": "mean", "radius": 0, "scale": None},
        ),
        ("match_features", "f grid queries", {"query_frame": 0, "variant": "corrected"}),
        ("latent_to_frames", "xy grid queries", {"query_frame": 0, "variant": "corrected", "video_frames": None}),
        (
            "matching_accuracy",
            "tracks reference visible grid",
            {"query_frame": 0, "variant": "corrected", "threshold": None, "moving": False},
        ),
        ("attention_rows", "q k k_text grid queries", {"query_frame": 0, "variant": "corrected", "key_mask": None}),
        ("confidence_score", "rows visible grid", {"query_frame": 0, "variant": "corrected"}),
        ("attention_score", "rows visible", {"query_frame": 0, "variant": "corrected"}),
        ("harmonic_mean", "accuracy confidence attention", {"variant": "corrected"}),
        ("tapvid", "query_points_tyx occluded tracks pred_occluded pred_tracks", {"mode": inspect.Parameter.empty}),
        (
            "cross_frame_attention",
            "q k v grid n_text",
            {"text_first": True, "variant": "corrected", "key_mask": None, "scale": None},
        ),
    ],
)
def test_signatures_are_the_contract(name, positional, keywords):
    parameters = inspect.signature(getattr(functional, name)).parameters.values()
    assert [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD] == positional.split()
    assert {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY} == keywords


def test_rows_are_the_contract():
    fields = "peak_cross peak_self peak_text sum_cross sum_self sum_text"
    assert list(functional.AttentionRows._fields) == fields.split()


@pytest.mark.parametrize("video_frames", [None, 1, 7, 60])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_stretched_time_against_torch_interpolate(grid, video_frames):
    xy = torch.rand(5, grid.frames, 2, generator=torch.Generator().manual_seed(0)) * 100
    frames = video_frames or grid.video_frames
    expected = torch.nn.functional.interpolate(xy.mT, size=frames, mode="linear", align_corners=False).mT
    got = latent_to_frames(xy, grid, xy[:, 0], variant="difftrack", video_frames=video_frames)
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=0)
    arrays = to_frames(xy.numpy(), grid, xy[:, 0].numpy(), variant="difftrack", video_frames=video_frames)
    np.testing.assert_allclose(arrays, expected.numpy(), atol=1e-3)


@fast
@given(seed=st.integers(0, 10_000), moving=st.booleans(), threshold=st.sampled_from([None, 6.0]))
def test_difftrack_accuracy_pools_everything(seed, moving, threshold):
    generator = np.random.default_rng(seed)
    grid = TokenGrid(frames=6, rows=4, cols=4, stride=(8, 16))
    reference = generator.uniform(0, 32, (5, 6, 2))
    tracks = reference + generator.normal(0, 5, reference.shape)
    tracks[:, 0] = reference[:, 0]
    visible = generator.random((5, 6)) < 0.7
    reference[~visible] = np.nan
    reference[~visible[:, 0], 0] = np.inf
    hits = []
    for n, t in zip(*np.nonzero(visible), strict=True):
        moved = reference[n, t] - reference[n, 0]
        if moving and not np.hypot(moved[0] / 8, moved[1] / 16) > 1:
            continue
        dx, dy = tracks[n, t] - reference[n, t]
        hits.append(np.hypot(dx / 8, dy / 16) < 0.5 if threshold is None else np.hypot(dx, dy) < threshold)
    got = matching_accuracy(tracks, reference, visible, grid, variant="difftrack", moving=moving, threshold=threshold)
    np.testing.assert_allclose(got, np.mean(hits) if hits else np.nan)
