"""Shows the tensors of linear attention to the tap, because linear attention makes no call that the tap could see.

The model's own processor computes the attention, unchanged. This module only reads the outputs of its modules.

Shape legend: B batch, H heads, N tokens, D head width, C = H*D.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vcorr.capture import listening, show


class Shown:
    """A processor of linear attention that, while a tap is open, shows its queries, keys, values and output.

    q and k are the factors of the numerator: after the norm, the ReLU that makes them weights, and the rotary
    embedding. out is the input of the output projection.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Any = None,
    ) -> Tensor:
        """Runs the model's processor and returns its result."""
        given = (attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        with ExitStack() as stack:
            if listening():
                seen: dict[str, Tensor] = {}
                for name, module in _sources(attn).items():
                    stack.callback(module.register_forward_hook(_keep(seen, name)).remove)
                hook = _show_output(seen, attn.heads, rotary_emb)
                stack.callback(attn.to_out[0].register_forward_pre_hook(hook).remove)
            result: Tensor = self.processor(*given)
        return result


def show_linear_attention(blocks: nn.ModuleList) -> None:
    """Wraps the processor of the self-attention `attn1` in each block, unless it is wrapped already."""
    for block in blocks:
        attention: Any = block.attn1
        if not isinstance(attention.processor, Shown):
            attention.set_processor(Shown(attention.processor))


def _sources(attn: Any) -> dict[str, nn.Module]:
    """Returns the modules whose outputs are q, k and v, each (B, N, C)."""
    q = attn.to_q if attn.norm_q is None else attn.norm_q
    k = attn.to_k if attn.norm_k is None else attn.norm_k
    return {"q": q, "k": k, "v": attn.to_v}


def _keep(seen: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
    def hook(_: nn.Module, args: Any, output: Tensor) -> None:
        seen[name] = output

    return hook


def _show_output(seen: dict[str, Tensor], heads: Any, rotary: Any) -> Callable[[nn.Module, Any], tuple[Tensor] | None]:
    """Returns a hook that shows the input of the output projection to the taps, and uses what they return instead."""

    def hook(_: nn.Module, args: Any) -> tuple[Tensor] | None:
        q, k, v, out = (_per_head(part, heads) for part in (seen["q"], seen["k"], seen["v"], args[0]))
        q, k, out = _turn(F.relu(q), rotary), _turn(F.relu(k), rotary), out.transpose(1, 2)
        result = show(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), out)
        return None if result is out else (result.transpose(1, 2).flatten(2),)

    return hook


def _per_head(tensor: Tensor, heads: int) -> Tensor:
    """Splits (B, N, C) into heads, (B, N, H, D)."""
    result: Tensor = tensor.unflatten(2, (heads, -1))
    return result


def _turn(tensor: Tensor, rotary: Any) -> Tensor:
    """Turns every pair of neighbouring channels of (B, N, H, D) by its token's angle: one cosine and sine per pair."""
    if rotary is None:
        return tensor
    cos, sin = rotary[0][..., 0::2], rotary[1][..., 1::2]
    even, odd = tensor[..., 0::2], tensor[..., 1::2]
    turned = tensor.new_empty(tensor.shape)
    turned[..., 0::2] = even * cos - odd * sin
    turned[..., 1::2] = even * sin + odd * cos
    return turned
