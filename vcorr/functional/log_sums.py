"""Attention together with the log-sum-exp of its logits, from the fused kernels of torch that compute it on the way.

Shape legend: B batch rows, H heads, N queries, M keys, d head width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import SDPBackend

_WIDTHS = 8
"""Fused kernels take head widths that are multiples of it."""
_FAR = (16.0, -60_000.0)
"""What hidden keys are multiplied with: in all dtypes finite, and so far down that their weight is exactly 0."""


class SummedAttention(NamedTuple):
    """out: (B, H, N, d) in q's dtype. log_sum: (B, H, N) float32, log(sum over keys of exp(logit))."""

    out: Tensor
    log_sum: Tensor


def attend_with_log_sum(
    q: Tensor, k: Tensor, v: Tensor, *, hidden: Tensor | None = None, scale: float
) -> SummedAttention | None:
    """Computes attention and the log-sum-exp of its logits, without a matrix of all pairs of tokens.

    Args:
        q: (B, H, N, d).
        k: (B, H, M, d).
        v: (B, H, M, d).
        hidden: (M,) bool, True for keys that no query sees; None if all are seen.
        scale: of the dot products.

    Returns:
        None where torch has no such kernel for the device or the tensors. None as well where gradients are asked for:
        no gradient flows through the log-sum-exp.
    """
    wide = _widen(q, k, v, hidden)
    kernel = _choose_kernel(*wide)
    if kernel is None:
        return None
    out, log_sum = kernel(*wide, scale)
    return SummedAttention(out[..., : q.shape[-1]], log_sum.flatten(2)[..., : q.shape[2]])  # kernels may pad rows


def _choose_kernel(q: Tensor, k: Tensor, v: Tensor) -> _Kernel | None:
    if torch.is_grad_enabled() and any(each.requires_grad for each in (q, k, v)):
        return None
    kernels = KERNELS.get(q.device.type, {})
    # torch's own choice knows which kernels were built, which GPU takes them, and what the user has turned off
    return kernels.get(torch._fused_sdp_choice(q, k, v)) if kernels else None


def _widen(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the same with zeros behind every head, up to a width that kernels take.

    One more channel hides keys: no kernel needs a mask then, which some of them do not take.
    """
    width = q.shape[-1]
    more = -(-(width + (hidden is not None)) // _WIDTHS) * _WIDTHS - width
    if not more:
        return q, k, v
    q, k, v = (F.pad(each, (0, more)) for each in (q, k, v))
    if hidden is not None:
        q[..., width] = _FAR[0]
        k[..., width] = _FAR[1] * hidden
    return q, k, v


_Kernel = Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor]]


def _flash_on_cpu(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    out, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, scale=scale)
    return out, log_sum


def _flash(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    found: Any = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)
    return found[0], found[1]


def _efficient(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    found: Any = torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True, scale=scale)
    return found[0], found[1]


def _cudnn(q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    found: Any = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, scale=scale)
    return found[0], found[1]


KERNELS: Mapping[str, Mapping[int, _Kernel]] = {
    "cpu": {SDPBackend.FLASH_ATTENTION.value: _flash_on_cpu},
    "cuda": {
        SDPBackend.FLASH_ATTENTION.value: _flash,
        SDPBackend.EFFICIENT_ATTENTION.value: _efficient,
        SDPBackend.CUDNN_ATTENTION.value: _cudnn,
    },
}
"""Kernels that return the log-sum-exp, by type of device and by torch's choice."""
