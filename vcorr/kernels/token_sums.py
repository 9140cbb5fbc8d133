"""The first pass: log-sum-exps of scores, per head, frame and token."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from vcorr.kernels.descriptors import as_argument, can_describe
from vcorr.kernels.tilings import DESCRIBED_SUMS, SUMS, Tiling, choose_tilings, launch_first, needs_float32

LOG2E = math.log2(math.e)

_FARTHEST = 1 << 31
"""Offsets of tokens within a frame have 32 bits in the kernels."""


def merge_tokens(tensor: Tensor) -> Tensor:
    """Returns (A, F, h, w, d) as (A, F, P, d), and copies only if tokens or channels are too scattered for a kernel."""
    merged = tensor.flatten(2, 3)
    tokens, width = merged.shape[2:]
    together = merged.stride(3) == 1 or width == 1
    return merged if together and tokens * merged.stride(2) + width < _FARTHEST else merged.contiguous()


def sum_frames(
    left: Tensor,
    right: Tensor,
    *,
    own: int,
    scale: float,
    moving_left: bool = False,
    tokens: Tensor | None = None,
    hidden: Tensor | None = None,
    all_frames: bool = False,
) -> Tensor:
    """Computes log2 of the sum over the right tokens of a frame of e^(scale * left · right).

    Args:
        left: (A, F, P, d), the tokens that keep their sums.
        right: (A, F, P', d), the tokens that are summed.
        own: the frame that does not move.
        scale: scale of the products, for exponentials with base e.
        moving_left: the left side is in the frame of the job and the right side in `own`, else the other way round.
        tokens: (U,) int64, the left tokens to read; None for all.
        hidden: (P',) uint8, nonzero for right tokens to leave out; None for none.
        all_frames: all frames of the moving side are jobs, else all but `own`.

    Returns:
        (A, J, U) float32; minus infinity where all tokens are hidden.
    """
    heads, frames = (left if moving_left else right).shape[:2]
    rows = left.shape[2] if tokens is None else len(tokens)
    jobs = frames if all_frames else frames - 1
    out = torch.empty(heads, jobs, rows, dtype=torch.float32, device=left.device)
    if not out.numel():
        return out
    widen, width = needs_float32(left, right), left.shape[3]
    described = can_describe(left, right)
    from vcorr.kernels.device_sums import sum_kernel

    def start(tiling: Tiling) -> None:
        sum_kernel[-(-rows // tiling.rows), jobs, heads](
            left,
            as_argument(right, tiling.columns, tiling.reach(width), described=described),
            left if tokens is None else tokens,
            left if hidden is None else hidden,
            out,
            rows,
            right.shape[2],
            width,
            own,
            scale * LOG2E,
            *left.stride()[:3],
            *right.stride()[:3],
            *out.stride()[:2],
            moving_left=moving_left,
            skip=not all_frames,
            gather=tokens is not None,
            masked=hidden is not None,
            described=described,
            **tiling.arguments(width, widen),
        )

    case = name_case("sums", width, widen, described=described)
    launch_first(case, left.device, choose_tilings(DESCRIBED_SUMS if described else SUMS, widen), start)
    return out


def name_case(kernel: str, width: int, widen: bool, **options: Any) -> str:
    """Returns a name of a kernel with everything that its need of memory depends on."""
    return f"{kernel} {width} {widen} {options}"
