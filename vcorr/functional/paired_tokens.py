"""The tokens of one latent frame and of several others, and their correlation in plain torch, all frames together.

The arithmetic is the one of `vcorr.functional.correlation`; only the order of sums differs, so results agree up to
rounding. Extra memory stays under 300 MB if `frames_at_once` says how many frames there are. It holds the float32
tokens of one head in these frames, which are taken to be under 100 MB.

Shapes: A heads that take part, P = h*w tokens of a frame, J other frames, U tokens, d width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

import torch
from torch import Tensor

from vcorr.functional.blocks import BLOCK, blocks
from vcorr.functional.correlation import scale_products
from vcorr.kernels.token_sums import merge_tokens

CACHED = 1 << 18
"""Number of elements of one intermediate matrix on a CPU: 1 MiB of float32 stays in the cache."""


def frames_at_once(tokens: int) -> int:
    """Returns the number of frames of `tokens` tokens whose correlation with another frame fits in one block."""
    return max(1, BLOCK // tokens**2)


@dataclass
class PairSums:
    """Log-sum-exps of the fused kernels over whole frames, (A, J, P), filled when needed.

    forward: of every token of the frame, over the tokens of another. reverse: the other way round.
    """

    forward: Tensor | None = None
    reverse: Tensor | None = None


@dataclass(frozen=True)
class PairedTokens:
    """The tokens of one site in a frame and in J others.

    left, right: (A, F, P, d), all frames of the pass; the same tensor twice if tokens match themselves. frames: of
    length 1 + J, the frame first. scale: of the dot products. symmetric: whether C has a reverse softmax. sums: what
    the fused kernels keep between two calls.
    """

    left: Tensor
    right: Tensor
    frames: tuple[int, ...]
    scale: float
    symmetric: bool
    sums: PairSums = field(default_factory=PairSums)

    @classmethod
    def of(
        cls, left: Tensor, right: Tensor, source: int, targets: Sequence[int], *, scale: float, symmetric: bool
    ) -> PairedTokens:
        """Takes the latent frames `source` and `targets` of tensors (A, F, h, w, d)."""
        own = merge_tokens(left)
        other = own if right is left else merge_tokens(right)
        return cls(own, other, (source, *targets), scale, symmetric)

    @property
    def others(self) -> int:
        """J, the number of other frames."""
        return len(self.frames) - 1

    @property
    def fits(self) -> bool:
        """Whether C of all tokens of the frame with all tokens of the others fits in one block."""
        return self.others * self.left.shape[2] ** 2 <= BLOCK

    @property
    def terms(self) -> int:
        """Number of softmaxes that C is the mean of: one per head and direction."""
        return len(self.left) * (2 if self.symmetric else 1)

    def take_frames(self) -> tuple[Tensor, Tensor]:
        """Returns the tokens of the frame and of the others, (A, 1 + J, P, d) twice: neighbours as views, else copies.

        The copies are not kept, since there may be many sites.
        """
        own = _take_frames(self.left, self.frames)
        return own, own if self.right is self.left else _take_frames(self.right, self.frames)

    def sum_rows(self, tokens: Tensor) -> Tensor:
        """Returns C of the frame's tokens (U,) with every other frame, (J, U, P), times `terms`."""
        left, right = self.take_frames()
        found = self._start(len(tokens), self.others * left.shape[2])
        _add_softmaxes(found, left[:, :1].index_select(2, tokens), right[:, 1:], self.scale)
        if self.symmetric:
            _add_softmaxes(found.T, left[:, 1:], right[:, :1], self.scale, columns=tokens)
        return found.reshape(len(tokens), self.others, left.shape[2]).transpose(0, 1)

    def sum_back_rows(self, tokens: Tensor) -> Tensor:
        """Returns C of tokens (J, U) of every other frame with the frame, (J, U, P), times `terms`."""
        left, right = self.take_frames()
        at = (tokens + _starts(self.others, left.shape[2], tokens.device)).flatten()
        found = self._start(len(at), left.shape[2])
        _add_softmaxes(found, left[:, 1:].flatten(1, 2).index_select(1, at)[:, None], right[:, :1], self.scale)
        if self.symmetric:
            _add_softmaxes(found.T, left[:, :1], right[:, 1:], self.scale, columns=at)
        return found.reshape(*tokens.shape, left.shape[2])

    def sum_whole(self) -> Tensor:
        """Returns symmetric C of all tokens, (P, J*P) with the frame's tokens as rows, times `terms`."""
        left, right = self.take_frames()
        found = self._start(left.shape[2], self.others * left.shape[2])
        _add_softmaxes(found, left[:, :1], right[:, 1:], self.scale)
        _add_softmaxes(found.T, left[:, 1:], right[:, :1], self.scale)
        return found

    def _start(self, rows: int, columns: int) -> Tensor:
        return torch.zeros(rows, columns, dtype=torch.float32, device=self.left.device)


