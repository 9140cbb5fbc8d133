"""The program that finds the largest attention weight per segment, after the mean over heads."""

from __future__ import annotations

import triton
import triton.language as tl

from vcorr.kernels.device_tiles import COUNTS, add_head, order_bits


@triton.jit(do_not_specialize=COUNTS)
def peak_kernel(
    q_rows,
    k,
    tokens,
    hidden,
    whole_sums,
    peaks,
    rows,
    columns,
    heads,
    width,
    scale,
    q_head,
    q_token,
    k_head,
    k_frame,
    k_token,
    peaks_row,
    masked: tl.constexpr,
    described: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    step: tl.constexpr,
    whole: tl.constexpr,
    even: tl.constexpr,
    widen: tl.constexpr,
):
    """Raises peaks[row, frame] to the largest mean over heads of 2^(scale * q · k - whole_sums[head, row]) in a tile.

    Peaks are the bits of float32 in int32: weights are not negative, so integers have their order. described: q_rows is
    a descriptor of the query tokens alone, (A, 1, U, d), and k is one of (A, F, P, d). Else both are pointers, and
    `tokens` says which tokens are meant.
    """
    frame = tl.program_id(2)
    top = tl.program_id(0) * block_rows
    row = top + tl.arange(0, block_rows)
    inside = tl.minimum(row, rows - 1)
    picked = tl.load(tokens + inside)
    left = tl.program_id(1) * block_columns
    first = left + tl.arange(0, block_columns)
    column = tl.minimum(first, columns - 1)
    at_row = whole_sums + inside
    total = tl.zeros((block_rows, block_columns), tl.float32)
    for head in range(heads):
        x = tl.zeros((block_rows, block_columns), tl.float32)
        x = add_head(
            x, q_rows, k, head, frame * 0, frame, picked, column, top, left, q_head, 0, q_token, k_head, k_frame,
            k_token, width, described, block_rows, block_columns, step, whole, even, widen,
        )  # fmt: skip
        total += tl.exp2(x * scale - tl.load(at_row)[:, None])
        at_row += rows
    shown = first < columns
    if masked:
        shown = shown & (tl.load(hidden + column) == 0)
    bits = tl.max(tl.where(shown[None, :], order_bits(total), 0), 1)
    largest = bits.to(tl.float32, bitcast=True) / heads  # keeps the order of the sums
    tl.atomic_max(peaks + row * peaks_row + frame, order_bits(largest), mask=row < rows, sem="relaxed")
