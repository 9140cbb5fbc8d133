"""Attention of query tokens to segments of tokens: the text, and every frame."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vcorr.kernels.descriptors import as_argument, can_describe, take_tokens
from vcorr.kernels.tilings import Tiling, choose_tilings, cost_tilings, launch_first, needs_float32
from vcorr.kernels.token_sums import LOG2E, name_case, sum_frames


class SegmentRows(NamedTuple):
    """Attention of U query tokens to the segments, averaged over heads, (U, 1 + F): the text first, then every frame.

    sums: total probability. peaks: largest probability of a token. Without text, its segment is 0.
    """

    sums: Tensor
    peaks: Tensor


def weigh_segments(
    q: Tensor, k: Tensor, k_text: Tensor, tokens: Tensor, *, own: int, scale: float, hidden: Tensor | None
) -> SegmentRows:
    """Summarises one softmax over all tokens per segment.

    The sums need no second pass: the log-sum-exps of the segments give them.

    Args:
        q: (A, F, P, d), queries.
        k: (A, F, P, d), keys.
        k_text: (A, n, d), keys of the text; n may be 0.
        tokens: (U,) int64, the query tokens in frame `own`.
        own: the frame of the query tokens.
        scale: scale of the products.
        hidden: (n,) bool, True for text tokens that are left out; None for none.
    """
    masked = None if hidden is None else hidden.to(torch.uint8)
    mine, text = q[:, own : own + 1], k_text[:, None]
    video = sum_frames(mine, k, own=0, scale=scale, tokens=tokens, all_frames=True)
    parts = video
    if k_text.shape[1]:
        words = sum_frames(mine, text, own=0, scale=scale, tokens=tokens, all_frames=True, hidden=masked)
        parts = torch.cat([words, video], dim=1)
    sizes, sums = _share_segments(parts)
    peaks = torch.zeros(len(tokens), 1 + k.shape[1], dtype=torch.int32, device=q.device)
    _raise_peaks(peaks[:, 1:], mine, k, tokens, sizes, scale, None)
    if k_text.shape[1]:
        _raise_peaks(peaks[:, :1], mine, text, tokens, sizes, scale, masked)
    else:
        sums = torch.cat([torch.zeros_like(sums[:, :1]), sums], dim=1)
    return SegmentRows(sums, peaks.view(torch.float32) / q.shape[0])


def _share_segments(parts: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the log-sum-exp of all tokens, (A, U), and the share of each segment, (U, S). parts: (A, S, U)."""
    heads, segments, rows = parts.shape
    sizes = torch.empty(heads, rows, dtype=torch.float32, device=parts.device)
    shares = torch.empty(rows, segments, dtype=torch.float32, device=parts.device)
    if not rows:
        return sizes, shares
    from vcorr.kernels.device_results import share_kernel

    def start(tiling: Tiling) -> None:
        share_kernel[(-(-rows // tiling.rows),)](
            parts, sizes, shares, rows, heads, segments, padded=tiling.columns, block_rows=tiling.rows
        )

    padded = 1 << (segments - 1).bit_length()
    launch_first(f"shares {padded}", parts.device, [Tiling(32, padded, 0), Tiling(16, padded, 0)], start)
    return sizes, shares


def _raise_peaks(
    peaks: Tensor, q: Tensor, k: Tensor, tokens: Tensor, sizes: Tensor, scale: float, hidden: Tensor | None
) -> None:
    """Writes the bits of the largest sums over heads, (U, F), into `peaks`. q: (A, 1, P, d); k: (A, F, P', d)."""
    heads, frames, columns, width = k.shape
    rows = len(tokens)
    if not rows:
        return
    widen = needs_float32(q, k)
    described = can_describe(q, k)
    q_rows = take_tokens(q, q, tokens, 0)[0] if described else q
    from vcorr.kernels.device_peaks import peak_kernel

    def start(tiling: Tiling) -> None:
        peak_kernel[-(-rows // tiling.rows), -(-columns // tiling.columns), frames](
            as_argument(q_rows, tiling.rows, tiling.reach(width), described=described),
            as_argument(k, tiling.columns, tiling.reach(width), described=described),
            tokens,
            q if hidden is None else hidden,
            sizes,
            peaks,
            rows,
            columns,
            heads,
            width,
            scale * LOG2E,
            q.stride(0),
            q.stride(2),
            *k.stride()[:3],
            peaks.stride(0),
            masked=hidden is not None,
            described=described,
            **tiling.arguments(width, widen),
        )

    tilings = cost_tilings(width, described=described, products=1)
    case = name_case("peaks", width, widen, described=described)
    launch_first(case, q.device, choose_tilings(tilings, widen), start)
