"""Fused matching, in Triton's interpreter, finds the tokens that float64 and plain torch find."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import kernel_cases as cases
from support.head_shares import play
from support.kernel_cases import SIZES, Case, correlate

from vcorr.contract.variants import CORRECTED, Switches
from vcorr.functional import match, match_features, matching
from vcorr.functional.matching import Reading, match_readings
from vcorr.functional.query_points import locate_queries
from vcorr.kernels.kernel_choice import use_kernels
from vcorr.kernels.paths_used import forget_paths, paths_used
from vcorr.kernels.token_sums import merge_tokens, sum_frames

few = settings(max_examples=5, deadline=None, derandomize=True)
# NumPy warns where a GPU computes NaN and infinity in silence
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def fuse(function, *arguments, **options):
    with use_kernels("fused"):
        return function(*arguments, **options)


@few
@given(sizes=SIZES, symmetric=st.booleans())
def test_the_best_token_is_the_one_of_float64(sizes, symmetric):
    case = Case.draw(**sizes)
    xy = fuse(match, case.q, case.k, case.grid, case.points, symmetric=symmetric).numpy()
    own = case.grid.tokens_at(case.points)
    for frame in range(1, case.grid.frames):
        cost = correlate(case, frame, symmetric=symmetric).mean(0)[own].numpy()
        moved = xy[:, frame] - case.points + case.grid.centres[own]
        found = case.grid.tokens_at(moved.astype(np.float32))
        best = cost.max(-1)
        # equal, or so close that float32 may swap them
        assert (cost[np.arange(len(own)), found] >= best * (1 - 1e-5)).all()


@few
@given(sizes=SIZES, heads=st.sampled_from(["mean", "each", 0]), symmetric=st.booleans())
def test_positions_equal_plain_torch(sizes, heads, symmetric):
    case = Case.draw(**sizes)
    options = {"heads": heads, "symmetric": symmetric}
    expected = match(case.q, case.k, case.grid, case.points, **options)
    torch.testing.assert_close(fuse(match, case.q, case.k, case.grid, case.points, **options), expected)


def test_two_chosen_heads_and_a_later_query_frame():
    case = Case.draw(seed=3, heads=3, frames=3, rows=3, cols=4, width=8, points=5)
    options = {"heads": (0, 2), "query_frame": 5}
    expected = match(case.q, case.k, case.grid, case.points, **options)
    torch.testing.assert_close(fuse(match, case.q, case.k, case.grid, case.points, **options), expected)


@pytest.mark.parametrize(("radius", "heads"), [(1, "each"), (3, "mean")])
def test_the_refined_position_is_the_weighted_mean_of_plain_torch(radius, heads):
    case = Case.draw(seed=5, heads=2, frames=2, rows=4, cols=5, width=17, points=3)
    options = {"radius": radius, "heads": heads}
    expected = match(case.q, case.k, case.grid, case.points, **options)
    torch.testing.assert_close(fuse(match, case.q, case.k, case.grid, case.points, **options), expected)


def test_each_head_and_the_mean_come_from_one_pass_and_readings_share_sums():
    case = Case.draw(seed=6, heads=2, frames=2, rows=3, cols=5, width=8, points=4)
    field = Switches(readout="field")
    readings = [Reading(locate_queries(case.grid, case.points, "cpu", variant=v), v) for v in (CORRECTED, field)]
    got = fuse(match_readings, case.q, case.k, case.grid, readings, heads="each", with_mean=True)
    for found, expected in zip(
        got, match_readings(case.q, case.k, case.grid, readings, heads="each", with_mean=True), strict=True
    ):
        assert found.shape[0] == 3
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("width", [200, 256])
def test_wide_heads(width):
    case = Case.draw(seed=7, heads=1, frames=2, rows=2, cols=9, width=width, points=4, dtype=torch.bfloat16)
    expected = match(case.q, case.k, case.grid, case.points)
    torch.testing.assert_close(fuse(match, case.q, case.k, case.grid, case.points), expected)


def test_a_tensor_matched_with_itself_shares_its_products():
    case = Case.draw(seed=8, heads=2, frames=2, rows=5, cols=7, width=8, points=20)
    expected = match(case.k, case.k, case.grid, case.points)
    assert not torch.equal(expected, match(case.k, case.k, case.grid, case.points, symmetric=False))
    torch.testing.assert_close(fuse(match, case.k, case.k, case.grid, case.points), expected)


@pytest.mark.parametrize("sign", [1, -1])
def test_features_by_raw_products(sign):
    case = Case.draw(seed=9, heads=1, frames=2, rows=5, cols=8, width=130, points=6, dtype=torch.bfloat16)
    f = case.q[0].abs()
    f[1:] *= sign  # -1: every product is negative
    expected = match_features(f, case.grid, case.points)
    assert torch.equal(fuse(match_features, f, case.grid, case.points), expected)


@pytest.mark.parametrize(("width", "layout"), [(8, "heads first"), (17, "heads first"), (8, "heads last")])
def test_features_of_several_heads_are_read_where_they_lie(width, layout, monkeypatch):
    case = Case.draw(seed=14, heads=3, frames=3, rows=5, cols=8, width=width, points=6, layout=layout)
    points = locate_queries(case.grid, case.points, "cpu")
    expected = match_features(matching.join_heads(case.q), case.grid, case.points)
    assert torch.equal(matching.match_joined_heads(case.q, case.grid, points), expected)
    monkeypatch.setattr(matching, "join_heads", lambda out: pytest.fail("the heads were copied"))
    torch.testing.assert_close(fuse(matching.match_joined_heads, case.q, case.grid, points), expected)


def test_features_of_several_heads_stay_plain_under_difftrack():
    case = Case.draw(seed=15, heads=2, frames=2, rows=3, cols=4, width=8, points=4)
    points = locate_queries(case.grid, case.points, "cpu", variant="difftrack")
    expected = match_features(matching.join_heads(case.q), case.grid, case.points, variant="difftrack")
    got = fuse(matching.match_joined_heads, case.q, case.grid, points, variant="difftrack")
    assert torch.equal(got, expected)


@pytest.mark.parametrize("function", ["softmax", "products"])
def test_the_lowest_of_equal_tokens_wins(function):
    case = Case.draw(seed=10, heads=2, frames=2, rows=5, cols=8, width=8, points=4)
    for part in (case.q, case.k):
        part.round_()  # small whole numbers: no order of adding rounds their products
        part[:, 1] = part[:, 1, :1, :1]
    call = (match, case.q, case.k) if function == "softmax" else (match_features, case.k[0])
    xy = fuse(*call, case.grid, case.points)
    first, own = case.grid.centres[0], case.grid.centres[case.grid.tokens_at(case.points)]
    np.testing.assert_allclose(xy[:, 1], case.points + first - own, atol=1e-4)


def test_a_later_score_far_above_the_first_tile_restarts_the_sum():
    tokens = torch.zeros(1, 2, 80, 4)
    tokens[:, :, 1] = 100.0  # the first tile of the kernel is the last one of the frame, where all scores are 0
    sums = sum_frames(tokens, tokens, own=0, scale=1.0)
    expected = torch.logsumexp((tokens[:, 0] @ tokens[:, 1].mT).double(), -1) / math.log(2)
    torch.testing.assert_close(sums[:, 0].double(), expected, rtol=1e-5, atol=1e-5)
    assert expected.max() > 50_000


@pytest.mark.parametrize("where", ["query token", "target frame"])
def test_nan_reaches_the_positions_that_depend_on_it(where):
    case = Case.draw(seed=11, heads=2, frames=3, rows=3, cols=4, width=8, points=6)
    if where == "query token":
        case.q[0, 0].view(-1, 8)[case.grid.tokens_at(case.points)[0]] = math.nan
    else:
        case.k[1, 2, 1, 1, 0] = math.nan
    expected = match(case.q, case.k, case.grid, case.points)
    assert 0 < expected.isnan().sum() < expected.numel() / 2
    torch.testing.assert_close(fuse(match, case.q, case.k, case.grid, case.points), expected, equal_nan=True)


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinite_key_leaves_the_other_queries_their_positions(value):
    case = Case.draw(seed=13, heads=2, frames=3, rows=5, cols=8, width=8, points=6)
    case.k[0, 0].view(-1, 8)[case.grid.tokens_at(case.points)[0], 0] = value
    expected = match(case.q, case.k, case.grid, case.points)
    assert not expected.isnan().all()
    torch.testing.assert_close(fuse(match, case.q, case.k, case.grid, case.points), expected, equal_nan=True)


def test_tokens_too_far_apart_for_32_bits_are_copied():
    far = torch.empty_strided((1, 2, 1, 3, 8), (8, 1 << 33, 1 << 33, 1 << 30, 1), device="meta")
    near = torch.empty_strided((1, 2, 1, 3, 8), (8, 1 << 33, 1 << 33, 1 << 29, 1), device="meta")
    assert merge_tokens(far).stride(2) == 8
    assert merge_tokens(near).stride(2) == 1 << 29


def test_difftrack_stays_plain_and_is_equal_to_the_bit():
    case = Case.draw(seed=12, heads=2, frames=2, rows=3, cols=4, width=8, points=4)
    expected = match(case.q, case.k, case.grid, case.points, variant="difftrack")
    assert torch.equal(fuse(match, case.q, case.k, case.grid, case.points, variant="difftrack"), expected)


def test_tokens_are_copied_only_if_their_channels_are_scattered():
    tensor = torch.randn(2, 2, 3, 4, 8)
    shared = {
        layout: merge_tokens(laid := cases.lay_out(tensor, layout)).data_ptr() == laid.data_ptr()
        for layout in ("heads first", "heads last", "scattered")
    }
    assert shared == {"heads first": True, "heads last": True, "scattered": False}


@pytest.mark.parametrize(("latent", "symmetric"), [(0, False), (1, True)])
def test_processes_that_share_the_heads_add_up_rows_that_the_kernels_write(latent, symmetric):
    case = Case.draw(seed=16, heads=4, frames=3, rows=3, cols=5, width=8, points=5, dtype=torch.bfloat16)
    located = [locate_queries(case.grid, case.points, "cpu", query_frame=4 * latent) for _ in range(2)]
    readings = [Reading(points) for points in located]  # the second one has the sums of the first
    expected = match_readings(case.q, case.k, case.grid, readings, symmetric=symmetric, radius=1)

    def match_own(share):
        q, k = share.take(case.q), share.take(case.k)
        return match_readings(q, k, case.grid, readings, symmetric=symmetric, radius=1, share=share)

    forget_paths()
    played = fuse(play, 2, match_own)
    assert paths_used() == {"fused"}
    plain = play(2, match_own)
    torch.testing.assert_close(played.sums, plain.sums)
    for found in played.results:
        torch.testing.assert_close(found, expected)
