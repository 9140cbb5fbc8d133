"""Kernels read tokens through descriptors or pointers, with equal results; which of them, is said by the layout."""

from __future__ import annotations

import pytest
import torch
from support.kernel_cases import Case, lay_out

from vcorr.kernels import descriptors, segment_rows, token_matches, token_sums
from vcorr.kernels.descriptors import as_argument, can_describe, take_tokens
from vcorr.kernels.segment_rows import weigh_segments
from vcorr.kernels.token_matches import Scores, Slots, Sums, find_best

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture
def read_by(monkeypatch):
    """Makes kernels read by descriptors, or by pointers, whatever the layout is; returns the choices they asked for."""

    def choose(described):
        for module in (segment_rows, token_matches, token_sums):
            monkeypatch.setattr(module, "can_describe", lambda *tensors: described)

    return choose


@pytest.mark.parametrize(("layout", "width"), [("heads first", 72), ("heads last", 16)])
@pytest.mark.parametrize(
    "options", [{}, {"symmetric": False}, {"softmax": False, "symmetric": False}], ids=["both", "one", "products"]
)
def test_descriptors_and_pointers_find_the_same(read_by, layout, width, options):
    case = Case.draw(seed=1, heads=2, frames=2, rows=5, cols=7, width=width, points=4, dtype=torch.bfloat16)
    q, k = (lay_out(tensor, layout).flatten(2, 3) for tensor in (case.q, case.k))
    text, hidden = k[:, 1, :33], torch.arange(33) % 3 == 0
    tokens, found = torch.tensor([3, 0, 34, 17]), {}
    for described in (True, False):
        read_by(described)
        values = []
        for right in (k, q):  # the second one shares its products
            scores = Scores(q, right, tokens, 1, 0.3, **options)
            sums = Sums(scores.sum_forward(), scores.sum_reverse()) if scores.softmax else None
            values.append(find_best(scores, sums, Slots(each=False, with_mean=True)))
            values += [*(sums or ())] if sums is None else [sums.forward, sums.reverse]
        values += weigh_segments(Scores(q, k, tokens, 1, 0.3), text, hidden=hidden)
        found[described] = values
    assert all(map(torch.equal, found[True], found[False]))


def test_tiles_beyond_the_end_hold_no_tokens_of_the_next_frame(read_by):
    read_by(described=True)
    q = torch.zeros(1, 3, 5, 16)
    q[:, 2] = torch.nan  # the next frame in memory
    scores = Scores(q[:, :2], q[:, :2], torch.tensor([0, 4]), 0, 1.0)
    best = find_best(scores, Sums(scores.sum_forward(), scores.sum_reverse()), Slots(False, True))
    assert token_matches.read_tokens(best).flatten().tolist() == [0, 0]
    assert token_matches.read_peaks(best).flatten().tolist() == pytest.approx([0.4, 0.4])


def test_tokens_are_taken_from_one_frame():
    q, k = torch.randn(2, 2, 3, 21, 40)
    tokens = torch.tensor([20, 0, 7])
    for left, right in ((q, k), (q, q)):
        taken = take_tokens(left, right, tokens, 1)
        assert torch.equal(taken[0], left[:, 1:2, tokens])
        assert torch.equal(taken[1], right[:, 1:2, tokens])


ALIGNED = torch.zeros(2, 3, 5, 64, dtype=torch.bfloat16)
LAYOUTS = {
    "contiguous": (ALIGNED, True),
    "heads last": (lay_out(torch.zeros(2, 3, 1, 5, 64), "heads last").flatten(2, 3), True),
    "some frames": (ALIGNED[:, 1:], True),
    "one odd stride of an axis with one entry": (torch.zeros(100).as_strided((1, 1, 5, 4), (7, 3, 4, 1)), True),
    "an odd address": (torch.zeros(2000).as_strided((2, 3, 5, 64), (960, 320, 64, 1), 1), False),
    "an odd stride": (torch.zeros(2, 3, 5, 65)[..., :64], False),
    "odd vectors": (ALIGNED[..., :60], False),
    "scattered channels": (lay_out(ALIGNED, "scattered"), False),
    "one frame for all": (ALIGNED[:, :1].expand(-1, 3, -1, -1), False),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_descriptors_can_describe(name):
    tensor, described = LAYOUTS[name]
    assert can_describe(tensor) == described
    if described:
        assert as_argument(tensor, 16, 16, described=True).block_shape == [1, 1, 16, 16]
    assert as_argument(tensor, 16, 16, described=False) is tensor
    assert not can_describe(ALIGNED, tensor.double())


@pytest.mark.parametrize(
    ("capability", "dtype", "described"),
    [
        ((9, 0), torch.bfloat16, True),
        ((10, 0), torch.float16, True),
        ((8, 9), torch.bfloat16, False),
        ((9, 0), torch.float32, False),
    ],
)
def test_only_hopper_describes_half_precision(monkeypatch, capability, dtype, described):
    monkeypatch.setattr(descriptors, "interprets", lambda: False)
    monkeypatch.setattr(descriptors, "needs_float32", lambda *tensors: tensors[0].dtype == torch.float32)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert can_describe(ALIGNED.to(dtype)) == described
