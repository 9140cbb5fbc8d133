"""Correlations of one frame with several others, both ways, against float64 written out frame by frame."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.kernel_cases import Case, lay_out
from torch.utils._python_dispatch import TorchDispatchMode

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.variants import CORRECTED, DIFFTRACK_TAPVID
from vcorr.functional import landing, paired_tokens
from vcorr.functional.token_costs import MatchedTokens, NearestTokens, pair_frames
from vcorr.kernels import device_rows, kernel_choice
from vcorr.kernels.kernel_choice import Choice, FusedWarning, use_kernels
from vcorr.kernels.paths_used import forget_paths, paths_used

# NumPy warns where a GPU computes NaN and infinity in silence
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

KINDS = {"both ways": (False, True), "one way": (False, False), "with itself": (True, True)}
"""Whether tokens match themselves, and whether C has a reverse softmax."""


def draw(kind, *, seed=0, sites=1, frames=5, rows=3, cols=4, width=8, dtype=torch.float32, layout="heads first"):
    """Returns what layers match, with two heads."""
    same, symmetric = KINDS[kind]
    found = []
    for site in range(sites):
        case = Case.draw(
            seed=seed + site,
            heads=2,
            frames=frames,
            rows=rows,
            cols=cols,
            width=width,
            points=1,
            dtype=dtype,
            layout=layout,
        )
        found.append(MatchedTokens(case.q, case.q if same else case.k, 0.4, symmetric))
    return found


def correlate(costs, token, source, target):
    """Returns C of one token with a frame in float64, (P,): the mean over sites, heads and directions."""
    total = []
    for each in costs:
        left, right = (tensor.double().flatten(2, 3) for tensor in (each.left, each.right))
        for head in range(len(left)):
            there = (left[head, source] @ right[head, target].T * each.scale).softmax(1)[token]
            back = (left[head, target] @ right[head, source].T * each.scale).softmax(1)[:, token]
            total.append((there + back) / 2 if each.symmetric else there)
    return torch.stack(total).mean(0)


def check(costs, source, targets, tokens, back, *, both=True, rtol=1e-5):
    """Compares rows, and the way back if it is asked for, with float64, token by token."""
    pairs = pair_frames(costs, source, targets, both=both)
    rows = pairs.rows(tokens)
    assert rows.shape[:2] == (len(targets), len(tokens))
    for j, target in enumerate(targets):
        for u, token in enumerate(tokens.tolist()):
            expected = correlate(costs, token, source, target)
            torch.testing.assert_close(rows[j, u].double(), expected, rtol=rtol, atol=1e-7)
    if both:
        found = pairs.back_rows(back)
        for j, target in enumerate(targets):
            for u, token in enumerate(back[j].tolist()):
                expected = correlate(costs, token, target, source)
                torch.testing.assert_close(found[j, u].double(), expected, rtol=rtol, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("sites", [1, 2])
@pytest.mark.parametrize(("source", "targets"), [(0, [1, 2, 3]), (0, [4, 1]), (3, [0, 2, 4])])
def test_rows_and_the_way_back_are_those_of_float64(kind, both, sites, source, targets):
    back = torch.tensor([[0, 5, 11], [3, 3, 7], [10, 1, 2]])[: len(targets)]
    check(draw(kind, sites=sites), source, targets, torch.tensor([2, 3, 9]), back, both=both)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block", [1, 30, 100, 400])
def test_any_size_of_blocks_gives_the_same(kind, block, monkeypatch):
    monkeypatch.setattr(paired_tokens, "_block", lambda *_: block)
    back = torch.tensor([[0, 5, 11], [3, 3, 7]])
    check(draw(kind, sites=2), 0, [1, 3], torch.tensor([2, 3, 9]), back)
    check(draw(kind, sites=2), 0, [1, 3], torch.tensor([2, 3, 9]), back, both=False)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(list(KINDS)),
    both=st.booleans(),
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(1, 5), st.integers(1, 9), st.sampled_from([1, 8, 17, 72])),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    layout=st.sampled_from(["heads first", "heads last", "scattered"]),
)
def test_the_fused_kernels_give_the_same(kind, both, seed, size, dtype, layout):
    rows, cols, width = size
    costs = draw(kind, seed=seed, frames=3, rows=rows, cols=cols, width=width, dtype=dtype, layout=layout)
    random = np.random.default_rng(seed)
    count, points = rows * cols, int(random.integers(1, 5))
    tokens = torch.from_numpy(np.sort(random.choice(count, min(points, count), replace=False)))
    back = torch.from_numpy(random.integers(0, count, (2, len(tokens))))
    forget_paths()
    with use_kernels("fused"):
        check(costs, 0, [1, 2], tokens, back, both=both)
    assert paths_used() == {"fused"}


def test_fused_rows_of_several_sites_and_of_scattered_frames():
    costs = [replace(each, left=lay_out(each.left, "scattered")) for each in draw("both ways", sites=2)]
    with use_kernels("fused"):
        check(costs, 1, [4, 0], torch.tensor([0, 7]), torch.tensor([[1, 2], [11, 0]]))


def test_plain_torch_goes_on_if_a_kernel_fails(monkeypatch):
    class Refusing:
        def __getitem__(self, grid):
            raise RuntimeError("no such instruction")

    costs, tokens, back = draw("both ways"), torch.tensor([2, 9]), torch.tensor([[1, 2], [3, 4]])
    pairs = pair_frames(costs, 0, [1, 2], both=True)
    with use_kernels("fused"):
        pairs.rows(tokens)
    with monkeypatch.context() as patch:
        patch.setattr(kernel_choice, "_failed", {})
        patch.setattr(device_rows, "row_kernel", Refusing())
        with use_kernels("fused"), pytest.raises(UsageError, match="no such instruction"):
            pairs.back_rows(back)
        patch.setattr(kernel_choice, "choose_path", lambda *_: Choice(True, ""))  # as on a GPU
        with pytest.warns(FusedWarning, match="no such instruction"):
            found = pairs.back_rows(back)
    torch.testing.assert_close(found, pair_frames(costs, 0, [1, 2], both=True).back_rows(back))


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_has_the_same_row_whatever_is_asked_with_it(kind):
    costs = draw(kind, frames=4, rows=6, cols=9)
    alone, all_tokens = torch.tensor([17]), torch.arange(54)
    for both in (True, False):
        few, many = (pair_frames(costs, 0, [1, 2, 3], both=both).rows(tokens) for tokens in (alone, all_tokens))
        torch.testing.assert_close(few[:, 0], many[:, 17], rtol=1e-5, atol=1e-8)
        if both and KINDS[kind][1]:
            assert torch.equal(few[:, 0], many[:, 17])


def test_nan_of_one_token_reaches_what_depends_on_it_alone():
    (costs,) = draw("both ways", frames=3)
    costs.right[0, 2, 1, 1, 0] = math.nan
    rows = pair_frames([costs], 0, [1, 2], both=True).rows(torch.arange(12))
    assert not rows[0].isnan().any()
    assert rows[1].isnan().any(dim=1).all()  # it is in the sum of every row of its frame


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_second_softmax_keeps_the_order_of_its_sums(dtype):
    """Its ties are decided by rounding, so frames stay one by one, equal to the bit."""
    (costs,) = draw("both ways", dtype=dtype)
    costs = replace(costs, variant=DIFFTRACK_TAPVID)
    tokens, back = torch.tensor([2, 9]), torch.tensor([[1, 2], [3, 4]])
    pairs = pair_frames([costs], 0, [1, 3], both=True)
    assert torch.equal(pairs.rows(tokens)[1], costs.rows(tokens, source=0, target=3))
    assert torch.equal(pairs.back_rows(back)[1], costs.rows(back[1], source=3, target=0))
    assert pairs.rows(tokens).dtype == dtype


def test_distances_are_compared_frame_by_frame():
    values = torch.randn(4, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    tokens, back = torch.tensor([2, 9]), torch.tensor([[1, 2], [3, 4]])
    pairs = pair_frames([NearestTokens(values)], 0, [2, 3], both=True)
    flat = values.flatten(1, 2)
    expected = torch.stack([1 / (1 + torch.cdist(flat[0][tokens], flat[frame])) for frame in (2, 3)])
    torch.testing.assert_close(pairs.rows(tokens), expected)
    expected = torch.stack([1 / (1 + torch.cdist(flat[f][own], flat[0])) for f, own in zip((2, 3), back, strict=True)])
    torch.testing.assert_close(pairs.back_rows(back), expected)


class Watch(TorchDispatchMode):
    """Keeps the names of all operations, and the most elements that one of them returned."""

    def __init__(self):
        super().__init__()
        self.names, self.largest = [], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        found = function(*args, **kwargs or {})
        if isinstance(found, torch.Tensor):
            self.largest = max(self.largest, found.numel())
        return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("both", [True, False])
def test_more_frames_take_no_more_operations(kind, both):
    counts = []
    for frames in (3, 9):
        costs, tokens = draw(kind, frames=frames), torch.tensor([2, 9])
        with Watch() as watch:
            pairs = pair_frames(costs, 0, range(1, frames), both=both)
            rows = pairs.rows(tokens)
            if both:
                pairs.back_rows(rows.argmax(-1))
        counts.append(len(watch.names))
        waits = {"_local_scalar_dense", "nonzero", "masked_select", "item"}
        assert waits.isdisjoint(watch.names)  # a GPU would have to be waited for
    assert counts[0] == counts[1]


def test_sites_with_one_direction_and_with_two_share_a_way_back():
    costs = [*draw("both ways"), *draw("one way", seed=7)]
    check(costs, 0, [1, 3], torch.tensor([2, 9]), torch.tensor([[1, 2], [3, 4]]))


def test_few_tokens_of_large_frames_make_no_matrix_of_all_tokens(monkeypatch):
    """The rows of both ways are computed one by one where C of all tokens takes more than a block."""
    costs, tokens, back = draw("both ways", frames=3, rows=12, cols=20), torch.tensor([2, 9]), torch.tensor([[1, 2]])
    monkeypatch.setattr(paired_tokens, "BLOCK", 240 * 240 - 1)
    monkeypatch.setattr(paired_tokens, "_block", lambda *_: 240)
    with Watch() as watch:
        pairs = pair_frames(costs, 0, [2], both=True)
        pairs.rows(tokens)
        pairs.back_rows(back)
    assert watch.largest <= costs[0].left.numel()
    check(costs, 0, [2], tokens, back)


def test_scattered_frames_of_many_sites_are_copied_one_site_at_a_time():
    costs = draw("both ways", sites=3)
    with Watch() as watch:
        pairs = pair_frames(costs, 1, [4, 0], both=True)
    assert {"stack", "cat", "clone"}.isdisjoint(watch.names)
    torch.testing.assert_close(pairs.rows(torch.tensor([3]))[0, 0].double(), correlate(costs, 3, 1, 4))


def test_a_mean_of_tokens_needs_no_more_than_quarters_of_a_block(monkeypatch):
    monkeypatch.setattr(landing, "BLOCK", 400)
    made = landing.Landing.of(TokenGrid(1, 4, 5, (8.0, 8.0), 1), 1, torch.device("cpu"))
    cost, tokens = torch.rand(3, 40, 20, dtype=torch.float32), torch.arange(40) % 20
    with Watch() as watch:
        found = made.offsets(cost, tokens)
    assert watch.largest <= cost.numel()  # views of it, and what is made of 100 of its elements
    assert watch.names.count("where") == cost.numel() // 100
    alone = torch.stack([made.offsets(cost[j, u : u + 1], tokens[u : u + 1])[0] for j in range(3) for u in range(40)])
    torch.testing.assert_close(found.flatten(0, 1), alone)


def test_one_variant_reads_rows_as_a_pair_of_frames():
    (costs,) = draw("both ways")
    assert costs.variant == CORRECTED
    rows = pair_frames([costs], 0, [2], both=False).rows(torch.tensor([1, 5]))
    assert torch.equal(costs.rows(torch.tensor([1, 5]), source=0, target=2), rows[0])
