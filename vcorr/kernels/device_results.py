"""Programs that turn what the passes found into results, so that each result takes one launch."""

from __future__ import annotations

import triton
import triton.language as tl

from vcorr.kernels.device_tiles import COUNTS


@triton.jit(do_not_specialize=COUNTS)
def place_kernel(
    keys,
    tokens,
    index,
    xy,
    table,
    out,
    places,
    count,
    rows,
    jobs,
    own,
    moving: tl.constexpr,
    block: tl.constexpr,
):
    """Writes positions, out[slot, query, frame] = (x, y), from keys (slots, rows, jobs).

    table: (P, 2) positions of tokens. moving: query xy[query] reads the row index[query], and moves from its token
    tokens[row] to the best one. Else a query is a row, and its position is the one of the best token. Frame `own` has
    xy, or 0. A position is NaN where the peak is NaN.
    """
    place = tl.program_id(0) * block + tl.arange(0, block)
    ok = place < places
    frame = place % (jobs + 1)
    query = place // (jobs + 1) % count
    slot = place // (jobs + 1) // count
    still = frame == own
    row = query
    if moving:
        row = tl.load(index + query, mask=ok, other=0).to(tl.int32)
    job = frame - (frame > own).to(tl.int32)
    at = (slot.to(tl.int64) * rows + row) * jobs + job
    key = tl.load(keys + at, mask=ok & (frame != own), other=0)
    token = tl.where(ok & (frame != own), 0x7FFFFFFF - (key & 0x7FFFFFFF).to(tl.int32), 0)
    lost = (key >> 32).to(tl.int32) == 0x7FC00000
    x = tl.load(table + 2 * token)
    y = tl.load(table + 2 * token + 1)
    if moving:
        start = tl.load(tokens + row, mask=ok, other=0)
        x = x - tl.load(table + 2 * start)
        y = y - tl.load(table + 2 * start + 1)
    x = tl.where(still, 0.0, tl.where(lost, float("nan"), x))
    y = tl.where(still, 0.0, tl.where(lost, float("nan"), y))
    if moving:
        x = tl.load(xy + 2 * query, mask=ok, other=0.0) + x
        y = tl.load(xy + 2 * query + 1, mask=ok, other=0.0) + y
    to = out + 2 * place.to(tl.int64)
    tl.store(to, x, mask=ok)
    tl.store(to + 1, y, mask=ok)


@triton.jit(do_not_specialize=COUNTS)
def share_kernel(
    text,
    mine,
    others,
    whole_sums,
    shares,
    peaks,
    rows,
    heads,
    jobs,
    own,
    with_text: tl.constexpr,
    padded: tl.constexpr,
    together: tl.constexpr,
    block_rows: tl.constexpr,
):
    """Combines log-sum-exps of segments into one of all tokens, whole_sums[head, row].

    Segments are the text, and every frame: text[head, row], mine[head, row] of the frame `own`, and others[head, job,
    row] of all other frames. shares[row, segment] is the mean over heads of each segment's part of the probability.
    peaks[row, segment] is set to 0. A segment without tokens has minus infinity.

    together: heads that are read at once. Little is computed, so the time is the one of waiting for memory.
    """
    row = tl.program_id(0) * block_rows + tl.arange(0, block_rows)
    inside = row < rows
    segment = tl.arange(0, padded)
    frame = segment - 1
    job = frame - (frame > own).to(tl.int32)
    other = ((frame >= 0) & (frame != own) & (frame <= jobs))[None, :, None]
    total = tl.zeros((padded, block_rows), tl.float32)
    for first in range(0, heads, together):
        head = first + tl.arange(0, together)
        ok = (head < heads)[:, None] & inside[None, :]
        place = head[:, None] * rows + row[None, :]
        at = (head[:, None] * jobs + job[None, :])[:, :, None] * rows + row[None, None, :]
        part = tl.load(others + at, mask=other & ok[:, None, :], other=float("-inf"))
        one = tl.load(mine + place, mask=ok, other=float("-inf"))
        part = tl.where((frame == own)[None, :, None], one[:, None, :], part)
        if with_text:
            one = tl.load(text + place, mask=ok, other=float("-inf"))
            part = tl.where((segment == 0)[None, :, None], one[:, None, :], part)
        peak = tl.max(part, 1)
        peak = tl.where(peak == float("-inf"), 0.0, peak)
        whole = peak + tl.log2(tl.sum(tl.exp2(part - peak[:, None, :]), 1))
        tl.store(whole_sums + place, whole, mask=ok)
        total += tl.sum(tl.where(ok[:, None, :], tl.exp2(part - whole[:, None, :]), 0.0), 0)
    shown = (segment < jobs + 2)[:, None] & inside[None, :]
    to = row[None, :] * (jobs + 2) + segment[:, None]
    tl.store(shares + to, total / heads, mask=shown)
    tl.store(peaks + to, tl.zeros((padded, block_rows), tl.int32), mask=shown)


@triton.jit(do_not_specialize=COUNTS)
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
