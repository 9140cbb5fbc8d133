"""Matching kernels in plain torch (PROTOCOL section 3), on queries that were checked before.

Nothing here waits for the device or branches on a tensor's values. Intermediate matrices are built block by block, so
that the extra memory stays under 300 MB whatever the number of heads and tokens. All arithmetic is float32.

Axes: A heads that take part, U distinct query tokens, P = h*w tokens of a frame, d width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vcorr.errors import UsageError
from vcorr.functional.queries import QueryTokens, upload
from vcorr.geometry import TokenGrid

Heads = Literal["mean", "each"] | int | Sequence[int]

BLOCK = 1 << 24
"""Elements of one intermediate matrix: 64 MiB of float32, of which at most four are alive at once."""


def match_tokens(
    q: Tensor,
    k: Tensor,
    grid: TokenGrid,
    points: QueryTokens,
    *,
    symmetric: bool = True,
    heads: Heads = "mean",
    radius: int = 0,
    scale: float | None = None,
) -> Tensor:
    """`vcorr.functional.match` on queries that were located before: no host synchronisation.

    Raises:
        UsageError: q, k or an option cannot be used; the message names it.
    """
    _check_tokens("q", q, grid)
    _check_tokens("k", k, grid)
    if k.shape != q.shape or k.device != q.device:
        raise UsageError(f"k: expected q's shape {tuple(q.shape)} on {q.device}, got {tuple(k.shape)} on {k.device}.")
    chosen = chosen_heads(heads, q.shape[0])
    costs = _Costs(_take_heads(q, chosen), _take_heads(k, chosen), points.tokens, symmetric, _checked_scale(scale, q))
    landing = _Landing.of(grid, _checked_radius(radius), q.device)
    with _plain_float32(q.device):
        offsets = _offsets(costs, landing, grid.frames, each=heads == "each")
    return _answers(offsets, points)


def match_feature_tokens(f: Tensor, grid: TokenGrid, points: QueryTokens) -> Tensor:
    """`vcorr.functional.match_features` on queries that were located before: no host synchronisation.

    Raises:
        UsageError: f does not fit the grid.
    """
    if not f.is_floating_point() or f.ndim != 4 or f.shape[:3] != (grid.frames, grid.rows, grid.cols):
        raise UsageError(
            f"f: expected a floating point tensor (F, h, w, c) with ({grid.frames}, {grid.rows}, {grid.cols}) first, "
            f"got {f.dtype} of shape {tuple(f.shape)}."
        )
    # one head, one way, unscaled: softmax rises with its logits, so its argmax is the largest dot product
    costs = _Costs(f[None], f[None], points.tokens, symmetric=False, scale=1.0, softmax=False)
    landing = _Landing.of(grid, 0, f.device)
    with _plain_float32(f.device):
        offsets = _offsets(costs, landing, grid.frames, each=False)
    return _answers(offsets, points)


def chosen_heads(heads: Heads, count: int) -> tuple[int, ...]:
    """The indices that `heads` ("mean", "each", an int or a tuple of them) means among `count` heads.

    Raises:
        UsageError: an unknown word, no head, a head twice, or a head that is not there.
    """
    if isinstance(heads, str):
        if heads not in ("mean", "each"):
            raise UsageError(f"heads: expected 'mean', 'each', a head or a tuple of heads, got {heads!r}.")
        return tuple(range(count))
    chosen = (heads,) if isinstance(heads, int) else tuple(heads)
    if not chosen or any(isinstance(head, bool) or not isinstance(head, int) for head in chosen):
        raise UsageError(f"heads: expected 'mean', 'each', a head or a tuple of heads, got {heads!r}.")
    if len(set(chosen)) != len(chosen):
        raise UsageError(f"heads: {chosen} names a head twice.")
    if min(chosen) < 0 or max(chosen) >= count:
        raise UsageError(f"heads: {heads!r} is out of range: there are {count} heads, 0 to {count - 1}.")
    return chosen


@dataclass(frozen=True)
class _Costs:
    """Rows of the correlation C of the query tokens, frame by frame and head by head.

    q, k: (A, F, h, w, d). tokens: (U,). softmax False leaves the logits as they are.
    """

    q: Tensor
    k: Tensor
    tokens: Tensor
    symmetric: bool
    scale: float
    softmax: bool = True

    @property
    def heads(self) -> int:
        return self.q.shape[0]

    def normaliser(self, frame: int) -> Tensor | None:
        """(A, P): log-sum-exp over the tokens x of frame 1 of qj(y)·k1(x), which the reverse softmax divides by."""
        if not self.symmetric:
            return None
        q, k = self.q[:, frame].flatten(1, 2), self.k[:, 0].flatten(1, 2)
        heads, tokens, _ = q.shape
        total = torch.empty(heads, tokens, dtype=torch.float32, device=q.device)
        for a, y in blocks(heads, tokens, tokens):
            total[a, y] = torch.logsumexp(self._logits(q[a, y], k[a]), dim=-1)
        return total

    def rows(self, frame: int, heads: slice, queries: slice, normaliser: Tensor | None) -> Tensor:
        """C(x, y), (A, U, P) of the given heads and query tokens before the mean over heads; symmetric, twice that."""
        x = self.tokens[queries]
        q1, k1 = (tensor[heads, 0].flatten(1, 2).index_select(1, x) for tensor in (self.q, self.k))
        qj, kj = (tensor[heads, frame].flatten(1, 2) for tensor in (self.q, self.k))
        forward = self._logits(q1, kj)
        if self.softmax:
            forward = torch.softmax(forward, dim=-1)
        if normaliser is None:
            return forward
        reverse = self._logits(k1, qj)
        reverse.sub_(normaliser[heads, None]).exp_()
        return forward.add_(reverse)

    def _logits(self, left: Tensor, right: Tensor) -> Tensor:
        # scaled after the product: bfloat16 and float16 inputs stay exact also where the device may use TF32
        unused = torch.empty(1, 1, 1, dtype=torch.float32, device=left.device)
        return torch.baddbmm(unused, left.float(), right.float().mT, beta=0, alpha=self.scale)


@dataclass(frozen=True)
class _Landing:
    """Reads positions off rows of C. centres: (P, 2) pixels; rows, cols: (P,) int16, of every token of a frame."""

    centres: Tensor
    rows: Tensor
    cols: Tensor
    radius: int

    @classmethod
    def of(cls, grid: TokenGrid, radius: int, device: torch.device) -> _Landing:
        centres = upload(grid.centres, device)
        rows, cols = np.divmod(np.arange(grid.tokens_per_frame), grid.cols)
        return cls(centres, upload(rows.astype(np.int16), device), upload(cols.astype(np.int16), device), radius)

    def offsets(self, cost: Tensor, tokens: Tensor) -> Tensor:
        """Motion in pixels, (..., U, 2), that rows (..., U, P) of C mean for the query `tokens`, (U,).

        Only ratios inside a row matter, so C may come with any positive factor. A row with NaN gives NaN.
        """
        peak, best = cost.max(dim=-1)  # the first one, if several are equal
        offsets = self.centres[best] - self.centres[tokens]
        if self.radius:
            offsets = offsets + self._refinement(cost, best)
        return offsets.masked_fill(peak.isnan()[..., None], math.nan)

    def _refinement(self, cost: Tensor, best: Tensor) -> Tensor:
        """From the centre of the best token to the C-weighted mean of the centres within `radius` tokens of it."""
        near = (self.rows - self.rows[best][..., None]).abs_() <= self.radius
        near &= (self.cols - self.cols[best][..., None]).abs_() <= self.radius
        weights = cost.where(near, 0.0)
        weights /= weights.sum(dim=-1, keepdim=True)
        # products and sums instead of a matrix product: exact also where the device is allowed to use TF32
        return torch.stack(
            [(weights * (axis - axis[best][..., None])).sum(dim=-1) for axis in self.centres.unbind(-1)], dim=-1
        )


def _offsets(costs: _Costs, landing: _Landing, frames: int, *, each: bool) -> Tensor:
    """Motion of every query token in pixels, (U, F, 2), or (A, U, F, 2) for `each` head by itself; 0 in frame 0."""
    queries, tokens = len(costs.tokens), len(landing.centres)
    lead = (costs.heads,) if each else ()
    out = torch.zeros(*lead, queries, frames, 2, dtype=torch.float32, device=costs.q.device)
    for frame in range(1, frames):
        normaliser = costs.normaliser(frame)
        if each:
            for a, x in blocks(costs.heads, queries, tokens):
                out[a, x, frame] = landing.offsets(costs.rows(frame, a, x, normaliser), costs.tokens[x])
        else:
            for _, x in blocks(1, queries, tokens):
                out[x, frame] = landing.offsets(_summed(costs, frame, x, tokens, normaliser), costs.tokens[x])
    return out


def _summed(costs: _Costs, frame: int, queries: slice, tokens: int, normaliser: Tensor | None) -> Tensor:
    """(U, P): C of the given query tokens summed over the heads."""
    total: Tensor | None = None
    for a, _ in blocks(costs.heads, queries.stop - queries.start, tokens):
        part = costs.rows(frame, a, queries, normaliser).sum(dim=0)
        total = part if total is None else total.add_(part)
    assert total is not None  # chosen_heads never returns none
    return total


def _answers(offsets: Tensor, points: QueryTokens) -> Tensor:
    """From motions of the distinct tokens, (..., U, F, 2), to positions of the queries, (..., N, F, 2)."""
    return points.xy[:, None] + offsets.index_select(offsets.ndim - 3, points.index)


def blocks(heads: int, rows: int, cols: int) -> Iterator[tuple[slice, slice]]:
    """Slices over heads and rows that cut heads x rows x cols into pieces of at most `BLOCK` elements.

    One row of one head is the smallest piece; whole heads are kept together where they fit.
    """
    row_step = max(1, min(rows, BLOCK // cols))
    head_step = max(1, min(heads, BLOCK // (row_step * cols)))
    return product(_slices(heads, head_step), _slices(rows, row_step))


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _take_heads(tensor: Tensor, chosen: tuple[int, ...]) -> Tensor:
    first, last = chosen[0], chosen[-1]
    if chosen == tuple(range(first, last + 1)):
        return tensor[first : last + 1]
    return torch.stack([tensor[head] for head in chosen])  # indexing with a list would wait for the device


def _check_tokens(name: str, value: Tensor, grid: TokenGrid) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise UsageError(f"{name}: expected a floating point torch tensor, got {kind}.")
    if value.ndim != 5 or value.shape[1:4] != (grid.frames, grid.rows, grid.cols) or 0 in value.shape:
        raise UsageError(
            f"{name}: expected shape (H, F, h, w, d) with ({grid.frames}, {grid.rows}, {grid.cols}) in the middle, got "
            f"{tuple(value.shape)}."
        )


def _checked_radius(radius: int) -> int:
    if isinstance(radius, bool) or not isinstance(radius, int) or radius < 0:
        raise UsageError(f"radius: expected a whole number of tokens of at least 0, got {radius!r}.")
    return radius


def _checked_scale(scale: float | None, q: Tensor) -> float:
    if scale is None:
        return float(q.shape[-1] ** -0.5)
    if not (math.isfinite(scale) and scale > 0):
        raise UsageError(f"scale: expected a positive number or None for 1/sqrt(d), got {scale!r}.")
    return float(scale)


def _plain_float32(device: torch.device) -> AbstractContextManager[object]:
    """Inside a model's forward pass autocast may be on: it would bring the products back to half precision."""
    return torch.autocast(device.type, enabled=False)
