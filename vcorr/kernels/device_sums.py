"""The program of the first pass: log-sum-exps of the scores of a token with all tokens of a frame."""

from __future__ import annotations

import triton
import triton.language as tl

from vcorr.kernels.device_tiles import COUNTS, add_products, load_described, load_tile


@triton.jit
def finite(peak):
    """Replaces both infinities by 0, so that the difference to a peak is never NaN.

    The peak is minus infinity where every column is hidden. It is plus infinity where a product overflows, and the sum
    is then infinite as well: a reverse softmax is 0 for all other tokens, as in plain torch.
    """
    return tl.where(tl.abs(peak) == float("inf"), 0.0, peak)


@triton.jit
def score_tile(
    left,
    left_tokens,
    left_stride,
    right,
    head,
    frame,
    first,
    columns,
    right_stride,
    hidden,
    scale,
    width,
    masked: tl.constexpr,
    ragged: tl.constexpr,
    described: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    step: tl.constexpr,
    whole: tl.constexpr,
    even: tl.constexpr,
    widen: tl.constexpr,
):
    """Returns scaled scores with the columns from `first` on, minus infinity beyond the end and where hidden.

    described: `right` is a descriptor of (A, F, P, d), and `head` and `frame` say which of its tokens are meant.
    """
    column = first + tl.arange(0, block_columns)
    inside = tl.minimum(column, columns - 1)
    scores = tl.zeros((block_rows, block_columns), tl.float32)
    if described:
        if whole:
            a = load_tile(left, left_tokens, left_stride, 0, width, step, even, widen)
            b = load_described(right, head, frame, first, 0, block_columns, step, widen)
            scores = tl.dot(a, tl.trans(b), scores, input_precision="ieee")
        else:
            for start in range(0, width, step):
                a = load_tile(left, left_tokens, left_stride, start, width, step, even, widen)
                b = load_described(right, head, frame, first, start, block_columns, step, widen)
                scores = tl.dot(a, tl.trans(b), scores, input_precision="ieee")
    else:
        scores = add_products(
            scores, left, left_tokens, left_stride, right, inside, right_stride, width, step, whole, even, widen
        )
    scores = scores * scale
    if ragged:
        scores = tl.where((column < columns)[None, :], scores, float("-inf"))
    if masked:
        scores = tl.where((tl.load(hidden + inside) != 0)[None, :], float("-inf"), scores)
    return scores


@triton.jit(do_not_specialize=COUNTS)
def sum_kernel(
    left,
    right,
    tokens,
    hidden,
    out,
    rows,
    columns,
    width,
    own,
    scale,
    left_head,
    left_frame,
    left_token,
    right_head,
    right_frame,
    right_token,
    out_head,
    out_job,
    moving_left: tl.constexpr,
    skip: tl.constexpr,
    gather: tl.constexpr,
    masked: tl.constexpr,
    described: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    step: tl.constexpr,
    whole: tl.constexpr,
    even: tl.constexpr,
    widen: tl.constexpr,
):
    """Writes out[head, job, row] = log2 of the sum over columns of 2^(scale * left · right).

    A job is a frame. moving_left: the left side is in the frame of the job and the right side in frame `own`, else the
    other way round. skip: `own` is no job. gather: rows are the entries of `tokens`, else all tokens. masked: `hidden`
    is nonzero for columns to leave out. described: `right` is a descriptor of (A, F, P, d), else a pointer.

    The reference of the exponentials is the peak of the first tile alone, which saves a rescaling per tile. It is exact
    unless a later score exceeds it by 2^127. This shows as infinity, and the program then runs with a running peak.
    """
    head = tl.program_id(2)
    job = tl.program_id(1)
    frame = job
    if skip:
        frame = job + (job >= own).to(tl.int32)
    mine = job * 0 + own
    if moving_left:
        moved = frame
        still = mine
    else:
        moved = mine
        still = frame
    # offsets of late frames in long videos need 64 bits
    left += head.to(tl.int64) * left_head + moved.to(tl.int64) * left_frame
    if not described:
        right += head.to(tl.int64) * right_head + still.to(tl.int64) * right_frame
    row = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    picked = tl.minimum(row, rows - 1)
    if gather:
        picked = tl.load(tokens + picked)
    full = (columns - 1) // block_columns
    # the last tile, which may be ragged, comes first: the loop then needs no mask
    x = score_tile(
        left, picked, left_token, right, head, still, full * block_columns, columns, right_token, hidden, scale, width,
        masked, True, described, block_rows, block_columns, step, whole, even, widen,
    )  # fmt: skip
    first_peak = tl.max(x, 1)
    first_total = tl.sum(tl.exp2(x - finite(first_peak)[:, None]), 1)
    peak = finite(first_peak)
    total = first_total
    for tile in range(full):
        x = score_tile(
            left, picked, left_token, right, head, still, tile * block_columns, columns, right_token, hidden, scale,
            width, masked, False, described, block_rows, block_columns, step, whole, even, widen,
        )  # fmt: skip
        total += tl.sum(tl.exp2(x - peak[:, None]), 1)
    if tl.sum((total == float("inf")).to(tl.int32), 0) > 0:
        total = first_total
        running = first_peak
        for tile in range(full):
            x = score_tile(
                left, picked, left_token, right, head, still, tile * block_columns, columns, right_token, hidden, scale,
                width, masked, False, described, block_rows, block_columns, step, whole, even, widen,
            )  # fmt: skip
            higher = tl.maximum(running, tl.max(x, 1))
            reference = finite(higher)
            total = total * tl.exp2(running - reference) + tl.sum(tl.exp2(x - reference[:, None]), 1)
            running = higher
        peak = finite(running)
    tl.store(out + head.to(tl.int64) * out_head + job * out_job + row, peak + tl.log2(total), mask=row < rows)
