"""The tokens of one latent frame and of several others, and their correlation in plain torch, all frames together.

The arithmetic is the one of `vcorr.functional.correlation`; only the order of sums differs, so results agree up to
rounding. Extra memory stays under 300 MB if `frames_at_once` says how many frames there are.

Shapes: A heads that take part, P = h*w tokens of a frame, J other frames, U tokens, d width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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

    left, right: (A, 1 + J, P, d), the frame first; the same tensor twice if tokens match themselves. scale: of the dot
    products. symmetric: whether C has a reverse softmax. sums: what the fused kernels keep between two calls.
    """

    left: Tensor
    right: Tensor
    scale: float
    symmetric: bool
    sums: PairSums = field(default_factory=PairSums)

    @classmethod
    def of(
        cls, left: Tensor, right: Tensor, source: int, targets: Sequence[int], *, scale: float, symmetric: bool
    ) -> PairedTokens:
        """Takes the latent frames `source` and `targets` of tensors (A, F, h, w, d)."""
        frames = (source, *targets)
        own = _take_frames(merge_tokens(left), frames)
        other = own if right is left else _take_frames(merge_tokens(right), frames)
        return cls(own, other, scale, symmetric)

    @property
    def others(self) -> int:
        """J, the number of other frames."""
        return self.left.shape[1] - 1

    @property
    def terms(self) -> int:
        """Number of softmaxes that C is the mean of: one per head and direction."""
        return len(self.left) * (2 if self.symmetric else 1)

    def sum_rows(self, tokens: Tensor) -> Tensor:
        """Returns C of the frame's tokens (U,) with every other frame, (J, U, P), times `terms`."""
        left, right = self.left, self.right
        forward = _sum_softmaxes(left[:, 0].index_select(1, tokens), _side_by_side(right), self.scale, self.others)
        if self.symmetric:
            reverse = _sum_softmaxes(_side_by_side(left), right[:, 0], self.scale, columns=tokens)
            forward += reverse.T
        return forward.reshape(len(tokens), self.others, left.shape[2]).transpose(0, 1)

    def sum_back_rows(self, tokens: Tensor) -> Tensor:
        """Returns C of tokens (J, U) of every other frame, one way alone, with the frame, (J, U, P), times `terms`."""
        at = (tokens + _starts(self.others, self.left.shape[2], tokens.device)).flatten()
        chosen = _side_by_side(self.left).index_select(1, at)
        return _sum_softmaxes(chosen, self.right[:, 0], self.scale).reshape(*tokens.shape, self.right.shape[2])

    def sum_whole(self) -> Tensor:
        """Returns symmetric C of all tokens, (P, J*P) with the frame's tokens as rows, times `terms`."""
        left, right = self.left, self.right
        forward = _sum_softmaxes(left[:, 0], _side_by_side(right), self.scale, self.others)
        return forward.add_(_sum_softmaxes(_side_by_side(left), right[:, 0], self.scale).T)


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


def _sum_softmaxes(left: Tensor, right: Tensor, scale: float, frames: int = 1, columns: Tensor | None = None) -> Tensor:
    """Returns the softmax of left·right over the right tokens of each frame, summed over heads, (R, C) float32.

    left: (A, R, d). right: (A, C, d), the tokens of `frames` frames one after the other. columns: (U,) the only right
    tokens to return, (R, U); None for all.
    """
    heads, rows, width = left.shape[0], left.shape[1], right.shape[1]
    kept = width if columns is None else len(columns)
    total = torch.zeros(rows, kept, dtype=torch.float32, device=left.device)
    scratch = _Scratch(left.device)
    for a, r in blocks(heads, rows, width, CACHED if left.device.type == "cpu" else BLOCK):
        mine, theirs = left[a, r], right[a]
        shape = torch.Size((len(mine), mine.shape[1], width))
        logits, weights = scratch.take(shape)
        scale_products(mine, theirs, scale, out=logits)
        torch.softmax(logits.unflatten(2, (frames, -1)), -1, out=weights.unflatten(2, (frames, -1)))
        total[r] += (weights if columns is None else weights.index_select(2, columns)).sum(0)
    return total


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


def _side_by_side(tokens: Tensor) -> Tensor:
    """Returns the tokens of all frames but the first one after the other, (A, J*P, d). tokens: (A, 1 + J, P, d)."""
    return tokens[:, 1:].flatten(1, 2)


def _starts(frames: int, tokens: int, device: torch.device) -> Tensor:
    """Returns the index of the first token of each frame, (J, 1), where frames stand side by side."""
    return torch.arange(0, frames * tokens, tokens, device=device)[:, None]


def _take_frames(tokens: Tensor, frames: Sequence[int]) -> Tensor:
    """Returns frames of (A, F, P, d), ascending neighbours as a view."""
    first, last = frames[0], frames[-1]
    if tuple(frames) == tuple(range(first, last + 1)):
        return tokens[:, first : last + 1]
    return torch.stack([tokens[:, frame] for frame in frames], dim=1)  # indexing with a list waits for the device
