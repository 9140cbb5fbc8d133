"""Programs that turn what the passes found into results, so that each result takes one launch."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def place_kernel(
    keys,
    tokens,
    table,
    out,
    count,
    rows,
    jobs,
    own,
    frames,
    relative: tl.constexpr,
    block: tl.constexpr,
):
    """Writes positions of the best tokens, (slots, rows, frames, 2), from keys (slots, rows, jobs).

    A position is NaN where the peak is NaN.

    table: (P, 2) positions of tokens. relative: subtracts the position of the query token. Frame
    `own` is left as it is.
    """
    place = tl.program_id(0) * block + tl.arange(0, block)
    ok = place < count
    key = tl.load(keys + place, mask=ok, other=0)
    token = 0x7FFFFFFF - (key & 0x7FFFFFFF).to(tl.int32)
    token = tl.where(ok, token, 0)
    lost = (key >> 32).to(tl.int32) == 0x7FC00000
    row = place // jobs
    job = place % jobs
    at = out + 2 * (row.to(tl.int64) * frames + job + (job >= own).to(tl.int32))
    x = tl.load(table + 2 * token)
    y = tl.load(table + 2 * token + 1)
    if relative:
        start = tl.load(tokens + row % rows, mask=ok, other=0)
        x -= tl.load(table + 2 * start)
        y -= tl.load(table + 2 * start + 1)
    tl.store(at, tl.where(lost, float("nan"), x), mask=ok)
    tl.store(at + 1, tl.where(lost, float("nan"), y), mask=ok)


@triton.jit
def share_kernel(
    parts,
    whole_sums,
    shares,
    rows,
    heads,
    segments,
    padded: tl.constexpr,
    block_rows: tl.constexpr,
):
    """Combines log-sum-exps of segments, parts[head, segment, row], into one of all tokens, whole_sums[head, row].

    shares[row, segment] is the mean over heads of each segment's part of the probability. Segments without tokens have
    minus infinity.
    """
    row = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    segment = tl.arange(0, padded)
    ok = (segment < segments)[:, None] & (row < rows)[None, :]
    at = parts + segment[:, None] * rows + row[None, :]
    total = tl.zeros((padded, block_rows), tl.float32)
    for head in range(heads):
        part = tl.load(at, mask=ok, other=float("-inf"))
        peak = tl.max(part, 0)
        peak = tl.where(peak == float("-inf"), 0.0, peak)
        whole = peak + tl.log2(tl.sum(tl.exp2(part - peak[None, :]), 0))
        tl.store(whole_sums + head * rows + row, whole, mask=row < rows)
        total += tl.exp2(part - whole[None, :])
        at += segments * rows
    tl.store(shares + row[None, :] * segments + segment[:, None], total / heads, mask=ok)


@triton.jit
def take_kernel(
    q,
    k,
    tokens,
    out,
    rows,
    width,
    q_head,
    q_token,
    k_head,
    k_token,
    out_side,
    block_rows: tl.constexpr,
    step: tl.constexpr,
):
    """Copies query tokens into out[side, head, row], contiguous. side: of q or k, which begin at their frame."""
    row = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    head = tl.program_id(1)
    inside = row < rows
    token = tl.load(tokens + row, mask=inside, other=0)
    at = q + head.to(tl.int64) * q_head + token * q_token
    if tl.program_id(2) > 0:
        at = k + head.to(tl.int64) * k_head + token * k_token
    to = out + tl.program_id(2).to(tl.int64) * out_side + (head.to(tl.int64) * rows + row) * width
    for start in range(0, width, step):
        channel = start + tl.arange(0, step)
        ok = inside[:, None] & (channel < width)[None, :]
        tl.store(to[:, None] + channel[None, :], tl.load(at[:, None] + channel[None, :], mask=ok), mask=ok)
