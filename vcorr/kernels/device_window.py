"""The program of the refined read-out: the mean of centres around the best token, weighted by the correlation."""

from __future__ import annotations

import triton
import triton.language as tl

from vcorr.kernels.device_tiles import COUNTS, load_tile


@triton.jit
def dot_window(one, near, near_tokens, stride, width, block: tl.constexpr, even: tl.constexpr):
    """Returns the products of one token with some tokens nearby, in float32."""
    vector = load_tile(one, tl.zeros((1,), tl.int64), 0, 0, width, block, even, True)
    tile = load_tile(near, near_tokens, stride, 0, width, block, even, True)
    return tl.sum(tile * vector, 1)


@triton.jit
def sum_window(
    q_one,
    k_one,
    q_far,
    k_far,
    others,
    at_row,
    at_column,
    heads,
    jobs,
    rows,
    columns,
    width,
    scale,
    q_head,
    q_token,
    k_head,
    k_token,
    symmetric: tl.constexpr,
    near: tl.constexpr,
    block: tl.constexpr,
    even: tl.constexpr,
):
    """Returns the correlation of one query token with the tokens `others`, summed over heads, (near,)."""
    cost = tl.zeros((near,), tl.float32)
    for _ in range(heads):
        score = dot_window(q_one, k_far, others, k_token, width, block, even)
        cost += tl.exp2(score * scale - tl.load(at_row))
        if symmetric:
            score = dot_window(k_one, q_far, others, q_token, width, block, even)
            cost += tl.exp2(score * scale - tl.load(at_column + others))
        q_one += q_head
        k_one += k_head
        q_far += q_head
        k_far += k_head
        at_row += jobs * rows
        at_column += jobs * columns
    return cost


@triton.jit(do_not_specialize=COUNTS)
def window_kernel(
    q,
    k,
    tokens,
    best,
    forward,
    reverse,
    out,
    rows,
    grid_rows,
    grid_columns,
    heads,
    width,
    own,
    scale,
    radius,
    q_head,
    q_frame,
    q_token,
    k_head,
    k_frame,
    k_token,
    symmetric: tl.constexpr,
    each: tl.constexpr,
    near: tl.constexpr,
    block: tl.constexpr,
    even: tl.constexpr,
):
    """Writes out[slot, row, job] = offset (columns, rows) from the best token to the weighted mean of its window.

    One program per query token, job and slot. best: (slots, rows, jobs) int64 tokens. Slots are
    numbered as in the second pass. The window has (2 * radius + 1)^2 tokens, `near` at a time.
    """
    row = tl.program_id(0)
    job = tl.program_id(1)
    slot = tl.program_id(2)
    jobs = tl.num_programs(1)
    frame = (job + (job >= own).to(tl.int32)).to(tl.int64)
    mine = (job * 0 + own).to(tl.int64)  # offsets of late frames in long videos need 64 bits
    place = (slot * rows + row) * jobs + job
    top = tl.load(best + place).to(tl.int32)
    token = tl.load(tokens + row).to(tl.int64)
    skipped = slot * 0
    taken = skipped + heads
    if each:  # the slot after all heads is their mean
        skipped = tl.where(slot < heads, slot, 0)
        taken = tl.where(slot < heads, 1, heads)
    columns = grid_rows * grid_columns
    q_one = q + skipped.to(tl.int64) * q_head + mine * q_frame + token * q_token
    k_one = k + skipped.to(tl.int64) * k_head + mine * k_frame + token * k_token
    q_far = q + skipped.to(tl.int64) * q_head + frame * q_frame
    k_far = k + skipped.to(tl.int64) * k_head + frame * k_frame
    at_row = forward + (skipped * jobs + job) * rows + row
    at_column = reverse + (skipped * jobs + job) * columns
    side = 2 * radius + 1
    weight = tl.zeros((near,), tl.float32)
    across = tl.zeros((near,), tl.float32)
    down = tl.zeros((near,), tl.float32)
    for part in range(0, side * side, near):
        spot = part + tl.arange(0, near)
        dx = spot % side - radius
        dy = spot // side - radius
        x = top % grid_columns + dx
        y = top // grid_columns + dy
        ok = (spot < side * side) & (x >= 0) & (x < grid_columns) & (y >= 0) & (y < grid_rows)
        others = tl.where(ok, y * grid_columns + x, 0)
        cost = sum_window(
            q_one, k_one, q_far, k_far, others, at_row, at_column, taken, jobs, rows, columns, width, scale,
            q_head, q_token, k_head, k_token, symmetric, near, block, even,
        )  # fmt: skip
        cost = tl.where(ok, cost, 0.0)
        weight += cost
        across += cost * dx
        down += cost * dy
    total = tl.sum(weight, 0)
    tl.store(out + 2 * place, tl.sum(across, 0) / total)
    tl.store(out + 2 * place + 1, tl.sum(down, 0) / total)