@dataclass(frozen=True)
class WholePairs:
    """Symmetric C of all tokens of a frame with J others: its columns are the rows of the way back.

    costs: (P, J*P), the frame's tokens as rows. others: J.
    """

    costs: Tensor
    others: int

    def rows(self, tokens: Tensor) -> Tensor:
        """Returns C of the frame's tokens (U,) with every other frame, (J, U, P)."""
        return self.costs.index_select(0, tokens).reshape(len(tokens), self.others, len(self.costs)).transpose(0, 1)

    def back_rows(self, tokens: Tensor) -> Tensor:
        """Returns C of tokens (J, U) of every other frame with the frame, (J, U, P)."""
        at = tokens + _starts(self.others, len(self.costs), tokens.device)
        return self.costs.index_select(1, at.flatten()).T.reshape(*tokens.shape, len(self.costs))


def _add_softmaxes(total: Tensor, left: Tensor, right: Tensor, scale: float, columns: Tensor | None = None) -> None:
    """Adds to `total` the softmax of left·right over the right tokens of each frame, summed over heads, (R, C).

    left: (A, L, n, d), with R = L*n. right: (A, J, P, d), with C = J*P. columns: (U,) the only right tokens to add,
    (R, U); None for all.
    """
    (heads, frames, tokens, d), rows = right.shape, left.shape[1] * left.shape[2]
    width = frames * tokens
    scratch = _Scratch(left.device)
    for a, parts in groupby(blocks(heads, rows, width, _block(width, d, left.device)), key=itemgetter(0)):
        # the tokens of these heads alone are copied, once for all their rows
        own, theirs = (tensor[a].flatten(1, 2).float() for tensor in (left, right))
        for _, r in parts:
            logits, weights = scratch.take(torch.Size((len(own), r.stop - r.start, width)))
            scale_products(own[:, r], theirs, scale, out=logits)
            torch.softmax(logits.unflatten(2, (frames, -1)), -1, out=weights.unflatten(2, (frames, -1)))
            total[r] += (weights if columns is None else weights.index_select(2, columns)).sum(0)


def _block(width: int, d: int, device: torch.device) -> int:
    """Returns the number of elements of one intermediate matrix with `width` columns, products of `d` channels."""
    if device.type != "cpu":
        return BLOCK
    # with few rows, the time goes into reading the tokens again and again
    return min(BLOCK, max(CACHED, width * d // 4))


class _Scratch:
    """Two matrices that are used again and again: on a CPU, new memory costs more than what is computed in it."""

    def __init__(self, device: torch.device) -> None:
        self._flat = torch.empty(2, 0, dtype=torch.float32, device=device)

    def take(self, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Returns two matrices of one shape; their values are whatever they were."""
        if self._flat.shape[1] < shape.numel():
            self._flat = self._flat.new_empty(2, shape.numel())
        first, second = self._flat[:, : shape.numel()].unflatten(1, shape)
        return first, second


def _starts(frames: int, tokens: int, device: torch.device) -> Tensor:
    """Returns the index of the first token of each frame, (J, 1), where frames stand side by side."""
    return torch.arange(0, frames * tokens, tokens, device=device)[:, None]


def _take_frames(tokens: Tensor, frames: Sequence[int]) -> Tensor:
    """Returns frames of (A, F, P, d), ascending neighbours as a view."""
    first, last = frames[0], frames[-1]
    if tuple(frames) == tuple(range(first, last + 1)):
        return tokens[:, first : last + 1]
    return torch.stack([tokens[:, frame] for frame in frames], dim=1)  # indexing with a list waits for the device
