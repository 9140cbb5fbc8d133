"""Matching kernels in plain torch (docs/protocol.md), for queries that were checked before.

Nothing here waits for the device or branches on a tensor's values. Intermediate matrices are built block by block, so
the extra memory stays under 300 MB, whatever the number of heads and tokens. All arithmetic is float32, except in the
published code's variant (`vcorr.functional.published_code`).

Shapes: A heads that take part, U distinct query tokens, P = h*w tokens of a frame, d width of a head. "Frame 1" is the
latent that holds the query tokens, whichever it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid, check_grid, is_positive
from vcorr.contract.variants import Switches, Variant, switches_of
from vcorr.functional.arguments import check_floats
from vcorr.functional.blocks import MEAN, Piece, blocks, check_tokens, plain_precision, row_slices
from vcorr.functional.published_code import FieldLanding, RoundedCosts, sample_field
from vcorr.functional.query_points import QueryTokens, upload

Heads = Literal["mean", "each"] | int | Sequence[int]


@dataclass(frozen=True)
class Reading:
    """One way to read positions from q and k.

    points: the queries, looked up for this variant (`vcorr.functional.query_points.locate_queries`).
    scale: scale of the dot products; None for the variant's own.
    """

    points: QueryTokens
    variant: Variant = "corrected"
    scale: float | None = None


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
    variant: Variant = "corrected",
    with_mean: bool = False,
) -> Tensor:
    """Computes `vcorr.functional.match` for queries that were looked up for the same variant.

    It does not wait for the device. with_mean: "each" returns (H + 1, N, F, 2), with the mean over all heads last. So
    index -1 is the mean, as in every table, and one pass computes both.

    Raises:
        UsageError: q, k or an option cannot be used; the message names it.
    """
    reading = Reading(points, variant, scale)
    return match_readings(q, k, grid, [reading], symmetric=symmetric, heads=heads, radius=radius, with_mean=with_mean)[
        0
    ]


def match_readings(
    q: Tensor,
    k: Tensor,
    grid: TokenGrid,
    readings: Sequence[Reading],
    *,
    symmetric: bool = True,
    heads: Heads = "mean",
    radius: int = 0,
    with_mean: bool = False,
) -> list[Tensor]:
    """Computes `match_tokens` for several readings of one q and k; each result equals the single one to the bit.

    The sums of the reverse softmax over whole frames do not depend on the query points. They are computed once per
    scale and latent of the queries. In half precision difftrack shares nothing, because it rounds intermediate results.

    Raises:
        UsageError: q, k or an option cannot be used; the message names it.
    """
    check_tokens("q", q, grid)
    check_tokens("k", k, grid)
    if k.shape != q.shape or k.device != q.device:
        raise UsageError(f"k: expected q's shape {tuple(q.shape)} on {q.device}, got {tuple(k.shape)} on {k.device}.")
    chosen = choose_heads(heads, q.shape[0])
    radius = _check_radius(radius)
    read_q = pick_heads(q, chosen)
    read_k = read_q if k is q else pick_heads(k, chosen)
    sums: dict[tuple[float, int], dict[int, Tensor]] = {}
    found = []
    for reading in readings:
        switches = switches_of(reading.variant)
        scale = resolve_scale(reading.scale, q, switches)
        shared = sums.setdefault((scale, reading.points.latent), {})
        costs = _costs(read_q, read_k, reading.points, symmetric, scale, switches, shared)
        landing = make_landing(grid, reading.points, radius, q.device)
        with plain_precision(q.device):
            offsets = _offsets(
                costs, landing, grid.frames, each=heads == "each", with_mean=with_mean or heads != "each"
            )
        found.append(to_positions(offsets, reading.points))
    return found


def match_feature_tokens(f: Tensor, grid: TokenGrid, points: QueryTokens, *, variant: Variant = "corrected") -> Tensor:
    """Computes `vcorr.functional.match_features` for queries that were looked up; does not wait for the device.

    Raises:
        UsageError: f does not fit the grid.
    """
    check_floats("f", f)
    check_grid(grid)
    if f.ndim != 4 or f.shape[:3] != (grid.frames, grid.rows, grid.cols) or not f.shape[3]:
        raise UsageError(
            f"f: expected shape (F, h, w, c) with ({grid.frames}, {grid.rows}, {grid.cols}) first, got "
            f"{tuple(f.shape)}."
        )
    # one head, one direction, no scaling
    if switches_of(variant).second_softmax:
        costs: Costs | RoundedCosts = RoundedCosts(f[None], f[None], points, symmetric=False, scale=1.0)
    else:  # the softmax is monotonic, so its argmax is the largest dot product
        costs = Costs(f[None], f[None], points, symmetric=False, scale=1.0, softmax=False)
    landing = make_landing(grid, points, 0, f.device)
    with plain_precision(f.device):
        offsets = _offsets(costs, landing, grid.frames, each=False, with_mean=True)
    return to_positions(offsets, points)


def choose_heads(heads: Heads, count: int) -> tuple[int, ...]:
    """Returns the indices, among `count` heads, of the heads that `heads` ("mean", "each", an int or ints) means.

    Raises:
        UsageError: the word is unknown, there is no head, or a head is given twice or does not exist.
    """
    if isinstance(heads, str):
        if heads not in ("mean", "each"):
            raise UsageError(f"heads: expected 'mean', 'each', a head or a tuple of heads, got {heads!r}.")
        return tuple(range(count))
    chosen = _indices(heads)
    if not chosen:
        raise UsageError(f"heads: expected 'mean', 'each', a head or a tuple of heads, got {heads!r}.")
    if len(set(chosen)) != len(chosen):
        raise UsageError(f"heads: {chosen} names a head twice.")
    if min(chosen) < 0 or max(chosen) >= count:
        raise UsageError(f"heads: {heads!r} is out of range: there are {count} heads, 0 to {count - 1}.")
    return chosen


def _indices(heads: int | Sequence[int]) -> tuple[int, ...]:
    """Returns head indices as a tuple; an empty one if a value is not an index."""
    several = heads if isinstance(heads, Sequence) else (heads,)
    if any(isinstance(head, bool) or not isinstance(head, (int, np.integer)) for head in several):
        return ()
    return tuple(int(head) for head in several)


def _costs(
    q: Tensor,
    k: Tensor,
    points: QueryTokens,
    symmetric: bool,
    scale: float,
    switches: Switches,
    sums: dict[int, Tensor],
) -> Costs | RoundedCosts:
    if switches.second_softmax and q.dtype != torch.float32:
        return RoundedCosts(q, k.to(q.dtype), points, symmetric, scale)
    return Costs(q, k, points, symmetric, scale, second_softmax=switches.second_softmax, sums=sums)


@dataclass(frozen=True)
class Costs:
    """The correlation C of the query tokens with all tokens of a frame, frame by frame and head by head.

    q, k: (A, F, h, w, d).
    points: the query tokens and their latent.
    softmax: False leaves the logits as they are.
    second_softmax: takes a softmax of C itself, in float32, as the published code does for tensors of float32.
    sums: the log-sum-exp of the reverse softmax by frame, filled when needed. Objects that differ in their tokens alone
    can share it.
    """

    q: Tensor
    k: Tensor
    points: QueryTokens
    symmetric: bool
    scale: float
    softmax: bool = True
    second_softmax: bool = False
    sums: dict[int, Tensor] = field(default_factory=dict)

    @property
    def heads(self) -> int:
        """A, the number of heads that take part."""
        return self.q.shape[0]

    def pieces(self, frame: int, *, each: bool, with_mean: bool) -> Iterator[Piece]:
        """Yields C of all query tokens, up to a positive factor: of each head, of the mean over heads, or of both."""
        if self.symmetric and frame not in self.sums:
            self.sums[frame] = self._sums(frame)
        normaliser = self.sums[frame] if self.symmetric else None
        tokens = self.q.shape[2] * self.q.shape[3]
        for x in row_slices(len(self.points.tokens), tokens):
            total: Tensor | None = None
            for a, _ in blocks(self.heads, x.stop - x.start, tokens):
                rows = self._rows(frame, a, x, normaliser)
                if each:
                    yield a, x, self._finish(rows, 1)
                if with_mean:
                    part = rows.sum(dim=0)
                    total = part if total is None else total.add_(part)
            if total is not None:
                yield MEAN, x, self._finish(total, self.heads)

    def _finish(self, rows: Tensor, heads: int) -> Tensor:
        """Applies the second softmax, if any. rows: C times the number of directions times `heads`."""
        if not self.second_softmax:
            return rows
        return torch.softmax(rows / (heads * (2 if self.symmetric else 1)), dim=-1)

    def _sums(self, frame: int) -> Tensor:
        """Returns the log-sum-exp of qj(y)·k1(x) over the tokens x of frame 1, (A, P), for the reverse softmax."""
        q, k = self.q[:, frame].flatten(1, 2), self.k[:, self.points.latent].flatten(1, 2)
        heads, tokens, _ = q.shape
        total = torch.empty(heads, tokens, dtype=torch.float32, device=q.device)
        for a, y in blocks(heads, tokens, tokens):
            total[a, y] = torch.logsumexp(self._logits(q[a, y], k[a]), dim=-1)
        return total

    def _rows(self, frame: int, heads: slice, queries: slice, normaliser: Tensor | None) -> Tensor:
        """Returns C(x, y) of the given heads and query tokens, (A, U, P), before the mean over heads.

        If symmetric, it returns twice this value: the sum of both directions.
        """
        x, latent = self.points.tokens[queries], self.points.latent
        q1, k1 = (tensor[heads, latent].flatten(1, 2).index_select(1, x) for tensor in (self.q, self.k))
        qj, kj = (tensor[heads, frame].flatten(1, 2) for tensor in (self.q, self.k))
        logits = self._logits(q1, kj)
        forward = torch.softmax(logits, dim=-1) if self.softmax else logits
        if normaliser is None:
            return forward
        reverse = logits if self.q is self.k else self._logits(k1, qj)  # a tensor with itself: the same products
        reverse.sub_(normaliser[heads, None]).exp_()
        return forward.add_(reverse)

    def _logits(self, left: Tensor, right: Tensor) -> Tensor:
        # scaling after the product keeps bfloat16 and float16 inputs exact, also where the device may use TF32
        unused = torch.empty(1, 1, 1, dtype=torch.float32, device=left.device)
        return torch.baddbmm(unused, left.float(), right.float().mT, beta=0, alpha=self.scale)


@dataclass(frozen=True)
class _Landing:
    """Reads positions from C. centres: (P, 2) pixels; rows, cols: (P,) int16, of every token of a frame."""

    centres: Tensor
    rows: Tensor
    cols: Tensor
    radius: int

    @classmethod
    def of(cls, grid: TokenGrid, radius: int, device: torch.device) -> _Landing:
        centres = upload(grid.centres, device)
        rows, cols = np.divmod(np.arange(grid.tokens_per_frame), grid.cols)
        reach = min(radius, max(grid.rows, grid.cols))  # no token is farther away, and int16 ends at 32767
        return cls(centres, upload(rows.astype(np.int16), device), upload(cols.astype(np.int16), device), reach)

    def offsets(self, cost: Tensor, tokens: Tensor) -> Tensor:
        """Returns the motion in pixels, (..., U, 2), that C (..., U, P) means for the query `tokens` (U,).

        Only the ratios for one query token matter, so C may have any positive factor. NaN in them gives NaN.
        """
        peak, best = cost.max(dim=-1)  # the first of equal values
        offsets = self.centres[best] - self.centres[tokens]
        if self.radius:
            offsets = offsets + self._refinement(cost, best)
        return offsets.masked_fill(peak.isnan()[..., None], math.nan)

    def _refinement(self, cost: Tensor, best: Tensor) -> Tensor:
        """Returns the offset from the best token's centre to the C-weighted mean of centres within `radius` tokens."""
        near = (self.rows - self.rows[best][..., None]).abs_() <= self.radius
        near &= (self.cols - self.cols[best][..., None]).abs_() <= self.radius
        weights = cost.where(near, 0.0)
        weights /= weights.sum(dim=-1, keepdim=True)
        # products and sums, not a matrix product: they are exact also where the device may use TF32
        return torch.stack(
            [(weights * (axis - axis[best][..., None])).sum(dim=-1) for axis in self.centres.unbind(-1)], dim=-1
        )


