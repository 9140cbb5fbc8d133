"""Rows of the correlation between a frame and several others, both ways, for callers that combine them further."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vcorr.kernels.tilings import COSTS, Tiling, choose_tilings, launch_first, needs_float32
from vcorr.kernels.token_sums import LOG2E, name_case


class RowSums(NamedTuple):
    """Log-sum-exps, as `sum_frames` gives them.

    rows: (A, J, n), of the tokens of the rows over the columns. by_token: n is every token of a frame, else the tokens
    that were asked for. columns: (A, J, P), of every token of the columns over the rows' frame; None for one way.
    """

    rows: Tensor
    by_token: bool
    columns: Tensor | None


def write_rows(
    q: Tensor, k: Tensor, tokens: Tensor, sums: RowSums, *, scale: float, share: float, back: bool = False
) -> Tensor:
    """Returns the correlation of tokens with all tokens of another frame, (J, U, P) float32.

    Args:
        q: (A, 1 + J, P, d), the frame first.
        k: (A, 1 + J, P, d); q itself if both directions share their products.
        tokens: (U,) int64, of the frame, which go to each of the J others. With `back`, (J, U) contiguous, of each
            other frame, which go to the frame.
        sums: of the rows and columns.
        scale: of the products.
        share: factor on the sum over heads and directions.
        back: exchanges the frame and the others.
    """
    heads, frames, columns, width = q.shape
    rows, jobs = tokens.shape[-1], frames - 1
    out = torch.empty(jobs, rows, columns, dtype=torch.float32, device=q.device)
    if not out.numel():
        return out
    widen, both = needs_float32(q, k), sums.columns is not None
    from vcorr.kernels.device_rows import row_kernel

    def start(tiling: Tiling) -> None:
        row_kernel[-(-rows // tiling.rows), -(-columns // tiling.columns), jobs](
            q,
            k,
            tokens,
            sums.rows,
            sums.rows if sums.columns is None else sums.columns,
            out,
            rows,
            columns,
            heads,
            width,
            rows if back else 0,
            sums.rows.shape[2],
            scale * LOG2E,
            share,
            *q.stride()[:3],
            *k.stride()[:3],
            back=back,
            symmetric=both,
            same=q is k,
            by_token=sums.by_token,
            **tiling.arguments(width, widen),
        )

    launch_first(name_case("rows", width, widen, both=both, same=q is k), q.device, choose_tilings(COSTS, widen), start)
    return out
