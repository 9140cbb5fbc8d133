"""The correlation of query tokens with the tokens of a frame, in plain torch (docs/protocol.md).

Shapes, as in `vcorr.functional.matching`: A heads that take part, U distinct query tokens, P = h*w tokens of a frame,
d width of a head. "Frame 1" is the latent that holds the query tokens, whichever it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vcorr.functional.blocks import MEAN, Piece, blocks, row_slices
from vcorr.functional.query_points import QueryTokens
from vcorr.functional.shared_sums import SharedSums


@dataclass(frozen=True)
class Costs:
    """The correlation C of the query tokens with all tokens of a frame, frame by frame and head by head.

    q, k: (A, F, h, w, d).
    points: the query tokens and their latent.
    softmax: False leaves the logits as they are.
    second_softmax: takes a softmax of C itself, in float32, as the published code does for tensors of float32.
    sums: of q and k. Objects with the same q and k can share it.
    """

    q: Tensor
    k: Tensor
    points: QueryTokens
    symmetric: bool
    scale: float
    softmax: bool = True
    second_softmax: bool = False
    sums: SharedSums = field(default_factory=SharedSums)

    @property
    def heads(self) -> int:
        """A, the number of heads that take part."""
        return self.q.shape[0]

    def pieces(self, frame: int, *, each: bool, with_mean: bool) -> Iterator[Piece]:
        """Yields C of all query tokens, up to a positive factor: of each head, of the mean over heads, or of both."""
        normaliser = self._share_sums(frame) if self.symmetric else None
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

    def _share_sums(self, frame: int) -> Tensor:
        what = ("plain, reverse", self.scale, self.points.latent, frame)
        return self.sums.once(what, lambda: self._sums(frame))

    def _sums(self, frame: int) -> Tensor:
        """Returns the log-sum-exp of qj(y)·k1(x) over the tokens x of frame 1, (A, P), for the reverse softmax."""
        q, k = self.q[:, frame].flatten(1, 2), self.k[:, self.points.latent].flatten(1, 2)
        heads, tokens, _ = q.shape
        total = torch.empty(heads, tokens, dtype=torch.float32, device=q.device)
        for a, y in blocks(heads, tokens, tokens):
            total[a, y] = torch.logsumexp(scale_products(q[a, y], k[a], self.scale), dim=-1)
        return total

    def _rows(self, frame: int, heads: slice, queries: slice, normaliser: Tensor | None) -> Tensor:
        """Returns C(x, y) of the given heads and query tokens, (A, U, P), before the mean over heads.

        If symmetric, it returns twice this value: the sum of both directions.
        """
        x, latent = self.points.tokens[queries], self.points.latent
        q1, k1 = (tensor[heads, latent].flatten(1, 2).index_select(1, x) for tensor in (self.q, self.k))
        qj, kj = (tensor[heads, frame].flatten(1, 2) for tensor in (self.q, self.k))
        logits = scale_products(q1, kj, self.scale)
        forward = torch.softmax(logits, dim=-1) if self.softmax else logits
        if normaliser is None:
            return forward
        # a tensor with itself has the same products both ways
        reverse = logits if self.q is self.k else scale_products(k1, qj, self.scale)
        reverse.sub_(normaliser[heads, None]).exp_()
        return forward.add_(reverse)


def scale_products(left: Tensor, right: Tensor, scale: float, *, out: Tensor | None = None) -> Tensor:
    """Returns the dot products of (A, U, d) and (A, P, d) times `scale`, (A, U, P) float32; written to `out` if given.

    Scaling after the product keeps bfloat16 and float16 inputs exact, also where the device may use TF32.
    """
    unused = torch.empty(1, 1, 1, dtype=torch.float32, device=left.device)
    return torch.baddbmm(unused, left.float(), right.float().mT, beta=0, alpha=scale, out=out)