def _offsets(
    costs: Costs | RoundedCosts, landing: _Landing | FieldLanding, frames: int, *, each: bool, with_mean: bool
) -> Tensor:
    """Returns what the landing reads from C for every query token, in pixels; 0 in the latent of the queries.

    The shape is (U, F, 2) for the mean over heads and (A, U, F, 2) for `each` head. `with_mean` adds the mean to the
    heads as the last one.
    """
    lead = (costs.heads + with_mean,) if each else ()
    tokens, own = costs.points.tokens, costs.points.latent
    out = torch.zeros(*lead, len(tokens), frames, 2, dtype=torch.float32, device=costs.q.device)
    for frame in (frame for frame in range(frames) if frame != own):
        for a, x, cost in costs.pieces(frame, each=each, with_mean=with_mean):
            target = out[a] if each else out
            target[..., x, frame, :] = landing.offsets(cost, tokens[x])
    return out


def to_positions(offsets: Tensor, points: QueryTokens) -> Tensor:
    """Converts what a landing reads for distinct tokens, (..., U, F, 2), to positions of queries, (..., N, F, 2)."""
    if points.weights is not None:
        return sample_field(offsets, points, points.weights)
    return points.xy[:, None] + offsets.index_select(offsets.ndim - 3, points.index)


def make_landing(grid: TokenGrid, points: QueryTokens, radius: int, device: torch.device) -> _Landing | FieldLanding:
    """Returns what reads positions from C: its `offsets(cost, tokens)` gives (..., U, 2) for C (..., U, P).

    Raises:
        UsageError: a radius is given, and the points are sampled from a field.
    """
    if points.weights is None:
        return _Landing.of(grid, radius, device)
    if radius:
        raise UsageError(f"radius: the field read-out of difftrack takes no radius, got {radius}.")
    return FieldLanding.of(grid, device)


def pick_heads(tensor: Tensor, chosen: tuple[int, ...]) -> Tensor:
    """Returns the chosen heads of a tensor (H, ...), ascending neighbours as a view."""
    first, last = chosen[0], chosen[-1]
    if chosen == tuple(range(first, last + 1)):
        return tensor[first : last + 1]
    return torch.stack([tensor[head] for head in chosen])  # indexing with a list waits for the device


def _check_radius(radius: int) -> int:
    if isinstance(radius, bool) or not isinstance(radius, int) or radius < 0:
        raise UsageError(f"radius: expected a whole number of tokens of at least 0, got {radius!r}.")
    return radius


def resolve_scale(scale: float | None, q: Tensor, switches: Switches) -> float:
    """Returns the scale of the dot products of q (H, ..., d): the given one, or the one that the switches say.

    Raises:
        UsageError: the given scale is no positive number.
    """
    if scale is None:
        return float((q.shape[-1] if switches.scale == "width" else q.shape[0]) ** -0.5)
    if not is_positive(scale):
        raise UsageError(f"scale: expected a positive number or None for 1/sqrt(d), got {scale!r}.")
    return float(scale)
