"""match and match_features: by construction, against a loop-written reference, and their invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vcorr.functional.blocks as blocks
import vcorr.functional.matching as matching
from vcorr import TokenGrid, UsageError
from vcorr.functional import match, match_features
from vcorr.functional.query_points import locate_queries

fast = settings(max_examples=40, deadline=None, derandomize=True)


def slow_match(q, k, grid, queries, *, symmetric=True, heads="mean", radius=0, scale=None):
    """Follows docs/protocol.md word by word, in float64 loops; (N, F, 2). heads: a list of indices, or "mean"."""
    q, k = q.double().numpy(), k.double().numpy()
    H, F, h, w, d = q.shape
    q, k = q.reshape(H, F, h * w, d), k.reshape(H, F, h * w, d)
    scale = 1 / math.sqrt(d) if scale is None else scale
    sx, sy = grid.stride
    heads = range(H) if heads == "mean" else heads
    centre = [((token % w + 0.5) * sx, (token // w + 0.5) * sy) for token in range(h * w)]
    out = np.empty((len(queries), F, 2))
    for n, (px, py) in enumerate(queries):
        x = min(int(py // sy), h - 1) * w + min(int(px // sx), w - 1)
        out[n, 0] = px, py
        for j in range(1, F):
            cost = np.zeros(h * w)
            for a in heads:
                row = np.exp(np.array([q[a, 0, x] @ k[a, j, y] * scale for y in range(h * w)]))
                cost += row / row.sum()
                if symmetric:
                    for y in range(h * w):
                        column = np.exp(np.array([q[a, j, y] @ k[a, 0, t] * scale for t in range(h * w)]))
                        cost[y] += column[x] / column.sum()
            best = int(cost.argmax())
            near = [y for y in range(h * w) if abs(y // w - best // w) <= radius and abs(y % w - best % w) <= radius]
            total = sum(cost[y] for y in near)
            for axis in range(2):
                landing = sum(cost[y] * centre[y][axis] for y in near) / total
                out[n, j, axis] = queries[n][axis] + landing - centre[x][axis]
    return out


def random_case(seed, H, F, h, w, d, n, stride=(16, 16), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(H, F, h, w, d, generator=generator).to(dtype) for _ in range(2))
    grid = TokenGrid(frames=F, rows=h, cols=w, stride=stride, temporal_ratio=4)
    queries = np.random.default_rng(seed).uniform(0, 1, (n, 2)) * [grid.width, grid.height]
    return q, k, grid, queries.astype(np.float32)


cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 10_000),
        "H": st.integers(1, 3),
        "F": st.integers(1, 3),
        "h": st.integers(1, 4),
        "w": st.integers(1, 5),
        "d": st.integers(1, 6),
        "n": st.integers(0, 6),
        "stride": st.sampled_from([(16, 16), (8, 16), (4.5, 2.0)]),
    }
)


@fast
@given(case=cases, symmetric=st.booleans(), radius=st.integers(0, 2), scale=st.sampled_from([None, 0.3]))
def test_agrees_with_the_loops(case, symmetric, radius, scale):
    q, k, grid, queries = random_case(**case)
    options = {"symmetric": symmetric, "radius": radius, "scale": scale}
    got = match(q, k, grid, queries, **options)
    assert got.shape == (case["n"], case["F"], 2)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), slow_match(q, k, grid, queries, **options), atol=2e-3)


@fast
@given(case=cases, data=st.data(), radius=st.integers(0, 1))
def test_heads(case, data, radius):
    q, k, grid, queries = random_case(**case)
    chosen = data.draw(st.lists(st.integers(0, case["H"] - 1), min_size=1, unique=True))
    got = match(q, k, grid, queries, heads=tuple(chosen), radius=radius).numpy()
    np.testing.assert_allclose(got, slow_match(q, k, grid, queries, heads=chosen, radius=radius), atol=2e-3)
    each = match(q, k, grid, queries, heads="each", radius=radius).numpy()
    assert each.shape == (case["H"], case["n"], case["F"], 2)
    for head in range(case["H"]):
        one = match(q, k, grid, queries, heads=head, radius=radius).numpy()
        np.testing.assert_allclose(each[head], one, atol=1e-3)
        np.testing.assert_allclose(one, slow_match(q, k, grid, queries, heads=[head], radius=radius), atol=2e-3)


@pytest.mark.parametrize("block", [1, 7, 25, 60, 10_000])
@pytest.mark.parametrize("heads", ["mean", "each"])
def test_blocks_do_not_change_the_answer(monkeypatch, block, heads):
    q, k, grid, queries = random_case(3, 4, 3, 4, 5, 8, 30)
    whole = match(q, k, grid, queries, heads=heads, radius=1)
    monkeypatch.setattr(blocks, "BLOCK", block)
    torch.testing.assert_close(match(q, k, grid, queries, heads=heads, radius=1), whole, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("heads", "rows", "cols"), [(1, 0, 5), (3, 4, 5), (30, 1350, 1350), (40, 8160, 8160), (2, 1, 1 << 25)]
)
def test_blocks_cover_everything_once_and_stay_small(heads, rows, cols):
    seen = 0
    for a, r in blocks.blocks(heads, rows, cols):
        pieces = (a.stop - a.start) * (r.stop - r.start)
        seen += pieces
        assert pieces * cols <= max(blocks.BLOCK, cols)
    assert seen == heads * rows


def shift(dx, dy, *, F=3, h=6, w=9, d=32, seed=0):
    """Makes random features that move by (dx, dy) whole tokens per latent; noise enters at the edge."""
    generator = torch.Generator().manual_seed(seed)
    f = torch.nn.functional.normalize(torch.randn(1, F, h, w, d, generator=generator), dim=-1) * 6
    for j in range(1, F):
        for r in range(h):
            for c in range(w):
                if 0 <= r - dy < h and 0 <= c - dx < w:
                    f[:, j, r, c] = f[:, j - 1, r - dy, c - dx]
    return f


@pytest.mark.parametrize("stride", [(16, 16), (8, 12)])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (1, 0), (2, -1), (-1, 1)])
def test_whole_token_motion_is_answered_exactly(stride, symmetric, dx, dy):
    f = shift(dx, dy)
    grid = TokenGrid(frames=3, rows=6, cols=9, stride=stride)
    queries = np.random.default_rng(0).uniform(0, 1, (200, 2)) * [grid.width, grid.height]
    motion = np.arange(3)[:, None] * [dx * stride[0], dy * stride[1]]
    true = queries[:, None] + motion
    inside = ((true >= 0) & (true < [grid.width, grid.height])).all((1, 2))
    queries, true = queries[inside].astype(np.float32), true[inside]
    assert len(queries) > 50
    np.testing.assert_allclose(match(f, f, grid, queries, symmetric=symmetric).numpy(), true, atol=1e-4)
    np.testing.assert_allclose(match_features(f[0], grid, queries).numpy(), true, atol=1e-4)


def test_standing_still_is_bit_exact():
    f = shift(0, 0)
    grid = TokenGrid(frames=3, rows=6, cols=9, stride=(4.7, 9.1))
    queries = (np.random.default_rng(1).uniform(0, 1, (50, 2)) * [grid.width, grid.height]).astype(np.float32)
    expected = np.repeat(queries[:, None], 3, axis=1)
    np.testing.assert_array_equal(match(f, f, grid, queries).numpy(), expected)
    np.testing.assert_array_equal(match_features(f[0], grid, queries).numpy(), expected)


def test_frame_border_belongs_to_the_last_token():
    f = shift(0, 0)
    grid = TokenGrid(frames=3, rows=6, cols=9, stride=(16, 16))
    corners = np.float32([[0, 0], [grid.width, grid.height], [grid.width, 0]])
    np.testing.assert_array_equal(match(f, f, grid, corners).numpy(), np.repeat(corners[:, None], 3, axis=1))


def test_the_softmax_is_per_frame_and_reverse_normalises_over_frame_one():
    # one head of width 1 and tokens on a line, small enough to do by hand
    grid = TokenGrid(frames=2, rows=1, cols=2, stride=(10, 10))
    q = torch.tensor([1.0, 0.0, 0.0, 4.0]).reshape(1, 2, 1, 2, 1)
    k = torch.tensor([1.0, 0.0, 0.4, 0.0]).reshape(1, 2, 1, 2, 1)
    # x = 0: forward (0.6, 0.4) for y = 0, 1; reverse R(y, x) = (0.5, 0.98): together y = 1 wins, one way y = 0 does
    assert match(q, k, grid, [[5, 5]])[0, 1].tolist() == [15, 5]
    assert match(q, k, grid, [[5, 5]], symmetric=False)[0, 1].tolist() == [5, 5]


@fast
@given(case=cases, data=st.data())
def test_queries_do_not_influence_each_other(case, data):
    q, k, grid, queries = random_case(**{**case, "n": 6})
    together = match(q, k, grid, queries, radius=1)
    order = data.draw(st.permutations(range(6)))
    torch.testing.assert_close(match(q, k, grid, queries[order], radius=1), together[list(order)], atol=1e-3, rtol=0)
    alone = torch.cat([match(q, k, grid, queries[n : n + 1], radius=1) for n in range(6)])
    torch.testing.assert_close(alone, together, atol=1e-3, rtol=0)


@pytest.mark.parametrize("block", [7, 60, 10_000])
@pytest.mark.parametrize("variant", ["corrected", "difftrack"])
def test_each_head_and_their_mean_in_one_pass(monkeypatch, block, variant):
    q, k, grid, queries = random_case(14, 3, 3, 4, 5, 8, 20)
    monkeypatch.setattr(blocks, "BLOCK", block)
    points = locate_queries(grid, queries, "cpu", variant=variant)
    both = matching.match_tokens(q, k, grid, points, heads="each", with_mean=True, variant=variant)
    assert both.shape == (4, 20, 3, 2)
    torch.testing.assert_close(both[:-1], match(q, k, grid, queries, heads="each", variant=variant), atol=1e-3, rtol=0)
    torch.testing.assert_close(both[-1], match(q, k, grid, queries, variant=variant), atol=1e-3, rtol=0)


def test_duplicate_queries_get_the_same_answer():
    q, k, grid, queries = random_case(0, 2, 3, 4, 5, 8, 3)
    got = match(q, k, grid, np.repeat(queries, 4, axis=0))
    for copy in range(4):
        assert torch.equal(got[copy::4], got[::4])
    torch.testing.assert_close(got[::4], match(q, k, grid, queries))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_are_computed_in_float32(dtype):
    q, k, grid, queries = random_case(5, 3, 3, 4, 5, 8, 40, dtype=dtype)
    got = match(q, k, grid, queries, radius=1)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, match(q.float(), k.float(), grid, queries, radius=1), atol=1e-3, rtol=0)
    np.testing.assert_allclose(got.numpy(), slow_match(q, k, grid, queries, radius=1), atol=2e-3)
    features = q.permute(1, 2, 3, 0, 4).flatten(3)
    assert torch.equal(match_features(features, grid, queries), match_features(features.float(), grid, queries))


def test_flat_rows_do_not_tie_in_bfloat16():
    # nearly flat correlations, which a softmax in bfloat16 would round to ties at token 0
    q, k, grid, queries = random_case(6, 2, 2, 6, 8, 16, 48, dtype=torch.bfloat16)
    got = match(q * 0.01, k * 0.01, grid, queries)
    np.testing.assert_allclose(got.numpy(), slow_match(q * 0.01, k * 0.01, grid, queries), atol=1e-3)


def test_autocast_changes_nothing():
    q, k, grid, queries = random_case(7, 2, 3, 6, 8, 16, 48)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = match(q, k, grid, queries, radius=1)
    assert torch.equal(inside, match(q, k, grid, queries, radius=1))


def test_inputs_with_gradients_and_strides():
    q, k, grid, queries = random_case(8, 2, 3, 4, 5, 8, 10)
    strided = q.permute(1, 2, 3, 0, 4).contiguous().permute(3, 0, 1, 2, 4).requires_grad_()
    assert not strided.is_contiguous()
    got = match(strided, k, grid, torch.from_numpy(queries))
    assert not got.requires_grad
    torch.testing.assert_close(got, match(q, k, grid, queries))


def test_inputs_are_left_alone():
    q, k, grid, queries = random_case(9, 2, 3, 4, 5, 8, 10)
    before = q.clone(), k.clone(), queries.copy()
    result = match(q, k, grid, queries)
    result += 1
    assert torch.equal(q, before[0])
    assert torch.equal(k, before[1])
    np.testing.assert_array_equal(queries, before[2])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_broken_activations_give_nan_not_a_place(value):
    q, k, grid, queries = random_case(10, 2, 3, 4, 5, 8, 10)
    q = q.clone()
    q[:, 1] = value
    got = match(q, k, grid, queries)
    assert got[:, 1].isnan().all()
    assert got[:, [0, 2]].isfinite().all()


def test_large_radius_is_the_mean_over_the_frame():
    q, k, grid, queries = random_case(11, 1, 2, 4, 5, 8, 10)
    got = match(q * 0, k * 0, grid, queries, radius=99).numpy()
    middle = np.array([grid.width, grid.height]) / 2
    expected = queries + middle - grid.centres[grid.tokens_at(queries)]
    np.testing.assert_allclose(got[:, 1], expected, atol=1e-4)


@pytest.mark.parametrize("radius", [6, 32_768, 10**9])
def test_a_radius_beyond_the_frame_is_the_frame(radius):
    q, k, grid, queries = random_case(11, 1, 2, 4, 5, 8, 10)
    expected = slow_match(q, k, grid, queries, radius=5)
    np.testing.assert_allclose(match(q, k, grid, queries, radius=radius).numpy(), expected, atol=1e-3)


def test_heads_and_radius_as_numpy_counts_them():
    q, k, grid, queries = random_case(11, 3, 2, 4, 5, 8, 10)
    expected = match(q, k, grid, queries, heads=(0, 2))
    assert torch.equal(match(q, k, grid, queries, heads=tuple(np.array([0, 2]))), expected)
    assert torch.equal(match(q, k, grid, queries, heads=np.int64(1)), match(q, k, grid, queries, heads=1))


def test_corners_of_a_frame_whose_tokens_do_not_come_out_even():
    # 22 * (480 / 22) is a little less than 480, and 0.3 in float32 more than 3 * 0.1
    for cols, stride, corner in ((22, (480 / 22, 16), 480.0), (3, (0.1, 16), 0.3)):
        grid = TokenGrid(frames=2, rows=2, cols=cols, stride=stride)
        q = torch.randn(1, 2, 2, cols, 4, generator=torch.Generator().manual_seed(0))
        assert grid.tokens_at([[np.float32(corner), 32]]).tolist() == [2 * cols - 1]
        for variant in ("corrected", "difftrack"):
            assert match(q, q, grid, [[corner, 32.0]], variant=variant).isfinite().all()
        with pytest.raises(UsageError, match="outside the frame"):
            match(q, q, grid, [[corner * (1 + 1e-6), 32.0]])


def test_feature_ties_go_to_the_first_token():
    grid = TokenGrid(frames=2, rows=2, cols=3, stride=(10, 10))
    got = match_features(torch.zeros(2, 2, 3, 4), grid, [[25.0, 15.0]])
    assert got[0, 1].tolist() == [5, 5]


@fast
@given(case=cases)
def test_features_against_the_loops(case):
    q, _, grid, queries = random_case(**case)
    f = q[0]
    flat = f.double().flatten(1, 2).numpy()
    for n, x in enumerate(grid.tokens_at(queries)):
        for j in range(1, case["F"]):
            y = int((flat[j] @ flat[0, x]).argmax())
            expected = queries[n] + grid.centres[y] - grid.centres[x]
            np.testing.assert_allclose(match_features(f, grid, queries)[n, j].numpy(), expected, atol=1e-3)


def test_located_queries_can_be_used_again():
    q, k, grid, queries = random_case(12, 2, 3, 4, 5, 8, 10)
    points = locate_queries(grid, queries, "cpu")
    assert torch.equal(matching.match_tokens(q, k, grid, points), match(q, k, grid, queries))
    assert len(points.tokens) == len(set(grid.tokens_at(queries).tolist()))
    queries[:] = 0
    assert points.xy.any(), "located queries must not change with the caller's array"


def bad(**changes):
    q, k, grid, queries = random_case(13, 2, 3, 4, 5, 8, 4)
    arguments = {"q": q, "k": k, "grid": grid, "queries": queries, **changes}
    options = {name: arguments.pop(name) for name in list(arguments) if name not in ("q", "k", "grid", "queries")}
    return lambda: match(*arguments.values(), **options)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q": torch.zeros(2, 3, 4, 4, 8)}, r"q: expected shape"),
        ({"q": torch.zeros(2, 3, 20, 8)}, r"q: expected shape"),
        ({"q": torch.zeros(2, 3, 4, 5, 8, dtype=torch.int32)}, r"q: expected a floating"),
        ({"q": np.zeros((2, 3, 4, 5, 8))}, r"q: expected a floating"),
        ({"k": np.zeros((2, 3, 4, 5, 8))}, r"k: expected a floating"),
        ({"k": torch.zeros(1, 3, 4, 5, 8)}, r"k: expected q's shape"),
        ({"k": torch.zeros(2, 3, 4, 5, 7)}, r"k: expected q's shape"),
        ({"queries": [[0.0, 65.0]]}, r"queries: .*outside the frame"),
        ({"queries": [[-0.1, 1.0]]}, r"queries: .*outside the frame"),
        ({"queries": [[math.nan, 1.0]]}, r"queries: .*outside the frame"),
        ({"queries": torch.tensor([[math.inf, 1.0]])}, r"queries: .*outside the frame"),
        ({"queries": [0.0, 1.0]}, r"queries: expected shape"),
        ({"queries": np.zeros((2, 3))}, r"queries: expected shape"),
        ({"queries": "here"}, r"queries: expected"),
        ({"heads": 2}, r"heads: 2 is out of range"),
        ({"heads": -1}, r"heads: -1 is out of range"),
        ({"heads": (0, 2)}, r"heads: \(0, 2\) is out of range"),
        ({"heads": ()}, r"heads: expected"),
        ({"heads": (0, 0)}, r"heads: .*twice"),
        ({"heads": True}, r"heads: expected"),
        ({"heads": "max"}, r"heads: expected"),
        ({"radius": -1}, r"radius: expected"),
        ({"radius": 0.5}, r"radius: expected"),
        ({"scale": math.nan}, r"scale: expected"),
        ({"scale": -1.0}, r"scale: expected"),
        ({"scale": 1e39}, r"scale: expected a positive number of float32"),
        ({"variant": "difftrack", "radius": 1}, r"radius: the field read-out"),
        ({"variant": None}, r"Unknown variant 'None'"),
        ({"variant": "correct"}, r"(?s)Unknown variant 'correct'.*corrected.*corrected, difftrack"),
    ],
)
def test_refusals_name_the_argument(changes, message):
    with pytest.raises(UsageError, match=message):
        bad(**changes)()


@pytest.mark.parametrize("f", [torch.zeros(3, 4, 4, 8), torch.zeros(3, 20, 8), torch.zeros(3, 4, 5, 8).int(), [1]])
def test_features_that_do_not_fit(f):
    grid = TokenGrid(frames=3, rows=4, cols=5, stride=(16, 16))
    with pytest.raises(UsageError, match="f: expected"):
        match_features(f, grid, [[1, 1]])
    with pytest.raises(UsageError, match="f: expected"):
        match_features(f, grid, [[1, 1]], variant="difftrack")
