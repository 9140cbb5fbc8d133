"""Attention of query tokens to segments of tokens: the text, and every frame."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vcorr.kernels.descriptors import as_argument, can_describe
from vcorr.kernels.tilings import Tiling, choose_tilings, cost_tilings, launch_first, needs_float32
from vcorr.kernels.token_matches import Scores, TakeRows
from vcorr.kernels.token_sums import LOG2E, name_case, sum_frames


class SegmentRows(NamedTuple):
    """Attention of U query tokens to the segments, averaged over heads, (U, 1 + F): the text first, then every frame.

    sums: total probability. peaks: largest probability of a token. Without text, its segment is 0.
    """

    sums: Tensor
    peaks: Tensor


def weigh_segments(
    scores: Scores,
    k_text: Tensor,
    *,
    hidden: Tensor | None,
    others: Tensor | None = None,
    take_rows: TakeRows | None = None,
) -> SegmentRows:
    """Summarises one softmax over all tokens per segment.

    The sums need no second pass: the log-sum-exps of the segments give them.

    Args:
        scores: of the query tokens with all tokens of the video.
        k_text: (A, n, d), keys of the text; n may be 0.
        hidden: (n,) bool, True for text tokens that are left out; None for none.
        others: `scores.sum_forward()`, if the caller has it.
        take_rows: returns `scores.take_rows()`, for callers that share the copies.
    """
    q, k, tokens, own = scores.q, scores.k, scores.tokens, scores.own
    masked = None if hidden is None else hidden.to(torch.uint8)
    mine, text = q[:, own : own + 1], k_text[:, None]
    parts = _Parts(
        _sum_one(scores, mine, text, masked) if k_text.shape[1] else None,
        _sum_one(scores, mine, k[:, own : own + 1], None),
        scores.sum_forward() if others is None else others,
    )
    whole, sums, peaks = _share_segments(parts, own)
    if len(tokens):
        copied = take_rows or scores.take_rows
        _raise_peaks(peaks[:, 1:], scores, k, whole, None, copied)
        if k_text.shape[1]:
            _raise_peaks(peaks[:, :1], scores, text, whole, masked, copied)
    return SegmentRows(sums, peaks.view(torch.float32))


def _sum_one(scores: Scores, mine: Tensor, keys: Tensor, hidden: Tensor | None) -> Tensor:
    """Returns the log-sum-exps over one segment, (A, 1, U). mine: (A, 1, P, d), the frame of the query tokens."""
    return sum_frames(mine, keys, own=0, scale=scores.scale, tokens=scores.tokens, all_frames=True, hidden=hidden)


class _Parts(NamedTuple):
    """Log-sum-exps of the segments: of the text (A, 1, U) or None, of the own frame (A, 1, U), of others (A, J, U)."""

    text: Tensor | None
    own: Tensor
    others: Tensor


def _share_segments(parts: _Parts, own: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the log-sum-exp of all tokens, (A, U), the share of each segment, (U, 1 + F), and as many zeros."""
    heads, jobs, rows = parts.others.shape
    whole = torch.empty(heads, rows, dtype=torch.float32, device=parts.own.device)
    shares = torch.empty(rows, 2 + jobs, dtype=torch.float32, device=whole.device)
    peaks = torch.empty(rows, 2 + jobs, dtype=torch.int32, device=whole.device)
    if not rows:
        return whole, shares, peaks
    from vcorr.kernels.device_results import share_kernel

    def start(tiling: Tiling) -> None:
        share_kernel[(-(-rows // tiling.rows),)](
            parts.own if parts.text is None else parts.text,
            parts.own,
            parts.others,
            whole,
            shares,
            peaks,
            rows,
            heads,
            jobs,
            own,
            with_text=parts.text is not None,
            padded=tiling.columns,
            together=tiling.step,
            block_rows=tiling.rows,
        )

    padded = 1 << (1 + jobs).bit_length()
    together = max(1, min(8, 256 // padded))  # of more segments, a program could not keep as many heads in registers
    launch_first(f"shares {padded}", whole.device, [Tiling(8, padded, together), Tiling(4, padded, 1)], start)
    return whole, shares, peaks


def _raise_peaks(
    peaks: Tensor, scores: Scores, k: Tensor, whole: Tensor, hidden: Tensor | None, take_rows: TakeRows
) -> None:
    """Writes the bits of the largest means over heads, (U, F), into `peaks`. k: (A, F, P', d)."""
    heads, frames, columns, width = k.shape
    q, rows = scores.q[:, scores.own : scores.own + 1], len(scores.tokens)
    widen = needs_float32(q, k)
    described = can_describe(q, k)
    q_rows = take_rows()[0] if described else q
    from vcorr.kernels.device_peaks import peak_kernel

    def start(tiling: Tiling) -> None:
        peak_kernel[-(-rows // tiling.rows), -(-columns // tiling.columns), frames](
            as_argument(q_rows, tiling.rows, tiling.reach(width), described=described),
            as_argument(k, tiling.columns, tiling.reach(width), described=described),
            scores.tokens,
            q if hidden is None else hidden,
            whole,
            peaks,
            rows,
            columns,
            heads,
            width,
            scores.scale * LOG2E,
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
