"""The program of the second pass: the correlation of a tile, summed over heads in registers, and its best columns."""

from __future__ import annotations

import triton
import triton.language as tl

from vcorr.kernels.device_tiles import COUNTS, add_head, keep_best


@triton.jit(do_not_specialize=COUNTS)
def cost_kernel(
    q,
    k,
    q_rows,
    k_rows,
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
    described: tl.constexpr,
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

    described: q and k are descriptors, q_rows and k_rows of the query tokens alone, (A, 1, U, d). Else all are
    pointers, and the latter are q and k again.
    """
    job = tl.program_id(2)
    jobs = tl.num_programs(2)
    frame = job + (job >= own).to(tl.int32)
    mine = job * 0 + own
    top = tl.program_id(0) * block_rows
    row = top + tl.arange(0, block_rows)
    row_ok = row < rows
    inside = tl.minimum(row, rows - 1)
    picked = tl.load(tokens + inside)
    first = tl.program_id(1) * block_columns
    column = tl.minimum(first + tl.arange(0, block_columns), columns - 1)
    at_row = forward + job * rows + inside
    at_column = reverse + job * columns + column
    at_best = best + row.to(tl.int64) * jobs + job
    total = tl.zeros((block_rows, block_columns), tl.float32)
    summed: tl.constexpr = not softmax and not each  # products of heads add up in place
    for head in range(heads):
        cost = tl.zeros((block_rows, block_columns), tl.float32)
        if summed:
            cost = total
        cost = add_head(
            cost, q_rows, k, head, mine, frame, picked, column, top, first, q_head, q_frame, q_token, k_head, k_frame,
            k_token, width, described, block_rows, block_columns, step, whole, even, widen,
        )  # fmt: skip
        if softmax:
            x = cost * scale
            cost = tl.exp2(x - tl.load(at_row)[:, None])
            if symmetric and same:
                cost += tl.exp2(x - tl.load(at_column)[None, :])
            if symmetric and each and not same:
                y = tl.zeros((block_rows, block_columns), tl.float32)
                y = add_head(
                    y, k_rows, q, head, mine, frame, picked, column, top, first, k_head, k_frame, k_token, q_head,
                    q_frame, q_token, width, described, block_rows, block_columns, step, whole, even, widen,
                )  # fmt: skip
                cost += tl.exp2(y * scale - tl.load(at_column)[None, :])
        if each:
            keep_best(cost, first, columns, at_best, row_ok, block_columns, described)
            at_best += best_head
        if summed:
            total = cost
        else:
            total += cost
        at_row += jobs * rows
        at_column += jobs * columns
    if symmetric and not each and not same:
        at_column -= heads * jobs * columns
        for head in range(heads):
            y = tl.zeros((block_rows, block_columns), tl.float32)
            y = add_head(
                y, k_rows, q, head, mine, frame, picked, column, top, first, k_head, k_frame, k_token, q_head, q_frame,
                q_token, width, described, block_rows, block_columns, step, whole, even, widen,
            )  # fmt: skip
            total += tl.exp2(y * scale - tl.load(at_column)[None, :])
            at_column += jobs * columns
    if with_mean:
        keep_best(total, first, columns, at_best, row_ok, block_columns, described)
