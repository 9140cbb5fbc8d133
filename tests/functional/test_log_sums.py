"""Attention with its log-sum-exp against whole matrices; the mass that `difftrack` keeps, by kernels and without."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vcorr import TokenGrid
from vcorr.functional import cross_frame, cross_frame_attention, log_sums
from vcorr.functional.log_sums import attend_with_log_sum

fast = settings(max_examples=30, deadline=None, derandomize=True)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def draw(*shape, seed=0, spread=1.0, dtype=torch.float32, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return [(spread * torch.randn(*shape, generator=generator)).to(device, dtype) for _ in range(3)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@fast
@given(seed=st.integers(0, 9999), m=st.integers(1, 40), d=st.integers(1, 20), shown=st.floats(0, 1), data=st.data())
def test_agrees_with_whole_matrices(device, dtype, seed, m, d, shown, data):
    """Checks logits from the smallest to peaks of many hundreds, and hidden keys that would be the largest."""
    spread, scale = data.draw(st.sampled_from([(1, 0.3), (20, 1.0), (0.01, 0.1)]))
    q, k, v = draw(2, 3, m, d, seed=seed, spread=spread, dtype=dtype, device=device)
    hidden = (torch.rand(m, generator=torch.Generator().manual_seed(seed)) > shown).to(device)
    hidden[0] = False
    for mask in (None, hidden):
        found = attend_with_log_sum(q, k, v, hidden=mask, scale=scale)
        assert found is not None
        logits = q.double() @ k.double().mT * scale
        logits = logits if mask is None else logits.masked_fill(mask, -torch.inf)
        torch.testing.assert_close(found.log_sum.double(), logits.logsumexp(-1), atol=1e-4, rtol=1e-5)
        near = 1e-4 if dtype == torch.float32 else 0.02
        torch.testing.assert_close(found.out.double(), logits.softmax(-1) @ v.double(), atol=near * spread, rtol=near)
        assert (found.out.dtype, found.log_sum.dtype) == (dtype, torch.float32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("text_first", [True, False])
@fast
@given(
    seed=st.integers(0, 9999),
    frames=st.integers(1, 4),
    side=st.integers(1, 4),
    text=st.integers(0, 4),
    d=st.integers(1, 9),
)
def test_the_kept_mass_is_the_same_without_kernels(device, dtype, text_first, seed, frames, side, text, d):
    grid = TokenGrid(frames=frames, rows=side, cols=2, stride=(8, 8), temporal_ratio=4)
    q, k, v = draw(2, text + grid.tokens, d, seed=seed, spread=2.0, dtype=dtype, device=device)
    mask = (torch.rand(text, generator=torch.Generator().manual_seed(seed)) > 0.5).to(device)
    given = {"text_first": text_first, "variant": "difftrack", "key_mask": mask, "scale": 0.4}
    fused = cross_frame_attention(q, k, v, grid, text, **given)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_sums, "KERNELS", {})
        plain = cross_frame_attention(q, k, v, grid, text, **given)
    near = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(fused, plain, atol=near, rtol=near)


class _Largest(TorchDispatchMode):
    """Notes the largest number of elements of any tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        tensors = [each.numel() for each in tree_leaves(out) if isinstance(each, torch.Tensor)]
        self.elements = max([self.elements, *tensors])
        return out


def test_no_weights_of_all_pairs_are_stored_or_computed_in_blocks(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("went through the softmax in blocks")

    monkeypatch.setattr(cross_frame, "mask_after_softmax", fail)
    grid = TokenGrid(frames=6, rows=8, cols=8, stride=(8, 8), temporal_ratio=4)
    q, k, v = draw(1, 5 + grid.tokens, 8)
    with _Largest() as largest:
        cross_frame_attention(q, k, v, grid, 5, variant="difftrack", key_mask=torch.tensor([True] * 3 + [False] * 2))
    assert largest.elements < 8 * q.numel() < grid.tokens**2


def test_gradients_take_the_way_without_kernels():
    q, k, v = draw(1, 1, 5, 8)
    k.requires_grad_()
    assert attend_with_log_sum(q, k, v, scale=1.0) is None
    with torch.no_grad():
        assert attend_with_log_sum(q, k, v, scale=1.0) is not None


@pytest.mark.parametrize("kernel", log_sums.KERNELS["cuda"].values())
def test_kernels_of_a_gpu_take_what_they_are_given(kernel):
    """Checks names, order and number of arguments; the device `meta` computes no values."""
    q = torch.empty(2, 3, 40, 16, dtype=torch.bfloat16, device="meta")
    out, log_sum = kernel(q, q, q, 0.5)
    assert (out.shape, log_sum.flatten(2).shape[:2]) == (q.shape, (2, 3))
    assert log_sum.flatten(2).shape[2] >= 40
