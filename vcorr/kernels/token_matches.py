"""The second pass: the best token of every frame for each query token, and the mean position around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vcorr.kernels.descriptors import as_argument, can_describe, take_tokens
from vcorr.kernels.tilings import Tiling, choose_tilings, cost_tilings, launch_first, needs_float32
from vcorr.kernels.token_sums import LOG2E, name_case, sum_frames

WIDEST_WINDOW = 8
"""The largest radius of the fused read-out: 289 tokens, each read once more per head."""

WINDOW_WIDTH = 256
"""The widest vectors of the fused read-out around a token: they are kept whole."""

_UNSET = -(1 << 63)
_LARGEST = 0x7FFFFFFF


class Slots(NamedTuple):
    """Which correlations are wanted: of each head, of the mean over heads (the last slot), or both."""

    each: bool
    with_mean: bool

    def count(self, heads: int) -> int:
        """Returns the number of slots for `heads` heads."""
        return heads * self.each + self.with_mean


@dataclass(frozen=True)
class Sums:
    """What the first pass found. forward: (A, J, U), over the tokens of each frame; reverse: (A, J, P), or None."""

    forward: Tensor
    reverse: Tensor | None


@dataclass(frozen=True)
class Scores:
    """The scores of query tokens with all tokens of all other frames.

    q, k: (A, F, P, d). tokens: (U,) int64, the query tokens in frame `own`. scale: of the products. softmax: False
    compares raw products in one direction. symmetric: adds the reverse softmax.
    """

    q: Tensor
    k: Tensor
    tokens: Tensor
    own: int
    scale: float
    softmax: bool = True
    symmetric: bool = True

    @property
    def both(self) -> bool:
        """Says whether two directions are added."""
        return self.softmax and self.symmetric

    @property
    def same(self) -> bool:
        """Says whether q and k are one tensor, so that both directions share their products."""
        return self.q is self.k

    def take_rows(self) -> tuple[Tensor, Tensor]:
        """Returns the query tokens of q and of k, each (A, 1, U, d), contiguous."""
        return take_tokens(self.q, self.k, self.tokens, self.own)

    def sum_forward(self) -> Tensor:
        """Returns the sums over the tokens of each frame, (A, J, U)."""
        return sum_frames(self.q, self.k, own=self.own, scale=self.scale, tokens=self.tokens)

    def sum_reverse(self) -> Tensor:
        """Returns the sums over the tokens of the own frame, (A, J, P); they do not depend on the query tokens."""
        return sum_frames(self.q, self.k, own=self.own, scale=self.scale, moving_left=True)


TakeRows = Callable[[], tuple[Tensor, Tensor]]


def find_best(scores: Scores, sums: Sums | None, slots: Slots, take_rows: TakeRows | None = None) -> Tensor:
    """Finds the best token of each other frame for every query token, without writing a correlation to memory.

    It returns keys, (S, U, J) int64, for `place_queries`, `place_best`, `read_tokens` and `read_peaks`. Peaks are the
    correlation times the number of heads and directions that were added; raw products for no softmax.

    sums: of `scores`; None for no softmax. take_rows: returns `scores.take_rows()`, for callers that share the copies.
    """
    heads, frames, columns, width = scores.q.shape
    rows, jobs = len(scores.tokens), frames - 1
    keys = torch.full((slots.count(heads), rows, jobs), _UNSET, dtype=torch.int64, device=scores.q.device)
    if not keys.numel():
        return keys
    widen = needs_float32(scores.q, scores.k)
    # both directions of each head in one loop keep too many descriptors: pointers were faster on one H100
    described = can_describe(scores.q, scores.k) and not slots.each
    q_rows, k_rows = (take_rows or scores.take_rows)() if described else (scores.q, scores.k)
    from vcorr.kernels.device_costs import cost_kernel

    forward = scores.q if sums is None else sums.forward
    reverse = forward if sums is None or sums.reverse is None else sums.reverse

    def start(tiling: Tiling) -> None:
        far, near = ((size, tiling.reach(width)) for size in (tiling.columns, tiling.rows))
        cost_kernel[-(-rows // tiling.rows), -(-columns // tiling.columns), jobs](
            as_argument(scores.q, *far, described=described),
            as_argument(scores.k, *far, described=described),
            as_argument(q_rows, *near, described=described),
            as_argument(k_rows, *near, described=described),
            scores.tokens,
            forward,
            reverse,
            keys,
            rows,
            columns,
            heads,
            width,
            scores.own,
            scores.scale * LOG2E,
            *scores.q.stride()[:3],
            *scores.k.stride()[:3],
            keys.stride(0),
            softmax=scores.softmax,
            symmetric=scores.both,
            same=scores.same,
            each=slots.each,
            with_mean=slots.with_mean,
            described=described,
            **tiling.arguments(width, widen),
        )

    tilings = cost_tilings(width, described=described, products=2 if scores.both and not scores.same else 1)
    case = name_case("costs", width, widen, both=scores.both, same=scores.same, each=slots.each, described=described)
    launch_first(case, keys.device, choose_tilings(tilings, widen), start)
    return keys


def read_peaks(keys: Tensor) -> Tensor:
    """Returns the peaks of keys as float32: the correlation of the best tokens, or NaN."""
    ordered = (keys >> 32).to(torch.int32)
    return torch.where(ordered < 0, ordered ^ _LARGEST, ordered).view(torch.float32)


def read_tokens(keys: Tensor) -> Tensor:
    """Returns the best tokens of keys as int64, the lowest of equal ones."""
    return _LARGEST - (keys & _LARGEST)


def place_best(keys: Tensor, table: Tensor, own: int) -> Tensor:
    """Returns the positions of the best tokens in all frames, (S, U, F, 2); NaN where a peak is NaN.

    keys: of `find_best`. table: (P, 2) float32, the positions of the tokens of a frame. own: the frame of the query
    tokens, whose positions are 0.
    """
    return _place(keys, table, own, None)


def place_queries(keys: Tensor, table: Tensor, tokens: Tensor, own: int, index: Tensor, xy: Tensor) -> Tensor:
    """Returns the positions of queries that move as their tokens do, in all frames, (S, N, F, 2); NaN as above.

    tokens: (U,) int64, the query tokens in frame `own`. index: (N,) int64, which of them each query reads. xy: (N, 2)
    float32, the queries, which are their own positions in frame `own`.
    """
    return _place(keys, table, own, (tokens, index, xy))


def _place(keys: Tensor, table: Tensor, own: int, queries: tuple[Tensor, Tensor, Tensor] | None) -> Tensor:
    slots, rows, jobs = keys.shape
    tokens, index, xy = queries or (keys, keys, table)
    count = rows if queries is None else len(index)
    out = torch.empty(slots, count, jobs + 1, 2, dtype=torch.float32, device=keys.device)
    if not out.numel():
        return out
    from vcorr.kernels.device_results import place_kernel

    def start(tiling: Tiling) -> None:
        places = slots * count * (jobs + 1)
        place_kernel[(-(-places // tiling.columns),)](
            keys, tokens, index, xy, table, out, places, count, rows, jobs, own,
            moving=queries is not None, block=tiling.columns,
        )  # fmt: skip

    launch_first("place", out.device, (Tiling(0, 256, 0),), start)
    return out


class Window(NamedTuple):
    """The tokens within `radius` of a token (Chebyshev distance, at most `WIDEST_WINDOW`) on a grid of tokens."""

    radius: int
    grid_rows: int
    grid_columns: int


def refine_best(scores: Scores, sums: Sums, best: Tensor, slots: Slots, window: Window) -> Tensor:
    """Returns the offsets from the best tokens to the mean of their window, weighted by the correlation.

    best: (S, U, J) int64 tokens. The result is (S, U, J, 2), float32 in tokens, (columns, rows).
    """
    heads, frames, _, width = scores.q.shape
    rows, jobs = len(scores.tokens), frames - 1
    out = torch.empty(*best.shape, 2, dtype=torch.float32, device=scores.q.device)
    if not out.numel():
        return out
    from vcorr.kernels.device_window import window_kernel

    block = 1 << (width - 1).bit_length()
    reverse = sums.forward if sums.reverse is None else sums.reverse

    def start(tiling: Tiling) -> None:
        window_kernel[rows, jobs, len(out)](
            scores.q,
            scores.k,
            scores.tokens,
            best,
            sums.forward,
            reverse,
            out,
            rows,
            window.grid_rows,
            window.grid_columns,
            heads,
            width,
            scores.own,
            scores.scale * LOG2E,
            window.radius,
            *scores.q.stride()[:3],
            *scores.k.stride()[:3],
            symmetric=scores.both,
            each=slots.each,
            near=tiling.columns,
            block=block,
            even=width == block,
            num_warps=tiling.warps,
        )

    launch_first(f"window {width}", out.device, (Tiling(0, 32, 0), Tiling(0, 16, 0)), start)
    return out
