"""Cut attention equals attention under a dense mask, and a dose blends it with plain attention."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vcorr.capture import TokenLayout, intercept
from vcorr.capture.tap import AttentionCall
from vcorr.contract.errors import CaptureError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Factorised, Site
from vcorr.functional import cross_frame_attention
from vcorr.interventions.knockout_cuts import KINDS, compute_cut
from vcorr.interventions.knockout_edits import ChangeMeter, Knockout

OF_TOKENS = ("cross-frame", "self-frame", "text")
SITE = Site(0, "", heads=4)
GRID = TokenGrid(frames=3, rows=2, cols=2, stride=(8, 8))
BEFORE = TokenLayout("before", ("uncond", "cond"))


def list_open_pairs(kind, frame_of, text):
    """Returns which token (row) sees which (column), one pair at a time. frame_of: the latent frame of each token."""
    count = len(frame_of)
    open_pairs = torch.ones(count, count, dtype=torch.bool)
    for row in range(count):
        for column in range(count):
            if row in text:
                continue
            same = frame_of[row] == frame_of[column]
            if kind == "text":
                open_pairs[row, column] = column not in text
            elif column not in text and row != column:
                open_pairs[row, column] = same if kind == "cross-frame" else not same
    return open_pairs


def dense(call, open_pairs):
    """Returns attention by definition, with a mask over all pairs of tokens."""
    each = call.q.shape[1] // call.k.shape[1]
    k, v = (part.repeat_interleave(each, dim=1) for part in (call.k, call.v))
    logits = call.q @ k.transpose(-1, -2) * (call.scale or call.q.shape[-1] ** -0.5)
    if call.mask is not None:
        logits = logits.masked_fill(~call.mask, -torch.inf) if call.mask.dtype == torch.bool else logits + call.mask
    return logits.masked_fill(~open_pairs, -torch.inf).softmax(-1) @ v


def plain_of(call):
    return dense(call, torch.ones(call.q.shape[2], call.q.shape[2], dtype=torch.bool))


@st.composite
def calls(draw):
    """Draws a call over a whole video: its grid, its layout, and the frame of each token, -1 for text."""
    frames, rows, cols = draw(st.tuples(st.integers(2, 4), st.integers(1, 3), st.integers(1, 3)))
    text, place = draw(st.integers(1, 3)), draw(st.sampled_from(["before", "after"]))
    heads, shared, batch = (*draw(st.sampled_from([(2, 2), (4, 2), (3, 1)])), draw(st.integers(1, 2)))
    total = text + frames * rows * cols
    numbers = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    q, k, v = (torch.randn(batch, count, total, 4, generator=numbers) for count in (heads, shared, shared))
    tokens = [f for f in range(frames) for _ in range(rows * cols)]
    frame_of = [-1] * text + tokens if place == "before" else tokens + [-1] * text
    mask = None
    if draw(st.booleans()):  # the last text token is padding
        mask = torch.ones(batch, 1, 1, total, dtype=torch.bool)
        mask[:, :, :, (text if place == "before" else total) - 1] = text == 1
        if draw(st.booleans()):
            mask = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)
    call = AttentionCall("", q, k, v, mask=mask, scale=draw(st.sampled_from([None, 0.3])))
    grid = TokenGrid(frames=frames, rows=rows, cols=cols, stride=(8, 8))
    return call, grid, TokenLayout(place, ("uncond", "cond") if batch == 2 else ("cond",)), frame_of


@settings(max_examples=40, deadline=None)
@given(calls(), st.sampled_from(OF_TOKENS))
def test_a_cut_equals_attention_under_a_mask_over_all_pairs(drawn, kind):
    call, grid, layout, frame_of = drawn
    text = {token for token, frame in enumerate(frame_of) if frame < 0}
    cut = compute_cut(kind, call, plain_of(call), SITE, grid, layout)
    expected = dense(call, list_open_pairs(kind, frame_of, text))
    assert torch.allclose(cut, expected, atol=1e-5)


def random_call(batch=2, heads=4, text=3):
    numbers = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn(batch, heads, text + GRID.tokens, 4, generator=numbers) for _ in range(3))
    return AttentionCall("", q, k, v)


def test_cross_frame_is_the_attention_of_guidance():
    call = random_call(batch=1)
    cut = compute_cut("cross-frame", call, plain_of(call), SITE, GRID, TokenLayout("before"))
    assert torch.allclose(cut[0], cross_frame_attention(call.q[0], call.k[0], call.v[0], GRID, 3), atol=1e-6)


def test_a_knocked_out_head_is_zero_or_its_mean():
    call = random_call()
    plain = plain_of(call)
    assert not compute_cut("head", call, plain, SITE, GRID, BEFORE).any()
    mean = compute_cut("head-mean", call, plain, SITE, GRID, BEFORE)
    assert torch.allclose(mean[:, :, 3:], plain[:, :, 3:].mean(2, keepdim=True).expand(-1, -1, GRID.tokens, -1))
    assert torch.allclose(mean[:, :, :3], plain[:, :, :3].mean(2, keepdim=True).expand(-1, -1, 3, -1))


def test_temporal_attention_without_other_frames_keeps_the_token_itself():
    temporal = Site(0, "", attention="factorised", factorised=Factorised("temporal"))
    call = AttentionCall("", *torch.randn(3, 4, 2, GRID.frames, 4, generator=torch.Generator().manual_seed(1)))
    cut = compute_cut("cross-frame", call, plain_of(call), temporal, GRID, TokenLayout())
    assert torch.allclose(cut, call.v)


SPATIAL = Site(0, "s", attention="factorised", factorised=Factorised("spatial"))
TEMPORAL = Site(0, "t", attention="factorised", factorised=Factorised("temporal"))


@pytest.mark.parametrize(
    ("kind", "site", "layout", "reason"),
    [
        ("cross-frame", SPATIAL, TokenLayout(), "never sees another frame"),
        ("self-frame", TEMPORAL, TokenLayout(), "one token per frame"),
        ("text", TEMPORAL, TokenLayout("before"), "no text tokens"),
        ("text", SITE, TokenLayout(), "no text tokens"),
        ("cross-frame", Site(0, "l", attention="linear"), TokenLayout(), "linear"),
        ("head", Site(0, "n", attention="none", block="n"), TokenLayout(), "no attention"),
    ],
)
def test_a_cut_that_removes_nothing_is_refused_with_the_reason(kind, site, layout, reason):
    with pytest.raises(UsageError, match=reason):
        Knockout(kind, {0: ()}, GRID, layout).check([site])


def test_one_frame_alone_has_nothing_across_frames():
    still = TokenGrid(frames=1, rows=2, cols=2, stride=(8, 8))
    with pytest.raises(UsageError, match="one latent frame"):
        Knockout("cross-frame", {0: ()}, still, TokenLayout()).check([SITE])


def test_causal_attention_is_refused():
    call = replace(random_call(), causal=True)
    with pytest.raises(CaptureError, match="causal"):
        compute_cut("text", call, plain_of(call), SITE, GRID, BEFORE)


@pytest.mark.parametrize("dose", [-0.1, float("nan"), float("inf")])
def test_a_dose_that_is_no_number_from_0_is_refused(dose):
    with pytest.raises(UsageError, match="dose"):
        Knockout("head", {0: ()}, GRID, BEFORE, dose)


def test_layers_heads_and_kinds_that_do_not_exist_are_refused():
    with pytest.raises(UsageError, match="no layer 7"):
        Knockout("head", {7: ()}, GRID, BEFORE).check([SITE])
    with pytest.raises(UsageError, match="no head 4"):
        Knockout("head", {0: (4,)}, GRID, BEFORE).check([SITE])
    with pytest.raises(UsageError, match="cross-frame"):
        Knockout("cross-frames", {0: ()}, GRID, BEFORE)


# ------------------------------------------------------------------------------------------------------- in a model


class Attention(nn.Module):
    def forward(self, x):
        return F.scaled_dot_product_attention(x, x * 0.5, x + 1)


MODEL = nn.Sequential(Attention(), Attention())
SITES = [Site(0, "0", heads=4), Site(1, "1", heads=4)]
X = torch.randn(2, 4, 3 + GRID.tokens, 4, generator=torch.Generator().manual_seed(2))


def run(edit):
    with torch.no_grad(), intercept(MODEL, SITES, edit, layout=BEFORE):
        return MODEL(X)


def test_dose_0_is_the_plain_model_bit_for_bit():
    assert torch.equal(run(Knockout("cross-frame", {0: ()}, GRID, BEFORE, 0.0)), MODEL(X))


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(KINDS), st.floats(0, 1, width=32), st.sets(st.integers(0, 3), max_size=3))
def test_a_dose_blends_the_chosen_heads_and_leaves_the_others(kind, dose, heads):
    first = MODEL[0](X)
    call = AttentionCall("", X, X * 0.5, X + 1)
    expected = first.clone()
    chosen = sorted(heads) or [0, 1, 2, 3]
    cut = compute_cut(kind, call, first, SITE, GRID, BEFORE)
    expected[:, chosen] += dose * (cut - first)[:, chosen]
    found = run(Knockout(kind, {0: tuple(heads)}, GRID, BEFORE, dose))
    assert torch.allclose(found, MODEL[1](expected), atol=1e-5)


def test_the_cut_acts_at_its_steps_alone():
    edit, outputs = Knockout("head", {1: ()}, GRID, BEFORE, steps=frozenset({1})), []
    with torch.no_grad(), intercept(MODEL, SITES, edit, layout=BEFORE):
        outputs = [MODEL(X) for _ in range(3)]
    assert [bool((out != MODEL(X)).any()) for out in outputs] == [False, True, False]


def test_the_meter_measures_the_change_of_each_head_and_changes_nothing():
    meter = ChangeMeter("self-frame", GRID, BEFORE)
    assert torch.equal(run(meter), MODEL(X))
    first = MODEL[0](X)
    cut = compute_cut("self-frame", AttentionCall("", X, X * 0.5, X + 1), first, SITE, GRID, BEFORE)
    expected = [float((cut - first)[:, head].double().norm()) for head in range(4)]
    assert np.allclose(meter.norms[0], expected, rtol=1e-5)
    assert set(meter.norms) == {0, 1}
