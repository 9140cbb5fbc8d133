"""Programs on the GPU that all kernels share: loading tiles, products, exponentials, and the best column of a row.

A tile of scores has `block_rows` rows (tokens on the left) and `block_columns` columns (tokens on the right). Rows and
columns beyond the end repeat the last token, or are zero; whoever reads a score masks them.
"""

from __future__ import annotations

import triton
import triton.language as tl

COUNTS = (
    *("rows", "columns", "heads", "own", "jobs", "places", "count", "grid_rows", "grid_columns", "radius"),
    *("job_tokens", "job_sums", "out_head", "out_job", "out_side", "best_head", "peaks_row"),
)
"""Numbers that a kernel is not compiled anew for: Triton would else do so if one is 1, or a multiple of 16."""


@triton.jit
def load_tile(base, tokens, stride, start, width, step: tl.constexpr, even: tl.constexpr, widen: tl.constexpr):
    """Loads channels `start` to `start + step` of some tokens, (tokens, step); zeros beyond `width`.

    even: `width` is a multiple of `step`, so nothing is beyond it. widen: converts to float32.
    """
    channels = start + tl.arange(0, step)
    at = base + tokens[:, None] * stride + channels[None, :]
    if even:
        tile = tl.load(at)
    else:
        tile = tl.load(at, mask=(channels < width)[None, :], other=0.0)
    if widen:
        tile = tile.to(tl.float32)
    return tile


@triton.jit
def add_products(
    scores,
    left,
    left_tokens,
    left_stride,
    right,
    right_tokens,
    right_stride,
    width,
    step: tl.constexpr,
    whole: tl.constexpr,
    even: tl.constexpr,
    widen: tl.constexpr,
):
    """Adds the dot products of tokens on the left and on the right to `scores`, in float32.

    whole: one step covers the width, so there is no loop and the compiler can overlap loads across heads.
    """
    if whole:
        a = load_tile(left, left_tokens, left_stride, 0, width, step, even, widen)
        b = load_tile(right, right_tokens, right_stride, 0, width, step, even, widen)
        scores = tl.dot(a, tl.trans(b), scores, input_precision="ieee")
    else:
        for start in range(0, width, step):
            a = load_tile(left, left_tokens, left_stride, start, width, step, even, widen)
            b = load_tile(right, right_tokens, right_stride, start, width, step, even, widen)
            scores = tl.dot(a, tl.trans(b), scores, input_precision="ieee")
    return scores


@triton.jit
def load_described(tokens, head, frame, first, start, block: tl.constexpr, step: tl.constexpr, widen: tl.constexpr):
    """Loads neighbouring tokens through a descriptor of (A, F, P, d), (block, step); zeros beyond the end."""
    tile = tl.reshape(tokens.load([head, frame, first, start]), (block, step))
    if widen:
        tile = tile.to(tl.float32)
    return tile


@triton.jit
def add_described(
    scores,
    near,
    far,
    head,
    frame,
    top,
    first,
    width,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    step: tl.constexpr,
    whole: tl.constexpr,
    widen: tl.constexpr,
):
    """Adds the dot products of query tokens from `top` on and of tokens of a frame from `first` on, as `add_products`.

    near, far: descriptors of (A, 1, U, d) and (A, F, P, d).
    """
    if whole:
        a = load_described(near, head, 0, top, 0, block_rows, step, widen)
        b = load_described(far, head, frame, first, 0, block_columns, step, widen)
        scores = tl.dot(a, tl.trans(b), scores, input_precision="ieee")
    else:
        for start in range(0, width, step):
            a = load_described(near, head, 0, top, start, block_rows, step, widen)
            b = load_described(far, head, frame, first, start, block_columns, step, widen)
            scores = tl.dot(a, tl.trans(b), scores, input_precision="ieee")
    return scores


@triton.jit
def add_head(
    scores,
    near,
    far,
    head,
    own,
    frame,
    tokens,
    columns,
    top,
    first,
    near_head,
    near_frame,
    near_token,
    far_head,
    far_frame,
    far_token,
    width,
    described: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    step: tl.constexpr,
    whole: tl.constexpr,
    even: tl.constexpr,
    widen: tl.constexpr,
):
    """Adds the dot products of query tokens and of tokens of a frame in one head.

    described: through descriptors (`add_described`). Else near and far are pointers to (A, F, P, d). `tokens` are in
    the frame `own`, and `columns` in `frame`.
    """
    if described:
        scores = add_described(
            scores, near, far, head, frame, top, first, width, block_rows, block_columns, step, whole, widen
        )
    else:
        # offsets of late frames in long videos need 64 bits
        one = frame.to(tl.int64) * 0 + head  # a number of Python in the interpreter
        near += one * near_head + own.to(tl.int64) * near_frame
        far += one * far_head + frame.to(tl.int64) * far_frame
        scores = add_products(
            scores, near, tokens, near_token, far, columns, far_token, width, step, whole, even, widen
        )
    return scores


@triton.jit
def order_bits(values):
    """Maps float32 to int32 so that larger values have larger integers; zeros are equal, and NaN is above infinity."""
    bits = tl.where(values == 0.0, 0.0, values).to(tl.int32, bitcast=True)
    bits = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return tl.where(values != values, 0x7FC00000, bits)  # noqa: PLR0124  NaN is what differs from itself


@triton.jit
def keep_best(values, first, columns, at, row_ok, block_columns: tl.constexpr, described: tl.constexpr):
    """Raises the keys at `at` to the best column of each row.

    A key holds the ordered value above 32 bits and the inverted column below them. So the atomic maximum does not
    depend on the order of programs, and the lowest of equal columns wins. Columns beyond the end never win: described,
    they are left out; else they count as the last token, which they repeat, maybe rounded differently.
    """
    column = first + tl.arange(0, block_columns)
    bits = order_bits(values)
    if described:
        bits = tl.where((column < columns)[None, :], bits, -0x80000000)
    else:
        column = tl.minimum(column, columns - 1)
    # two reductions take fewer registers than one that carries an index with every value
    top = tl.max(bits, 1)
    lowest = tl.min(tl.where(bits == top[:, None], column[None, :], 0x7FFFFFFF), 1)
    key = (top.to(tl.int64) << 32) | (0x7FFFFFFF - lowest).to(tl.int64)
    tl.atomic_max(at, key, mask=row_ok, sem="relaxed")
