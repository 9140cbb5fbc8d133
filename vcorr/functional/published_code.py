"""The published DiffTrack code on tensors, quirk by quirk (docs/functional.md, docs/protocol.md).

Source: DiffTrack (arXiv 2506.17220) and its public code, which knows queries in frame 0 alone. For queries in another
frame every quirk means the same from the latent that covers that frame, here called frame 1 as well. Axes as in
`vcorr.functional.matching`: A heads that take part, U distinct query tokens, P = h*w tokens of a frame, d width of a
head, N query points, F latent frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vcorr.contract.geometry import TokenGrid
from vcorr.functional.blocks import MEAN, Piece, blocks
from vcorr.functional.query_points import QueryTokens, upload


@dataclass(frozen=True)
class RoundedCosts:
    """Rows of the correlation after its second softmax, everything rounded to the dtype of q.

    Rounded are: the dot products, their scaling, the softmax of every head, the mean over heads of either direction,
    the mean of the two directions, and the softmax of that over the tokens y of the target frame.

    q, k: (A, F, h, w, d). points: says the query tokens and their latent. symmetric False leaves the reverse
    direction out.
    """

    q: Tensor
    k: Tensor
    points: QueryTokens
    symmetric: bool
    scale: float

    @property
    def heads(self) -> int:
        """A, the heads that take part."""
        return self.q.shape[0]

    def pieces(self, frame: int, *, each: bool, with_mean: bool) -> Iterator[Piece]:
        """Rows of every query token: of each head by itself, of the mean over heads, or both."""
        everything = slice(None)
        if each:
            for head in range(self.heads):
                yield head, everything, self.correlation(frame, slice(head, head + 1)).softmax(dim=-1).float()
        if with_mean:
            yield MEAN, everything, self.correlation(frame, everything).softmax(dim=-1).float()

    def correlation(self, frame: int, heads: slice) -> Tensor:
        """(U, P) in q's dtype: C of the mean over `heads`, before the second softmax."""
        q, k = self.q[heads], self.k[heads]
        tokens, own = self.points.tokens, self.points.latent
        q1, k1, qj, kj = (tensor[:, j].flatten(1, 2) for j in (own, frame) for tensor in (q, k))
        forward = self._mean_softmax(q1.index_select(1, tokens), kj)
        if not self.symmetric:
            return forward
        reverse = self._mean_softmax(qj, k1, columns=tokens)
        return (forward + reverse.mT) / 2

    def _mean_softmax(self, left: Tensor, right: Tensor, columns: Tensor | None = None) -> Tensor:
        """Mean over heads of softmax(left·right), of which only the given columns are kept."""
        heads, rows, width = left.shape[0], left.shape[1], right.shape[1]
        kept = width if columns is None else len(columns)
        total = torch.zeros(rows, kept, dtype=torch.float32, device=left.device)
        for a, r in blocks(heads, rows, width):
            weights = (left[a, r] @ right[a].mT * self.scale).softmax(dim=-1)
            total[r] += (weights if columns is None else weights.index_select(-1, columns)).sum(0, dtype=torch.float32)
        return (total / heads).to(left.dtype)


@dataclass(frozen=True)
class FieldLanding:
    """Reads the field of matches off rows of C. positions: (P, 2) float32, token indices (column, row) times stride."""

    positions: Tensor

    @classmethod
    def of(cls, grid: TokenGrid, device: torch.device) -> FieldLanding:
        """The landing on `grid`."""
        rows, cols = np.divmod(np.arange(grid.tokens_per_frame), grid.cols)
        return cls(upload((np.stack([cols, rows], axis=-1) * np.array(grid.stride)).astype(np.float32), device))

    def offsets(self, cost: Tensor, tokens: Tensor) -> Tensor:
        """Where the best tokens of rows (..., U, P) are, (..., U, 2): the first of equals. NaN in a row gives NaN."""
        peak, best = cost.max(dim=-1)
        return self.positions[best].masked_fill(peak.isnan()[..., None], math.nan)


def sampled_field(field: Tensor, points: QueryTokens, weights: Tensor) -> Tensor:
    """The field (..., U, F, 2) sampled at the queries, (..., N, F, 2); in their own latent, the queries themselves.

    points.index, weights: (N, 4), the tokens beside each query and their bilinear weights, which add up to less than 1
    where the published code pads with zeros.
    """
    index = points.index
    beside = field.index_select(field.ndim - 3, index.flatten())
    beside = beside.reshape(*field.shape[:-3], *index.shape, *field.shape[-2:])
    sampled = (weights[..., None, None] * beside).sum(dim=-3)
    sampled[..., points.latent, :] = points.xy
    return sampled


def masked_after_softmax(q: Tensor, keys: Tensor, values: Tensor, kept: tuple[slice, slice]) -> Tensor:
    """Attention whose weights outside the two `kept` slices of keys are dropped and not normalised again.

    q: (H, n, d); keys, values: (H, m, d). Returns (H, n, d) in q's dtype, computed in float32.
    """
    out = torch.empty_like(q)
    for a, r in blocks(q.shape[0], q.shape[1], keys.shape[1]):
        weights = (q[a, r].float() @ keys[a].float().mT * q.shape[-1] ** -0.5).softmax(dim=-1)
        first, second = (weights[..., part] @ values[a, part].float() for part in kept)
        out[a, r] = (first + second).to(q.dtype)
    return out
