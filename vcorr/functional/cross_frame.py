"""The perturbed attention of cross-attention guidance (docs/functional.md)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid, check_grid
from vcorr.contract.variants import Variant, switches_of
from vcorr.functional.arguments import check_floats
from vcorr.functional.blocks import plain_precision
from vcorr.functional.log_sums import attend_with_log_sum
from vcorr.functional.published_code import mask_after_softmax


def cross_frame_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grid: TokenGrid,
    n_text: int,
    *,
    text_first: bool = True,
    variant: Variant = "corrected",
    key_mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Computes attention in which video tokens do not see the video tokens of other latent frames.

    Video tokens see their own frame and the text; text tokens see everything. No mask over all pairs of tokens is
    built: every frame attends to its own keys. Source: DiffTrack (arXiv 2506.17220), cross-attention guidance.

    Args:
        q: (H, n_text + F*h*w, d), queries in the model's token order.
        k: keys, with q's shape, dtype and device.
        v: values, with q's shape, dtype and device.
        grid: the grid of the video tokens, F x h x w, row-major by frame.
        n_text: number of text tokens; may be 0.
        text_first: whether the text tokens come before the video tokens or after them.
        variant: "corrected": tokens are masked before the softmax, so the remaining probabilities add up to 1.
            "difftrack": their probabilities are dropped after the softmax and not normalised again, which shrinks the
            output. Or `Switches` (`guidance_mask`).
        key_mask: (n_text,) bool, True for text tokens that are real and not padding; None if all are. Padding is never
            attended to.
        scale: of the dot products inside the softmax; None for 1/sqrt(d).

    Returns:
        (H, n_text + F*h*w, d) in q's dtype and token order; differentiable.

    Raises:
        UsageError: an argument cannot be used; the message names it.
    """
    switches = switches_of(variant)
    _check(q, k, v, grid, n_text)
    _check_key_mask(key_mask, n_text)
    start = 0 if text_first else q.shape[1] - n_text
    text = slice(start, start + n_text)
    video = slice(n_text, None) if text_first else slice(0, start)
    call = _Call(q, k, v, grid, text, video, key_mask, scale)
    perturbed = _attend_own_frames if switches.guidance_mask == "before" else _attend_then_drop
    with plain_precision(q.device):
        rows = perturbed(call)
        open_rows = _attend_everything(call) if n_text else q[:, text]
    return torch.cat([open_rows, rows] if text_first else [rows, open_rows], dim=1)


class _Call(NamedTuple):
    """The arguments of `cross_frame_attention`, with the slices of the text and of the video tokens."""

    q: Tensor
    k: Tensor
    v: Tensor
    grid: TokenGrid
    text: slice
    video: slice
    key_mask: Tensor | None
    scale: float | None


def _attend_everything(call: _Call) -> Tensor:
    """Returns (H, n_text, d), where the text's queries attend to all tokens but padding."""
    mask = None if call.key_mask is None else _with_video(call.key_mask, call, True)
    return _attention(call.q[None, :, call.text], call.k[None], call.v[None], mask, call.scale)[0]


def _attend_own_frames(call: _Call) -> Tensor:
    """Returns (H, F*h*w, d), where every frame's queries attend to the text and to their own frame."""
    mask = None
    if call.key_mask is not None:
        mask = torch.cat([call.key_mask, call.key_mask.new_ones(call.grid.tokens_per_frame)])
    rows = _attention(*_by_frame(call), mask, call.scale)
    return rows.transpose(0, 1).flatten(1, 2)


