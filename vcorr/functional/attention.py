"""Attention rows of query points, and the peaks and sums of their segments (docs/protocol.md)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.variants import Variant, switches_of
from vcorr.functional.arguments import check_floats, described
from vcorr.functional.blocks import blocks, check_tokens, plain_precision
from vcorr.functional.query_points import QueryPoints, QueryTokens, query_points


class AttentionRows(NamedTuple):
    """Head-mean attention of N query points, summed up by segment; float32 probabilities in [0, 1].

    peak_cross: (N, F-1), the largest among the tokens of every latent frame but the queries' own, in order of time.
    peak_self, peak_text: (N,), among the tokens of the queries' latent and of the text. sum_cross, sum_self, sum_text:
    (N,), all of the other latents, the queries' own, the text; together 1. Without text tokens the two of the text are
    NaN.
    """

    peak_cross: Tensor
    peak_self: Tensor
    peak_text: Tensor
    sum_cross: Tensor
    sum_self: Tensor
    sum_text: Tensor


@torch.no_grad()
def attention_rows(
    q: Tensor,
    k: Tensor,
    k_text: Tensor,
    grid: TokenGrid,
    queries: Tensor | ArrayLike | QueryPoints,
    *,
    query_frame: int = 0,
    variant: Variant = "corrected",
    key_mask: Tensor | None = None,
) -> AttentionRows:
    """Where the attention of each query point goes: one softmax over all tokens, text and video, then the head mean.

    Source: DiffTrack (arXiv 2506.17220), confidence and attention; docs/protocol.md. Computed in float32.

    Args:
        q: (H, F, h, w, d) queries as they enter the attention product, float32, bfloat16 or float16.
        k: keys of the video tokens, likewise, of q's shape and on its device.
        k_text: (H, n, d) keys of the text tokens; n may be 0.
        grid: the tokens' grid, F x h x w.
        queries: (N, 2) raster pixels in `query_frame`, inside the frame; keep them on the CPU in a hot loop. Or
            `QueryPoints`.
        query_frame: the video frame the queries are in; `QueryPoints` know theirs.
        variant: "corrected": the row of the token under the query, padded text left out. "difftrack": the row and
            column exchanged and rounded, padded text included. Or `Switches` (`lookup`, `pooling`).
        key_mask: (n,) bool, True for real text tokens, False for padding; None means all are real.

    Returns:
        `AttentionRows` on q's device.

    Raises:
        UsageError: an argument cannot be used; the message names it.
    """
    check_floats("q", q)
    points = locate_rows(grid, queries, q.device, query_frame=query_frame, variant=variant)
    return attention_token_rows(q, k, k_text, grid, points, variant=variant, key_mask=key_mask)


def locate_rows(
    grid: TokenGrid,
    queries: Tensor | ArrayLike | QueryPoints,
    device: torch.device | str,
    *,
    query_frame: int = 0,
    variant: Variant = "corrected",
) -> QueryTokens:
    """The tokens whose attention rows are read; like `query_points.locate_queries`, once for all sites.

    Raises:
        UsageError: queries that are not (N, 2) positions inside the frame.
    """
    return query_points(queries, query_frame).located_rows(grid, device, variant)


@torch.no_grad()
def attention_token_rows(
    q: Tensor,
    k: Tensor,
    k_text: Tensor,
    grid: TokenGrid,
    points: QueryTokens,
    *,
    variant: Variant = "corrected",
    key_mask: Tensor | None = None,
) -> AttentionRows:
    """`attention_rows` on queries that `locate_rows` located before: no host synchronisation.

    Raises:
        UsageError: q, k, k_text or key_mask cannot be used; the message names it.
    """
    _check(q, k, k_text, key_mask, grid)
    hidden = None
    if key_mask is not None and switches_of(variant).pooling == "queries":
        hidden = ~key_mask.to(q.device)
    with plain_precision(q.device):
        rows = _mean_rows(q[:, points.latent], k, k_text, points.tokens, hidden)
    text, video = rows[:, : k_text.shape[1]], rows[:, k_text.shape[1] :]
    video = video.reshape(len(rows), grid.frames, grid.tokens_per_frame)
    none = torch.full_like(rows[:, 0], math.nan)
    peak_text, sum_text = (text.amax(1), text.sum(1)) if text.shape[1] else (none, none)
    if hidden is not None and text.shape[1]:
        peak_text, sum_text = (value.masked_fill(hidden.all(), math.nan) for value in (peak_text, sum_text))
    own, others = video[:, points.latent], _others(video, points.latent)
    read = (others.amax(2), own.amax(1), peak_text, others.sum((1, 2)), own.sum(1), sum_text)
    return AttentionRows(*(value.index_select(0, points.index) for value in read))


def _others(video: Tensor, latent: int) -> Tensor:
    """(U, F, P) without one latent frame, (U, F - 1, P)."""
    if not latent:
        return video[:, 1:]  # no copy of rows that may be large
    return torch.cat([video[:, :latent], video[:, latent + 1 :]], dim=1)


def _mean_rows(q: Tensor, k: Tensor, k_text: Tensor, tokens: Tensor, hidden: Tensor | None) -> Tensor:
    """(U, n + F*h*w): softmax over all tokens, text first, averaged over heads.

    q: (H, h, w, d) of the latent that the tokens are in. k: (H, F, h, w, d). hidden: (n,) text left out.
    """
    heads, text = q.shape[0], k_text.shape[1]
    width = text + math.prod(k.shape[1:4])
    total = torch.zeros(len(tokens), width, dtype=torch.float32, device=q.device)
    unused = torch.empty(1, 1, 1, dtype=torch.float32, device=q.device)
    for a, x in blocks(heads, len(tokens), width):
        left = q[a].flatten(1, 2).index_select(1, tokens[x]).float()
        right = torch.cat([k_text[a].float(), k[a].flatten(1, 3).float()], dim=1)
        # scaled after the product: half precision inputs stay exact also where the device may use TF32
        logits = torch.baddbmm(unused, left, right.mT, beta=0, alpha=q.shape[-1] ** -0.5)
        if hidden is not None:
            logits[..., :text].masked_fill_(hidden, -math.inf)
        total[x] += logits.softmax(dim=-1).sum(dim=0)
    return total / heads


def _check(q: Tensor, k: Tensor, k_text: Tensor, key_mask: Tensor | None, grid: TokenGrid) -> None:
    check_tokens("q", q, grid)
    check_tokens("k", k, grid)
    if k.shape != q.shape or k.device != q.device:
        raise UsageError(f"k: expected q's shape {tuple(q.shape)} on {q.device}, got {tuple(k.shape)} on {k.device}.")
    check_floats("k_text", k_text)
    if k_text.ndim != 3 or k_text.shape[::2] != q.shape[::4] or k_text.device != q.device:
        raise UsageError(
            f"k_text: expected shape (H, n, d) with H = {q.shape[0]} and d = {q.shape[-1]} on {q.device}, got "
            f"{tuple(k_text.shape)} on {k_text.device}."
        )
    if key_mask is None:
        return
    if not isinstance(key_mask, Tensor) or key_mask.dtype != torch.bool or key_mask.shape != k_text.shape[1:2]:
        raise UsageError(f"key_mask: expected a bool tensor of shape ({k_text.shape[1]},), got {described(key_mask)}.")
