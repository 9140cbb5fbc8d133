"""Fused attention summaries, in Triton's interpreter, equal plain torch's: text, padding, and no text."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.kernel_cases import SIZES, Case

from vcorr.functional import attention_rows
from vcorr.kernels.kernel_choice import use_kernels
from vcorr.kernels.segment_rows import _Parts, _share_segments

few = settings(max_examples=5, deadline=None, derandomize=True)
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def draw_text(case, length, seed=0):
    heads, width = case.q.shape[0], case.q.shape[-1]
    return torch.randn(heads, length, width, generator=torch.Generator().manual_seed(seed)).to(case.q.dtype)


def compare(case, text, **options):
    expected = attention_rows(case.q, case.k, text, case.grid, case.points, **options)
    with use_kernels("fused"):
        got = attention_rows(case.q, case.k, text, case.grid, case.points, **options)
    for name, value in got._asdict().items():
        torch.testing.assert_close(value, getattr(expected, name), equal_nan=True, rtol=1e-4, atol=1e-7, msg=name)
    return got


@few
@given(sizes=SIZES, length=st.sampled_from([0, 1, 7, 40]), masked=st.booleans(), seed=st.integers(0, 99))
def test_summaries_equal_plain_torch(sizes, length, masked, seed):
    case = Case.draw(**sizes)
    mask = torch.rand(length, generator=torch.Generator().manual_seed(seed)) < 0.5 if masked else None
    got = compare(case, draw_text(case, length, seed), key_mask=mask)
    video = got.sum_cross + got.sum_self
    torch.testing.assert_close(video + got.sum_text.nan_to_num(0.0), torch.ones_like(video))


def test_padding_alone_is_no_text():
    case = Case.draw(seed=1, heads=2, frames=2, rows=3, cols=4, width=8, points=3)
    got = compare(case, draw_text(case, 5), key_mask=torch.zeros(5, dtype=torch.bool))
    assert got.peak_text.isnan().all()
    assert got.sum_text.isnan().all()


def test_difftrack_and_a_later_frame_of_the_queries():
    case = Case.draw(seed=2, heads=2, frames=3, rows=3, cols=4, width=8, points=3, sharp=3.0)
    mask = torch.tensor([True, True, False])
    compare(case, draw_text(case, 3), variant="difftrack", key_mask=mask, query_frame=5)


def test_hidden_text_far_above_all_other_scores_changes_nothing():
    case = Case.draw(seed=3, heads=1, frames=2, rows=5, cols=8, width=8, points=3)
    text = draw_text(case, 4) * torch.tensor([1, 1, 300, 300])[None, :, None]
    compare(case, text, key_mask=torch.tensor([True, True, False, False]))


@pytest.mark.parametrize(("heads", "jobs"), [(9, 2), (3, 130)], ids=["more heads than at once", "a head at a time"])
@pytest.mark.parametrize("with_text", [True, False])
def test_shares_of_many_heads_and_segments(heads, jobs, with_text):
    draw = functools.partial(torch.randn, generator=torch.Generator().manual_seed(0))
    text, mine, others = 5 * draw(heads, 1, 11), 5 * draw(heads, 1, 11), 5 * draw(heads, jobs, 11)
    whole, shares, zeros = _share_segments(_Parts(text if with_text else None, mine, others), own=1)
    absent = text if with_text else torch.full_like(text, -math.inf)
    parts = torch.cat([absent, others[:, :1], mine, others[:, 1:]], dim=1).double() * math.log(2)
    torch.testing.assert_close(whole.double(), parts.logsumexp(1) / math.log(2), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shares.double(), parts.softmax(1).mean(0).T, rtol=1e-5, atol=1e-7)
    assert not zeros.any()