def _by_frame(call: _Call) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the queries of each frame, (F, H, P, d), and its keys and values after the text's, (F, H, n + P, d).

    P = h*w tokens of a frame.
    """
    grid = call.grid

    def by_frame(tensor: Tensor) -> Tensor:
        heads, _, width = tensor.shape
        return tensor[:, call.video].reshape(heads, grid.frames, grid.tokens_per_frame, width).transpose(0, 1)

    def with_text(tensor: Tensor) -> Tensor:
        return torch.cat([tensor[None, :, call.text].expand(grid.frames, -1, -1, -1), by_frame(tensor)], dim=2)

    return by_frame(call.q), with_text(call.k), with_text(call.v)


def _attend_then_drop(call: _Call) -> Tensor:
    """Returns (H, F*h*w, d), where every frame's queries attend to everything, then lose the other frames.

    What is left of the weights adds up to exp(own - all). Both are log-sum-exps of logits: of the own frame and the
    text, and of all tokens. So the result is attention to the own frame and the text, times this mass.
    """
    hidden, hidden_at_all = None, None
    if call.key_mask is not None:
        hidden = torch.cat([~call.key_mask, call.key_mask.new_zeros(call.grid.tokens_per_frame)])
        hidden_at_all = _with_video(~call.key_mask, call, False)
    scale = call.q.shape[-1] ** -0.5 if call.scale is None else call.scale
    own = attend_with_log_sum(*_by_frame(call), hidden=hidden, scale=scale)
    everything = call.q[None, :, call.video], call.k[None], call.v[None]
    whole = None if own is None else attend_with_log_sum(*everything, hidden=hidden_at_all, scale=scale)
    if own is None or whole is None:
        return _drop_after_softmax(call)
    mass = (own.log_sum.transpose(0, 1).flatten(1, 2) - whole.log_sum[0]).exp()
    rows = own.out.transpose(0, 1).flatten(1, 2).float() * mass[..., None]
    return rows.to(call.q.dtype)


def _with_video(of_text: Tensor, call: _Call, of_video: bool) -> Tensor:
    """Returns a bool per token, (n_text + F*h*w,): the text's own (n_text,), and one value for all video tokens."""
    video = of_text.new_full((call.grid.tokens,), of_video)
    return torch.cat([of_text, video] if call.text.start == 0 else [video, of_text])


def _drop_after_softmax(call: _Call) -> Tensor:
    """Computes `_attend_then_drop` from the weights of all tokens, some rows at a time: the reference."""
    first: int = call.video.start
    step = call.grid.tokens_per_frame
    own = [slice(first + j * step, first + (j + 1) * step) for j in range(call.grid.frames)]
    bias = None
    if call.key_mask is not None:
        bias = call.q.new_zeros(call.q.shape[1], dtype=torch.float32)
        bias[call.text].masked_fill_(~call.key_mask, -torch.inf)
    parts = [
        mask_after_softmax(call.q[:, frame], call.k, call.v, (call.text, frame), bias=bias, scale=call.scale)
        for frame in own
    ]
    return torch.cat(parts, dim=1)


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """Computes attention; mask: (m,) bool over the keys, the same for all queries, so that it has no N x N values."""
    # the operator itself: during capture torch.nn.functional's is patched, and this call would be captured too
    given = None if mask is None else mask[None, None, None].expand(q.shape[0], q.shape[1], q.shape[2], -1)
    out: Tensor = torch.ops.aten.scaled_dot_product_attention(q, k, v, given, scale=scale)
    return out


def _check_key_mask(key_mask: Tensor | None, n_text: int) -> None:
    if key_mask is None:
        return
    if not isinstance(key_mask, Tensor) or key_mask.dtype != torch.bool or tuple(key_mask.shape) != (n_text,):
        raise UsageError(f"key_mask: expected a bool tensor of shape ({n_text},), one value per text token.")


def _check(q: Tensor, k: Tensor, v: Tensor, grid: TokenGrid, n_text: int) -> None:
    check_grid(grid)
    if isinstance(n_text, bool) or not isinstance(n_text, int) or n_text < 0:
        raise UsageError(f"n_text: expected a whole number of at least 0, got {n_text!r}.")
    for name, value in (("q", q), ("k", k), ("v", v)):
        check_floats(name, value)
        if value.ndim != 3 or value.shape[1] != n_text + grid.tokens or 0 in value.shape:
            raise UsageError(
                f"{name}: expected shape (H, {n_text} text + {grid.tokens} video tokens, d), got {tuple(value.shape)}."
            )
        if (value.shape, value.dtype, value.device) != (q.shape, q.dtype, q.device):
            raise UsageError(f"{name}: expected q's shape, dtype and device, {tuple(q.shape)} {q.dtype} on {q.device}.")
