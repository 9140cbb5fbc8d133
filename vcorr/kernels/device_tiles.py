"""Programs on the GPU that all kernels share: loading tiles, products, exponentials, and the best column of a row.

A tile of scores has `block_rows` rows (tokens on the left) and `block_columns` columns (tokens on the right). Rows and
columns beyond the end repeat the last token; whoever reads a score masks them.
"""

from __future__ import annotations

import triton
import triton.language as tl


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
def order_bits(values):
    """Maps float32 to int32 so that larger values have larger integers; zeros are equal, and NaN is above infinity."""
    bits = tl.where(values == 0.0, 0.0, values).to(tl.int32, bitcast=True)
    bits = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return tl.where(values != values, 0x7FC00000, bits)  # noqa: PLR0124  NaN is what differs from itself


@triton.jit
def keep_best(values, first, at, row_ok, block_columns: tl.constexpr):
    """Raises the keys at `at` to the best column of each row.

    A key holds the ordered value above 32 bits and the inverted column below them. So the atomic maximum does not
    depend on the order of programs, and the lowest of equal columns wins. Columns beyond the end repeat the last token,
    so they never win.
    """
    column = first + tl.arange(0, block_columns)
    bits = order_bits(values)
    # two reductions take fewer registers than one that carries an index with every value
    top = tl.max(bits, 1)
    lowest = tl.min(tl.where(bits == top[:, None], column[None, :], 0x7FFFFFFF), 1)
    key = (top.to(tl.int64) << 32) | (0x7FFFFFFF - lowest).to(tl.int64)
    tl.atomic_max(at, key, mask=row_ok, sem="relaxed")
