"""Windowed attention, against one mask over all pairs of tokens."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vcorr.capture import intercept
from vcorr.capture.tap import AttentionCall
from vcorr.contract.errors import CaptureError
from vcorr.contract.geometry import TokenGrid
from vcorr.functional import cross_frame_attention
from vcorr.interventions.windowed_attention import AttentionWindow


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_call(window, n_text=0, *, mask=None, shared=1, seed=0):
    tokens = n_text + window.frames * window.rows * window.cols
    q, k, v = (
        draw(seed, 2, 2, tokens, 4),
        draw(seed + 1, 2, 2 // shared, tokens, 4),
        draw(seed + 2, 2, 2 // shared, tokens, 4),
    )
    return AttentionCall("attn", q, k, v, mask=mask)


def allowed(window, n_text):
    """Returns (N, N) bool, True where a token sees a key, token by token."""
    size = window.rows * window.cols
    video = [(i // size, i % size // window.cols, i % window.cols) for i in range(window.frames * size)]
    places = [None] * n_text + video if window.text == "before" else video + [None] * n_text

    def sees(a, b):
        if a is None or b is None:
            return True
        near = not window.space or (abs(a[1] - b[1]) <= window.space and abs(a[2] - b[2]) <= window.space)
        return abs(a[0] - b[0]) <= window.reach and near

    return torch.tensor([[sees(a, b) for b in places] for a in places])


def compute(call):
    k, v = (part.repeat_interleave(call.q.shape[1] // part.shape[1], dim=1) for part in (call.k, call.v))
    return F.scaled_dot_product_attention(call.q, k, v, attn_mask=call.mask, scale=call.scale)


windows = st.builds(
    AttentionWindow,
    frames=st.integers(1, 4),
    rows=st.integers(1, 3),
    cols=st.integers(1, 3),
    text=st.sampled_from(["before", "after"]),
    reach=st.integers(0, 3),
    space=st.integers(0, 2),
)


@settings(max_examples=40, deadline=None)
@given(windows, st.integers(0, 3), st.sampled_from([None, bool, float]), st.sampled_from([1, 2]))
def test_it_equals_attention_under_one_mask_over_all_pairs(window, n_text, kind, shared):
    keep = allowed(window, n_text)
    call = make_call(window, n_text, shared=shared)
    mask = None
    if kind is not None:
        padding = torch.ones(2, 1, 1, len(keep), dtype=torch.bool)
        if n_text:  # as models hide the padding of a prompt
            padding[0, ..., 0 if window.text == "before" else -1] = False
        mask = padding if kind is bool else torch.zeros(padding.shape).masked_fill(~padding, -1e4)
        whole = keep & padding if kind is bool else mask.masked_fill(~keep, float("-inf"))
    else:
        whole = keep
    got = window(replace(call, mask=mask), compute)
    assert torch.allclose(got, compute(replace(call, mask=whole)), atol=1e-5)


def test_the_own_frame_alone_is_the_perturbed_attention_of_guidance():
    window = AttentionWindow(3, 2, 2, "before", reach=0)
    call = make_call(window, n_text=2)
    grid = TokenGrid(frames=3, rows=2, cols=2, stride=(8, 8), video_frames=9, temporal_ratio=4, causal=True)
    for row, got in enumerate(window(call, compute)):
        assert torch.allclose(got, cross_frame_attention(call.q[row], call.k[row], call.v[row], grid, 2), atol=1e-6)


def test_it_is_an_interceptor():
    class Attention(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(x, x, x)

    model, video = nn.Sequential(Attention()), draw(0, 1, 2, 12, 8)
    with intercept(model, ["0"], AttentionWindow(3, 2, 2, "none", reach=0)):
        alone = model(video)
    frames = [F.scaled_dot_product_attention(part, part, part) for part in video.chunk(3, dim=2)]
    assert torch.allclose(alone, torch.cat(frames, dim=2), atol=1e-6)


@pytest.mark.parametrize(("frames", "text", "n_text"), [(4, "before", 0), (2, "none", 1)])
def test_other_numbers_of_tokens_are_an_error_with_both_numbers(frames, text, n_text):
    call = make_call(AttentionWindow(3, 2, 2, "before"), n_text)
    tokens = 12 + n_text if text == "none" else 12
    window = AttentionWindow(frames if text == "before" else 3, 2, 2, text)
    with pytest.raises(CaptureError, match=rf"attn: {tokens} queries .* {window.frames * 4} video tokens"):
        window(call, compute)


def test_causal_attention_is_refused():
    window = AttentionWindow(2, 1, 1, "none")
    with pytest.raises(CaptureError, match="causal"):
        window(replace(make_call(window), causal=True), compute)
