"""The program that writes rows of the correlation, for the tokens of one frame or of each of several."""

from __future__ import annotations

import triton
import triton.language as tl

from vcorr.kernels.device_tiles import COUNTS, add_products


@triton.jit(do_not_specialize=COUNTS)
def row_kernel(
    q,
    k,
    tokens,
    forward,
    reverse,
    out,
    rows,
    columns,
    heads,
    width,
    job_tokens,
    job_sums,
    scale,
    share,
    q_head,
    q_frame,
    q_token,
    k_head,
    k_frame,
    k_token,
    back: tl.constexpr,
    symmetric: tl.constexpr,
    same: tl.constexpr,
    by_token: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    step: tl.constexpr,
    whole: tl.constexpr,
    even: tl.constexpr,
    widen: tl.constexpr,
):
    """Writes out[job, row, column], the correlation summed over heads and directions, times `share`.

    Job j pairs frame 0 with frame j + 1. Rows are tokens of frame 0 and columns tokens of the other frame; back
    exchanges the two. Job j has the tokens from tokens[j * job_tokens] on. forward has the log-sum-exps of the rows,
    forward[head, job, i] with `job_sums` numbers per job: i is the token of the row if `by_token`, else the row.
    reverse[head, job, column] has the log-sum-exps of the columns. The directions have a loop of their own, as
    in `cost_kernel`.
    """
    job = tl.program_id(2)
    jobs = tl.num_programs(2)
    far = (job + 1).to(tl.int64)  # offsets of late frames in long videos need 64 bits
    row = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    inside = tl.minimum(row, rows - 1)
    picked = tl.load(tokens + job * job_tokens + inside)
    place = tl.program_id(1) * block_columns + tl.arange(0, block_columns)
    column = tl.minimum(place, columns - 1)
    q_near, k_near, q_far, k_far = q, k, q + far * q_frame, k + far * k_frame
    if back:
        q_near, k_near, q_far, k_far = q_far, k_far, q_near, k_near
    at_row = forward + job * job_sums + inside
    if by_token:
        at_row = forward + job * job_sums + picked
    at_column = reverse + job * columns + column
    total = tl.zeros((block_rows, block_columns), tl.float32)
    for _ in range(heads):
        x = tl.zeros((block_rows, block_columns), tl.float32)
        x = add_products(x, q_near, picked, q_token, k_far, column, k_token, width, step, whole, even, widen)
        x = x * scale
        total += tl.exp2(x - tl.load(at_row)[:, None])
        if symmetric and same:
            total += tl.exp2(x - tl.load(at_column)[None, :])
        q_near += q_head
        k_far += k_head
        at_row += jobs * job_sums
        if symmetric and same:
            at_column += jobs * columns
    if symmetric and not same:
        for _ in range(heads):
            y = tl.zeros((block_rows, block_columns), tl.float32)
            y = add_products(y, k_near, picked, k_token, q_far, column, q_token, width, step, whole, even, widen)
            total += tl.exp2(y * scale - tl.load(at_column)[None, :])
            k_near += k_head
            q_far += q_head
            at_column += jobs * columns
    at = out + (job.to(tl.int64) * rows + row)[:, None] * columns + place[None, :]
    tl.store(at, total * share, mask=(row < rows)[:, None] & (place < columns)[None, :])
