"""The program of the second pass: the correlation of a tile, summed over heads in registers, and its best columns."""

from __future__ import annotations

import triton
import triton.language as tl

from vcorr.kernels.device_tiles import add_products, keep_best


@triton.jit
def add_reverse(
    total,
    k_own,
    picked,
    k_token,
    q_far,
    column,
    q_token,
    at_column,
    width,
    scale,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    step: tl.constexpr,
    whole: tl.constexpr,
    even: tl.constexpr,
    widen: tl.constexpr,
):
    """Adds the reverse softmax of one head, 2^(scale * k · q - log-sum-exp of the column), to `total`."""
    y = tl.zeros((block_rows, block_columns), tl.float32)
    y = add_products(y, k_own, picked, k_token, q_far, column, q_token, width, step, whole, even, widen)
    return total + tl.exp2(y * scale - tl.load(at_column)[None, :])


@triton.jit
def cost_kernel(
    q,
    k,
    tokens,
    forward,
    reverse,
    best,
    rows,
    columns,
    heads,
    width,
    own,
    scale,
    q_head,
    q_frame,
    q_token,
    k_head,
    k_frame,
    k_token,
    best_head,
    softmax: tl.constexpr,
    symmetric: tl.constexpr,
    same: tl.constexpr,
    each: tl.constexpr,
    with_mean: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    step: tl.constexpr,
    whole: tl.constexpr,
    even: tl.constexpr,
    widen: tl.constexpr,
):
    """Raises best[slot, row, job] to the best column of a tile of query tokens x tokens of one frame.

    Slots are the heads, if `each`, and then their sum, if `with_mean`. forward[head, job, row] and reverse[head, job,
    column] are the log-sum-exps of the first pass. softmax: False compares raw products. same: q and k are one tensor,
    so both directions share their products. Without `each`, the directions have a loop of their own, because a shorter
    loop keeps more of its operands in flight.
    """
    job = tl.program_id(2)
    jobs = tl.num_programs(2)
    frame = (job + (job >= own).to(tl.int32)).to(tl.int64)
    mine = (job * 0 + own).to(tl.int64)  # offsets of late frames in long videos need 64 bits
    row = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    row_ok = row < rows
    inside = tl.minimum(row, rows - 1)
    picked = tl.load(tokens + inside)
    first = tl.program_id(1) * block_columns
    column = tl.minimum(first + tl.arange(0, block_columns), columns - 1)
    q_own = q + mine * q_frame
    k_own = k + mine * k_frame
    q_far = q + frame * q_frame
    k_far = k + frame * k_frame
    at_row = forward + job * rows + inside
    at_column = reverse + job * columns + column
    at_best = best + row.to(tl.int64) * jobs + job
    total = tl.zeros((block_rows, block_columns), tl.float32)
    for _ in range(heads):
        x = tl.zeros((block_rows, block_columns), tl.float32)
        x = add_products(x, q_own, picked, q_token, k_far, column, k_token, width, step, whole, even, widen)
        if softmax:
            x = x * scale
            cost = tl.exp2(x - tl.load(at_row)[:, None])
            if symmetric and same:
                cost += tl.exp2(x - tl.load(at_column)[None, :])
            if symmetric and each and not same:
                cost = add_reverse(
                    cost, k_own, picked, k_token, q_far, column, q_token, at_column, width, scale,
                    block_rows, block_columns, step, whole, even, widen,
                )  # fmt: skip
        else:
            cost = x
        if each:
            keep_best(cost, first, at_best, row_ok, block_columns)
            at_best += best_head
            if not same:
                k_own += k_head
                q_far += q_head
        total += cost
        q_own += q_head
        k_far += k_head
        at_row += jobs * rows
        at_column += jobs * columns
    if symmetric and not each and not same:
        at_column -= heads * jobs * columns
        for _ in range(heads):
            total = add_reverse(
                total, k_own, picked, k_token, q_far, column, q_token, at_column, width, scale,
                block_rows, block_columns, step, whole, even, widen,
            )  # fmt: skip
            k_own += k_head
            q_far += q_head
            at_column += jobs * columns
    if with_mean:
        keep_best(total, first, at_best, row_ok, block_columns)
