"""Sums per segment equal those that torch's FlexAttention returns: of plain torch, and of the fused kernels."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.flex_oracle import log_sums
from support.kernel_cases import SIZES, Case

from vcorr.functional import attention_rows
from vcorr.kernels.kernel_choice import use_kernels
from vcorr.kernels.token_matches import Scores
from vcorr.kernels.token_sums import merge_tokens, sum_frames

few = settings(max_examples=4, deadline=None, derandomize=True)
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def ask(case, text, mask, tokens):
    """Returns the log-sum-exps of the text, of every frame, and of all tokens, (1 + F + 1, H, U), by FlexAttention."""
    frames = case.k.shape[1]
    count = case.k.shape[2] * case.k.shape[3]
    words = torch.where(mask, 0, -1)
    segments = torch.cat([words, torch.arange(1, frames + 1).repeat_interleave(count)])
    keys = torch.cat([text, case.k.flatten(1, 3)], dim=1)
    queries = case.q[:, 0].flatten(1, 2)[:, tokens]
    scale = case.q.shape[-1] ** -0.5
    return torch.stack([log_sums(queries, keys, segments, one, scale=scale) for one in [*range(frames + 1), None]])


def draw_text(case, length, seed):
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(case.q.shape[0], length, case.q.shape[-1], generator=generator).to(case.q.dtype)
    return text, torch.rand(length, generator=generator) < 0.6


@few
@given(sizes=SIZES, length=st.sampled_from([1, 7, 40]), seed=st.integers(0, 99))
def test_the_mass_of_each_segment(sizes, length, seed):
    case = Case.draw(**sizes)
    text, mask = draw_text(case, length, seed)
    sums = ask(case, text, mask, case.grid.tokens_at(case.points))
    mass = (sums[:-1] - sums[-1]).exp().mean(1)
    for mode in ("plain", "fused"):
        with use_kernels(mode):
            rows = attention_rows(case.q, case.k, text, case.grid, case.points, key_mask=mask)
        got = torch.stack([rows.sum_text, rows.sum_self, rows.sum_cross]).double()
        expected = torch.stack([mass[0], mass[1], mass[2:].sum(0)])
        torch.testing.assert_close(got.nan_to_num(0.0), expected, rtol=1e-4, atol=1e-6, msg=mode)
        assert bool(rows.sum_text.isnan().any()) == (not mask.any())


@few
@given(sizes=SIZES, length=st.sampled_from([1, 7, 40]), seed=st.integers(0, 99))
def test_log_sums_of_each_segment(sizes, length, seed):
    case = Case.draw(**sizes)
    text, mask = draw_text(case, length, seed)
    tokens = torch.from_numpy(case.grid.tokens_at(case.points))
    expected = ask(case, text, mask, tokens)[:-1] / math.log(2)
    scores = Scores(merge_tokens(case.q), merge_tokens(case.k), tokens, 0, case.q.shape[-1] ** -0.5)
    own = sum_frames(scores.q[:, :1], scores.k[:, :1], own=0, scale=scores.scale, tokens=tokens, all_frames=True)
    hidden = (~mask).to(torch.uint8)
    words = sum_frames(
        scores.q[:, :1], text[:, None], own=0, scale=scores.scale, tokens=tokens, hidden=hidden, all_frames=True
    )
    got = torch.cat([words, own, scores.sum_forward()], dim=1).transpose(0, 1).double()
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_log_sums_of_the_way_back():
    case = Case.draw(seed=4, heads=2, frames=3, rows=3, cols=5, width=17, points=3, dtype=torch.bfloat16)
    scores = Scores(merge_tokens(case.q), merge_tokens(case.k), torch.tensor([0]), 0, 0.3)
    none = torch.zeros(15, dtype=torch.int64)
    expected = [log_sums(scores.q[:, frame], scores.k[:, 0], none, 0, scale=0.3) for frame in (1, 2)]
    torch.testing.assert_close(
        scores.sum_reverse().double() * math.log(2), torch.stack(expected, 1), rtol=1e-5, atol=1e-5
    )
