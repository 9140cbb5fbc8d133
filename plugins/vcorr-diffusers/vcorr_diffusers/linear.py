"""Shows the tap what linear attention computes with, which makes no call of torch's attention that it could see.

The processor of the model stays as it is and computes what it computes; only what its modules put out is looked at.

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
    """A processor of linear attention, and, while a tap is open, a look at its queries, keys, values and output.

    q and k are those of the numerator: after the norm, the ReLU that makes them weights, and the rotary embedding. out
    is what goes into the output projection.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Any = None,
    ) -> Tensor:
        """What the processor returns."""
        given = (attn, hidden_states, encoder_hidden_states, attention_mask, rotary_emb)
        with ExitStack() as stack:
            if listening():
                seen: dict[str, Tensor] = {}
                for name, module in _sources(attn).items():
                    stack.callback(module.register_forward_hook(_keep(seen, name)).remove)
                shown = _shown(seen, attn.heads, rotary_emb)
                stack.callback(attn.to_out[0].register_forward_pre_hook(shown).remove)
            result: Tensor = self.processor(*given)
        return result


def show_linear_attention(blocks: nn.ModuleList) -> None:
    """Lets the tap see the self-attention `attn1` of each block, once."""
    for block in blocks:
        attention: Any = block.attn1
        if not isinstance(attention.processor, Shown):
            attention.set_processor(Shown(attention.processor))


def _sources(attn: Any) -> dict[str, nn.Module]:
    """The modules that put out q, k and v, (B, N, C)."""
    q = attn.to_q if attn.norm_q is None else attn.norm_q
    k = attn.to_k if attn.norm_k is None else attn.norm_k
    return {"q": q, "k": k, "v": attn.to_v}


def _keep(seen: dict[str, Tensor], name: str) -> Callable[[nn.Module, Any, Tensor], None]:
    def hook(_: nn.Module, args: Any, output: Tensor) -> None:
        seen[name] = output

    return hook


def _shown(seen: dict[str, Tensor], heads: Any, rotary: Any) -> Callable[[nn.Module, Any], tuple[Tensor] | None]:
    """Shows the taps what goes into the output projection; what they put in its place goes in."""

    def hook(_: nn.Module, args: Any) -> tuple[Tensor] | None:
        q, k, v, out = (_per_head(part, heads) for part in (seen["q"], seen["k"], seen["v"], args[0]))
        q, k, out = _turned(F.relu(q), rotary), _turned(F.relu(k), rotary), out.transpose(1, 2)
        result = show(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), out)
        return None if result is out else (result.transpose(1, 2).flatten(2),)

    return hook


def _per_head(tensor: Tensor, heads: int) -> Tensor:
    """(B, N, C) to (B, N, H, D)."""
    return tensor.unflatten(2, (heads, -1))


def _turned(tensor: Tensor, rotary: Any) -> Tensor:
    """(B, N, H, D) with every pair of neighbouring channels turned by its token's angle: one cosine and sine a pair."""
    if rotary is None:
        return tensor
    cos, sin = rotary[0][..., 0::2], rotary[1][..., 1::2]
    even, odd = tensor[..., 0::2], tensor[..., 1::2]
    turned = tensor.new_empty(tensor.shape)
    turned[..., 0::2] = even * cos - odd * sin
    turned[..., 1::2] = even * sin + odd * cos
    return turned
