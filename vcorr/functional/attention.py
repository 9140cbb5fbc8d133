"""Attention summaries of query points: peaks and sums per segment of tokens (docs/protocol.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.variants import Variant, switches_of
from vcorr.functional.arguments import check_floats, describe
from vcorr.functional.blocks import blocks, check_tokens, plain_precision
from vcorr.functional.fused_path import fuse_rows
from vcorr.functional.head_shares import WHOLE, HeadShare
from vcorr.functional.query_points import QueryPoints, QueryTokens, query_points
from vcorr.functional.shared_sums import SharedSums


class AttentionRows(NamedTuple):
    """The attention summary of N query points: float32 probabilities in [0, 1], averaged over heads.

    The query latent is the latent frame that covers the frame of the queries.

    peak_cross: (N, F-1), largest probability among the tokens of each latent but the query latent, in order of time.
    peak_self: (N,), largest probability among the tokens of the query latent.
    peak_text: (N,), largest probability among the text tokens; NaN without text.
    sum_cross: (N,), total probability of all latents but the query latent.
    sum_self: (N,), total probability of the query latent.
    sum_text: (N,), total probability of the text; NaN without text. The three sums add up to 1.
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
    """Summarises where the attention of each query point goes.

    One softmax runs over all tokens, text and video; its result is averaged over heads, in float32. Source: DiffTrack
    (arXiv 2506.17220), confidence and attention; docs/protocol.md.

    Args:
        q: (H, F, h, w, d), queries as they enter the attention product; float32, bfloat16 or float16.
        k: (H, F, h, w, d), keys of the video tokens, on q's device.
        k_text: (H, n, d), keys of the text tokens; n may be 0.
        grid: the grid of the tokens, F x h x w.
        queries: (N, 2) raster pixels in `query_frame`, inside the frame; or `QueryPoints`. Keep them on the CPU in a
            hot loop.
        query_frame: the video frame of the queries; `QueryPoints` know theirs.
        variant: "corrected": the token under the query, without padded text. "difftrack": the token with row and column
            exchanged and rounded, with padded text. Or `Switches` (`lookup`, `pooling`).
        key_mask: (n,) bool, True for real text tokens, False for padding; None if all are real.

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
    """Looks up the tokens whose attention is summarised, once for all sites, as `query_points.locate_queries` does.

    Raises:
        UsageError: the queries are not (N, 2) positions inside the frame.
    """
    return query_points(queries, query_frame).locate_rows(grid, device, variant)


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
    sums: SharedSums | None = None,
    share: HeadShare = WHOLE,
) -> AttentionRows:
    """Computes `attention_rows` for queries that `locate_rows` looked up, without waiting for the device.

    sums: of q and k, which other calls with the same two tensors share; None for this call alone. share: which heads q
    and k hold; the mean is over the heads of all processes.

    Raises:
        UsageError: q, k, k_text or key_mask cannot be used; the message names it.
    """
    hidden = _check(q, k, k_text, key_mask, grid, variant)
    # the kernels find the peaks of a mean over heads, so they need all heads
    fused = fuse_rows(q, k, k_text, points, hidden, sums) if share.processes == 1 else None
    if fused is None:
        return _weigh(q, k, k_text, grid, points, hidden, share).summarise()
    return _read_segments(*fused, points)


def _read_segments(sums: Tensor, peaks: Tensor, points: QueryTokens) -> AttentionRows:
    """Converts sums and peaks of query tokens per segment, (U, 1 + F) with the text first, to a summary of queries."""
    own = points.latent
    sums, peaks = (value.index_select(0, points.index) for value in (sums, peaks))
    return AttentionRows(
        without_latent(peaks[:, 1:], own),
        peaks[:, 1 + own],
        peaks[:, 0],
        without_latent(sums[:, 1:], own).sum(1),
        sums[:, 1 + own],
        sums[:, 0],
    )


@dataclass(frozen=True)
class TokenWeights:
    """The attention of U query tokens to all n + F*P tokens, averaged over heads.

    text: (U, n), attention to the text tokens; n may be 0. video: (U, F, P), attention to the video tokens.
    points: the query tokens. hidden: (n,) bool, True for text tokens that are left out; None if none is.
    """

    text: Tensor
    video: Tensor
    points: QueryTokens
    hidden: Tensor | None

    @property
    def own(self) -> Tensor:
        """(U, P), the attention to the query latent."""
        return self.video[:, self.points.latent]

    @property
    def others(self) -> Tensor:
        """(U, F - 1, P), the attention to all other latents, in order of time."""
        return without_latent(self.video, self.points.latent)

    def summarise(self) -> AttentionRows:
        """Returns peaks and sums per segment, for every query point."""
        text, own, others = self.text, self.own, self.others
        none = torch.full_like(own[:, 0], math.nan)
        peak_text, sum_text = (text.amax(1), text.sum(1)) if text.shape[1] else (none, none)
        if self.hidden is not None and text.shape[1]:
            peak_text, sum_text = (value.masked_fill(self.hidden.all(), math.nan) for value in (peak_text, sum_text))
        read = (others.amax(2), own.amax(1), peak_text, others.sum((1, 2)), own.sum(1), sum_text)
        return AttentionRows(*(value.index_select(0, self.points.index) for value in read))

    def add(self, other: TokenWeights) -> TokenWeights:
        """Returns the sum of the weights of two sets of heads."""
        return replace(self, text=self.text + other.text, video=self.video + other.video)

    def divide(self, heads: int) -> TokenWeights:
        """Returns the mean over heads, if these weights are the sum over `heads` heads."""
        return replace(self, text=self.text / heads, video=self.video / heads)


@torch.no_grad()
def weigh_tokens(
    q: Tensor,
    k: Tensor,
    k_text: Tensor,
    grid: TokenGrid,
    points: QueryTokens,
    *,
    variant: Variant = "corrected",
    key_mask: Tensor | None = None,
    share: HeadShare = WHOLE,
) -> TokenWeights:
    """Computes the attention of query tokens to all tokens, without waiting for the device.

    share: which heads q and k hold; the mean is over the heads of all processes.

    Raises:
        UsageError: q, k, k_text or key_mask cannot be used; the message names it.
    """
    hidden = _check(q, k, k_text, key_mask, grid, variant)
    return _weigh(q, k, k_text, grid, points, hidden, share)


def _weigh(
    q: Tensor,
    k: Tensor,
    k_text: Tensor,
    grid: TokenGrid,
    points: QueryTokens,
    hidden: Tensor | None,
    share: HeadShare,
) -> TokenWeights:
    """Computes `weigh_tokens` for tensors that were checked, in plain torch."""
    with plain_precision(q.device):
        rows = share.add(_sum_rows(q[:, points.latent], k, k_text, points.tokens, hidden))
        rows /= q.shape[0] * share.processes
    text, video = rows[:, : k_text.shape[1]], rows[:, k_text.shape[1] :]
    return TokenWeights(text, video.reshape(len(rows), grid.frames, grid.tokens_per_frame), points, hidden)


def without_latent(values: Tensor, latent: int) -> Tensor:
    """Returns (U, F, ...) without one latent frame, (U, F - 1, ...)."""
    if not latent:
        return values[:, 1:]  # a view: these tensors may be large
    return torch.cat([values[:, :latent], values[:, latent + 1 :]], dim=1)


def _sum_rows(q: Tensor, k: Tensor, k_text: Tensor, tokens: Tensor, hidden: Tensor | None) -> Tensor:
    """Returns the softmax over all tokens, text first, summed over heads, (U, n + F*h*w) for U query tokens.

    q: (H, h, w, d), of the query latent. k: (H, F, h, w, d). hidden: (n,) bool, True for text tokens to leave out.
    """
    heads, text = q.shape[0], k_text.shape[1]
    width = text + math.prod(k.shape[1:4])
    total = torch.zeros(len(tokens), width, dtype=torch.float32, device=q.device)
    unused = torch.empty(1, 1, 1, dtype=torch.float32, device=q.device)
    for a, x in blocks(heads, len(tokens), width):
        left = q[a].flatten(1, 2).index_select(1, tokens[x]).float()
        right = torch.cat([k_text[a].float(), k[a].flatten(1, 3).float()], dim=1)
        # scaling after the product keeps half precision inputs exact, also where the device may use TF32
        logits = torch.baddbmm(unused, left, right.mT, beta=0, alpha=q.shape[-1] ** -0.5)
        if hidden is not None:
            logits[..., :text].masked_fill_(hidden, -math.inf)
        total[x] += logits.softmax(dim=-1).sum(dim=0)
    return total


def _check(
    q: Tensor, k: Tensor, k_text: Tensor, key_mask: Tensor | None, grid: TokenGrid, variant: Variant
) -> Tensor | None:
    """Checks tensors and mask; returns which text tokens are left out, (n,) bool on q's device, or None for none."""
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
        return None
    if not isinstance(key_mask, Tensor) or key_mask.dtype != torch.bool or key_mask.shape != k_text.shape[1:2]:
        raise UsageError(f"key_mask: expected a bool tensor of shape ({k_text.shape[1]},), got {describe(key_mask)}.")
    return ~key_mask.to(q.device) if switches_of(variant).pooling == "queries" else None
