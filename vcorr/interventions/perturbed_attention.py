"""Perturbed attention of guidances: of the own frame and the text alone, and of the own token and the text alone.

Neither builds a mask over all pairs of tokens.

Shape legend: R rows, H heads, N tokens in a sequence, n text tokens, P video tokens, d head width.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.guidance_protocols import AttentionEdit, GuidedCall, GuidedSite
from vcorr.contract.variants import Variant
from vcorr.functional import cross_frame_attention
from vcorr.functional.blocks import plain_precision, row_slices


def own_frame_edit(variant: Variant) -> AttentionEdit:
    """Returns an edit in which video tokens see the text and the video tokens of their own latent frame.

    variant: whether other frames are masked before the softmax ("corrected") or dropped after it ("difftrack").
    """
    return partial(attend_own_frame, variant=variant)


def attend_own_frame(call: GuidedCall, variant: Variant = "corrected") -> Tensor:
    """Computes attention without other latent frames: (R, H, N, d).

    Under temporal attention a token's own frame holds the token alone, so its output is its own value. "difftrack" then
    multiplies the value by the weight of the token in the full softmax.
    """
    if _is_temporal(call):
        return call.v if variant == "corrected" else call.v * _own_weight(call)
    rows = [
        cross_frame_attention(
            *row,
            call.grid,
            call.n_text,
            text_first=call.text_first,
            variant=variant,
            key_mask=call.key_mask,
            scale=call.scale,
        )
        for row in zip(call.q, call.k, call.v, strict=True)
    ]
    return torch.stack(rows)


def attend_own_token(call: GuidedCall) -> Tensor:
    """Computes attention in which video tokens see themselves and the text, and the text sees everything: (R, H, N, d).

    Source: perturbed-attention guidance (arXiv 2403.17377), which replaces the attention among the tokens of a picture
    by the identity.
    """
    n, total = call.n_text, call.q.shape[2]
    if not n:
        return call.v
    text = slice(0, n) if call.text_first else slice(total - n, total)
    video = slice(n, total) if call.text_first else slice(0, total - n)
    with plain_precision(call.q.device):
        rows = _attend_text_and_self(call, text, video)
        open_rows = _attend_from_text(call, text)
    return torch.cat([open_rows, rows] if call.text_first else [rows, open_rows], dim=2)


def check_frames_join(sites: list[GuidedSite]) -> None:
    """Checks that the chosen layers have attention between frames that can be edited.

    Raises:
        UsageError: a layer has none; the message says why.
    """
    for each in sites:
        if not each.joins_frames:
            raise UsageError(
                f"Layer {each.layer} ({each.site.name}) has no attention between frames to perturb: {_reason(each)}.",
                hint="Choose other layers with guidance.layers; vcorr show model NAME lists them.",
            )


def _reason(each: GuidedSite) -> str:
    if each.site.factorised is not None:
        return "its spatial attention stays within a frame; temporal layers see other frames"
    reasons = {
        "linear": "its attention is linear, so it has no weights of single tokens",
        "none": "it computes no attention that can be changed",
    }
    return reasons.get(each.site.attention, f"its attention is {each.site.attention}")


def _is_temporal(call: GuidedCall) -> bool:
    return call.site.factorised is not None and call.site.factorised.kind == "temporal"


def _factor(call: GuidedCall) -> float:
    return call.q.shape[-1] ** -0.5 if call.scale is None else call.scale


def _own_weight(call: GuidedCall) -> Tensor:
    """Returns the weight of each token on itself in the full softmax, (R, H, N, 1), in v's dtype.

    N is the number of latent frames here, so all pairs are few.
    """
    logits = call.q.float() @ call.k.float().mT * _factor(call)
    return logits.softmax(dim=-1).diagonal(dim1=-2, dim2=-1)[..., None].to(call.v.dtype)


def _attend_text_and_self(call: GuidedCall, text: slice, video: slice) -> Tensor:
    """Returns (R, H, P, d), computed in float32 from the n logits of the text and the one logit of the token itself."""
    q, k, v = (tensor[:, :, video].float() for tensor in (call.q, call.k, call.v))
    k_text, v_text = call.k[:, :, text].float(), call.v[:, :, text].float()
    own = (q * k).sum(-1, keepdim=True) * _factor(call)
    out = torch.empty_like(v)
    for rows in row_slices(q.shape[2], q.shape[0] * q.shape[1] * (call.n_text + 1)):
        logits = q[:, :, rows] @ k_text.mT * _factor(call)
        if call.key_mask is not None:
            logits = logits.masked_fill(~call.key_mask, -torch.inf)
        weights = torch.cat([logits, own[:, :, rows]], dim=-1).softmax(dim=-1)
        out[:, :, rows] = weights[..., :-1] @ v_text + weights[..., -1:] * v[:, :, rows]
    return out.to(call.v.dtype)


def _attend_from_text(call: GuidedCall, text: slice) -> Tensor:
    """Returns (R, H, n, d), where the text's queries attend to all tokens but padding."""
    mask = None
    if call.key_mask is not None:
        video = call.key_mask.new_ones(call.q.shape[2] - call.n_text)
        mask = torch.cat([call.key_mask, video] if call.text_first else [video, call.key_mask])
        mask = mask.expand(*call.q.shape[:2], call.n_text, -1)
    out: Tensor = torch.ops.aten.scaled_dot_product_attention(
        call.q[:, :, text], call.k, call.v, mask, scale=call.scale
    )
    return out
