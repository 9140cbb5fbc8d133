"""Computes a part of an attention call: some of its tokens over some of its keys.

Shape legend: B batch rows, H heads, N tokens in the sequence of a batch row, D head width, P rows, M keys.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from vcorr.capture.tap import AttentionCall


def attend_to(call: AttentionCall, rows: slice, keys: Sequence[slice], seen: Tensor | None = None) -> Tensor:
    """Computes attention of some tokens over some keys.

    Args:
        call: q, k and v of all tokens, its mask and its scale; k and v may have fewer heads, which are then shared.
        rows: the tokens whose output is computed.
        keys: the tokens that they see, as slices of the sequence.
        seen: (rows, keys) bool, True where a token sees a key; None for all of them.

    Returns:
        (B, H, rows, D).
    """
    heads = call.q.shape[1]
    k, v = (_per_head(torch.cat([part[:, :, each] for each in keys], dim=2), heads) for part in (call.k, call.v))
    mask = None if call.mask is None else _mask_of(call.mask, rows, keys)
    if seen is not None:
        mask = seen if mask is None else _join_masks(mask, seen)
    # the taps do not see this call: an interceptor's own attention is hidden from them
    return F.scaled_dot_product_attention(call.q[:, :, rows], k, v, attn_mask=mask, scale=call.scale)


def _per_head(shared: Tensor, heads: int) -> Tensor:
    return shared if shared.shape[1] == heads else shared.repeat_interleave(heads // shared.shape[1], dim=1)


def _mask_of(mask: Tensor, rows: slice, keys: Sequence[slice]) -> Tensor:
    """Returns the part of a mask (..., N or 1, N) for some rows and keys."""
    some = mask[..., rows, :] if mask.ndim > 1 and mask.shape[-2] > 1 else mask
    return torch.cat([some[..., each] for each in keys], dim=-1)


def _join_masks(mask: Tensor, seen: Tensor) -> Tensor:
    """Returns a mask, bool or added to the logits, that also hides what `seen` (P, M) does not hold."""
    return mask & seen if mask.dtype == torch.bool else mask.masked_fill(~seen, float("-inf"))
