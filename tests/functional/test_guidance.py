"""cross_frame_attention against a mask over all pairs of tokens."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vcorr.functional.blocks as blocks
from vcorr import TokenGrid, UsageError
from vcorr.functional import CORRECTED, cross_frame_attention

fast = settings(max_examples=40, deadline=None, derandomize=True)


def random_case(seed=0, heads=2, frames=3, h=2, w=3, d=4, text=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    grid = TokenGrid(frames=frames, rows=h, cols=w, stride=(16, 16), temporal_ratio=4)
    q, k, v = (torch.randn(heads, text + grid.tokens, d, generator=generator).to(dtype) for _ in range(3))
    return q, k, v, grid, text


def plain(q, k, v, grid, text, text_first, variant):
    frame = torch.arange(grid.tokens) // grid.tokens_per_frame
    everyone = torch.full((text,), -1)
    owner = torch.cat([everyone, frame] if text_first else [frame, everyone])
    seen = (owner[:, None] == owner) | (owner[:, None] < 0) | (owner < 0)
    logits = q.double() @ k.double().mT / q.shape[-1] ** 0.5
    if variant == "corrected":
        weights = logits.masked_fill(~seen, -torch.inf).softmax(-1)
    else:
        weights = logits.softmax(-1) * seen
    return weights @ v.double()


@fast
@given(
    seed=st.integers(0, 10_000),
    heads=st.integers(1, 3),
    frames=st.integers(1, 3),
    h=st.integers(1, 3),
    w=st.integers(1, 3),
    d=st.integers(1, 5),
    text=st.integers(0, 3),
    text_first=st.booleans(),
    variant=st.sampled_from(["corrected", "difftrack"]),
)
def test_agrees_with_the_mask(seed, heads, frames, h, w, d, text, text_first, variant):
    case = random_case(seed, heads, frames, h, w, d, text)
    got = cross_frame_attention(*case, text_first=text_first, variant=variant)
    assert got.shape == case[0].shape
    torch.testing.assert_close(got.double(), plain(*case, text_first, variant), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", ["corrected", "difftrack"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_in_and_out(dtype, variant):
    case = random_case(dtype=dtype)
    got = cross_frame_attention(*case, variant=variant)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), plain(*case, True, variant), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("variant", ["corrected", "difftrack"])
def test_one_frame_is_plain_attention(variant):
    q, k, v, grid, text = random_case(frames=1)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(cross_frame_attention(q, k, v, grid, text, variant=variant), expected)


def test_blocks_do_not_change_the_answer(monkeypatch):
    case = random_case()
    whole = cross_frame_attention(*case, variant="difftrack")
    monkeypatch.setattr(blocks, "BLOCK", 30)
    torch.testing.assert_close(cross_frame_attention(*case, variant="difftrack"), whole)


def test_the_switch_alone():
    case = random_case()
    alone = cross_frame_attention(*case, variant=dataclasses.replace(CORRECTED, guidance_mask="after"))
    assert torch.equal(alone, cross_frame_attention(*case, variant="difftrack"))


def test_a_capture_in_progress_does_not_see_it(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("went through the patched function")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fail)
    for variant in ("corrected", "difftrack"):
        cross_frame_attention(*random_case(), variant=variant)


@pytest.mark.parametrize("variant", ["corrected", "difftrack"])
def test_gradients_reach_the_inputs(variant):
    q, k, v, grid, text = random_case()
    q.requires_grad_()
    cross_frame_attention(q, k, v, grid, text, variant=variant).square().sum().backward()
    assert q.grad.abs().sum(dim=-1).min() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_text": -1}, "n_text: expected"),
        ({"n_text": 2}, r"q: expected shape \(H, 2 text \+ 18 video tokens, d\)"),
        ({"k": torch.zeros(2, 21, 5)}, "k: expected q's shape"),
        ({"v": torch.zeros(2, 21, 4, dtype=torch.bfloat16)}, "v: expected q's shape, dtype"),
        ({"q": torch.zeros(2, 21, 4).int()}, "q: expected a floating point"),
        ({"v": None}, "v: expected a floating point"),
        ({"variant": "cag"}, "Unknown variant"),
    ],
)
def test_refusals_name_the_argument(changes, message):
    names = ("q", "k", "v", "grid", "n_text")
    with pytest.raises(UsageError, match=message):
        cross_frame_attention(**{**dict(zip(names, random_case(), strict=True)), **changes})
