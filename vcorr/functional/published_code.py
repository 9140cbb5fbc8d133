"""The published DiffTrack code on tensors, quirk by quirk (docs/functional.md, docs/protocol.md).

Source: DiffTrack (arXiv 2506.17220) and its public code, which only knows queries in frame 0. For queries in another
frame, every quirk applies in the same way from the latent that covers this frame, here called frame 1 as well.

Shapes, as in `vcorr.functional.matching`: A heads that take part, U distinct query tokens, P = h*w tokens of a frame.
d is the width of a head, N the number of query points, F the number of latent frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vcorr.contract.geometry import TokenGrid
from vcorr.functional.blocks import MEAN, Piece, blocks
from vcorr.functional.query_points import QueryTokens, upload


@dataclass(frozen=True)
class RoundedCosts:
    """The correlation after its second softmax, with every intermediate result rounded to the dtype of q.

    It rounds the dot products, their scaling, the softmax of every head, the mean over heads per direction, and the
    mean of both directions. It also rounds the second softmax, over the tokens y of the target frame.

    q, k: (A, F, h, w, d). points: the query tokens and their latent. symmetric: False leaves out the reverse direction.
    """

    q: Tensor
    k: Tensor
    points: QueryTokens
    symmetric: bool
    scale: float

    @property
    def heads(self) -> int:
        """A, the number of heads that take part."""
        return self.q.shape[0]

    def pieces(self, frame: int, *, each: bool, with_mean: bool) -> Iterator[Piece]:
        """Yields the correlation of all query tokens: of each head, of the mean over heads, or of both."""
        everything = slice(None)
        if each:
            for head in range(self.heads):
                yield head, everything, self.correlation(frame, slice(head, head + 1)).softmax(dim=-1).float()
        if with_mean:
            yield MEAN, everything, self.correlation(frame, everything).softmax(dim=-1).float()

    def correlation(self, frame: int, heads: slice) -> Tensor:
        """Returns C averaged over `heads`, (U, P) in q's dtype, before the second softmax."""
        q, k = self.q[heads], self.k[heads]
        tokens, own = self.points.tokens, self.points.latent
        q1, k1, qj, kj = (tensor[:, j].flatten(1, 2) for j in (own, frame) for tensor in (q, k))
        forward = self._mean_softmax(q1.index_select(1, tokens), kj)
        if not self.symmetric:
            return forward
        reverse = self._mean_softmax(qj, k1, columns=tokens)
        return (forward + reverse.mT) / 2

    def _mean_softmax(self, left: Tensor, right: Tensor, columns: Tensor | None = None) -> Tensor:
        """Returns the mean over heads of softmax(left·right), only the given columns."""
        heads, rows, width = left.shape[0], left.shape[1], right.shape[1]
        kept = width if columns is None else len(columns)
        total = torch.zeros(rows, kept, dtype=torch.float32, device=left.device)
        for a, r in blocks(heads, rows, width):
            weights = (left[a, r] @ right[a].mT * self.scale).softmax(dim=-1)
            total[r] += (weights if columns is None else weights.index_select(-1, columns)).sum(0, dtype=torch.float32)
        return (total / heads).to(left.dtype)


class Landed(NamedTuple):
    """What a landing reads from C (..., U, P). offsets: (..., U, 2) pixels. peak, best: (..., U), C and its token."""

    offsets: Tensor
    peak: Tensor
    best: Tensor


@dataclass(frozen=True)
class FieldLanding:
    """Reads the field of matches from C. positions: (P, 2) float32, token indices (column, row) times stride."""

    positions: Tensor

    @classmethod
    def of(cls, grid: TokenGrid, device: torch.device) -> FieldLanding:
        """Returns the landing for `grid`."""
        rows, cols = np.divmod(np.arange(grid.tokens_per_frame), grid.cols)
        return cls(upload((np.stack([cols, rows], axis=-1) * np.array(grid.stride)).astype(np.float32), device))

    def offsets(self, cost: Tensor, tokens: Tensor) -> Tensor:
        """Returns positions (..., U, 2) of the best tokens in C (..., U, P), the first of equal ones; NaN for NaN."""
        return self.land(cost, tokens).offsets

    def land(self, cost: Tensor, tokens: Tensor) -> Landed:
        """Returns `offsets`, and the peak and the best token of C (..., U, P)."""
        peak, best = cost.max(dim=-1)
        return Landed(self.positions[best].masked_fill(peak.isnan()[..., None], math.nan), peak, best)


def sample_field(field: Tensor, points: QueryTokens, weights: Tensor) -> Tensor:
    """Samples the field (..., U, F, 2) at the queries, (..., N, F, 2); in their own latent, it returns the queries.

    points.index, weights: (N, 4), the four tokens around each query and their bilinear weights. The weights add up to
    less than 1 where the published code pads with zeros.
    """
    index = points.index
    beside = field.index_select(field.ndim - 3, index.flatten())
    beside = beside.reshape(*field.shape[:-3], *index.shape, *field.shape[-2:])
    sampled = (weights[..., None, None] * beside).sum(dim=-3)
    sampled[..., points.latent, :] = points.xy
    return sampled


def mask_after_softmax(
    q: Tensor,
    keys: Tensor,
    values: Tensor,
    kept: tuple[slice, slice],
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Computes attention, dropping probabilities outside the two `kept` slices of keys without normalising again.

    q: (H, n, d); keys, values: (H, m, d). bias: (m,) float32, added to the logits. scale: of the logits; None for
    1/sqrt(d). Returns (H, n, d) in q's dtype, computed in float32.
    """
    out = torch.empty_like(q)
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    for a, r in blocks(q.shape[0], q.shape[1], keys.shape[1]):
        logits = q[a, r].float() @ keys[a].float().mT * factor
        weights = (logits if bias is None else logits + bias).softmax(dim=-1)
        first, second = (weights[..., part] @ values[a, part].float() for part in kept)
        out[a, r] = (first + second).to(q.dtype)
    return out
