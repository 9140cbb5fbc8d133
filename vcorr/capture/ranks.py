"""Finds the processes that share a forward pass under diffusers' Ulysses parallelism, and joins what each of them has.

Outside attention a process has some of the tokens, with all channels. Inside attention it has all tokens of some of the
heads. Process r of R has heads r*H/R to (r+1)*H/R - 1, and tokens in the same way. All processes join the same
tensors in the same order, so every process gets the whole tensors, bit for bit as its neighbours. What is a sum over
heads they add up instead (`Ranks.share`).

Shape legend: R processes, H heads, N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vcorr.capture.captures import TokenLayout
from vcorr.capture.modules import find
from vcorr.contract.errors import CaptureError
from vcorr.functional.head_shares import WHOLE, HeadShare


@dataclass(frozen=True)
class Ranks:
    """The processes that share each forward pass. count: R; 1 for one process. group: their group of torch.distributed.

    Every method is called by all of them, and waits for all of them; with one process it returns what it was given.
    """

    count: int = 1
    group: Any = None

    @property
    def share(self) -> HeadShare:
        """The heads of this process among all heads; all of them for one process."""
        return WHOLE if self.count == 1 else HeadShare(self.count, self._take, self._add)

    def join_heads(self, own: Tensor) -> Tensor:
        """Returns all heads, (H, ...), of a tensor with the heads of this process, (H/R, ...)."""
        return own if self.count == 1 else self._join(own)

    def join_tokens(self, own: Tensor, axis: int, total: int) -> Tensor:
        """Returns a tensor with all `total` tokens on an axis, if it has the share of this process; else as it is."""
        if self.count == 1 or own.shape[axis] * self.count != total:
            return own
        return self._join(own.movedim(axis, 0)).movedim(0, axis)

    def mean(self, own: Tensor) -> Tensor:
        """Returns the mean over the processes of a tensor that has the same shape in each of them."""
        return own if self.count == 1 else self._add(own.clone()) / self.count

    def _take(self, whole: Tensor) -> Tensor:
        """Returns the heads of this process, (H/R, ...), of a tensor with all heads."""
        return whole.chunk(self.count)[torch.distributed.get_rank(self.group)]

    def _add(self, total: Tensor) -> Tensor:
        """Adds a contiguous tensor over the processes, in place, and returns it."""
        torch.distributed.all_reduce(total, group=self.group)
        return total

    def _join(self, own: Tensor) -> Tensor:
        """Returns the tensors of all processes, one after the other along the first axis."""
        whole = own.new_empty(self.count * own.shape[0], *own.shape[1:])
        # torch 2.13 renamed the function, and warns under the old name
        names = ("all_gather_single", "all_gather_into_tensor")
        gather = next(getattr(torch.distributed, name) for name in names if hasattr(torch.distributed, name))
        gather(whole, own.contiguous(), group=self.group)
        return whole


ALONE = Ranks()
"""One process."""


def find_ranks(denoisers: Sequence[nn.Module], layout: TokenLayout) -> Ranks:
    """Returns the processes that share the passes of denoisers, as `enable_parallelism` of diffusers has set them up.

    Raises:
        CaptureError: the denoisers are shared in a way in which a process does not see all tokens of whole heads, or
            not in their order.
    """
    found = [_ranks_of(denoiser) for denoiser in denoisers]
    if len({ranks.count for ranks in found}) > 1:
        raise CaptureError(
            f"The denoisers are shared by different numbers of processes: {', '.join(str(r.count) for r in found)}.",
            hint="Call enable_parallelism() with the same configuration on each of them.",
        )
    ranks = found[0] if found else ALONE
    if ranks.count > 1 and layout.text != "none":
        raise CaptureError(
            "Text and video tokens are in one sequence, of which every process has a share. So their order in "
            "attention is another one than in one process.",
            hint="Read this model in one process.",
        )
    return ranks


def _ranks_of(denoiser: nn.Module) -> Ranks:
    config = getattr(find(denoiser, "")[0], "_parallel_config", None)
    context = getattr(config, "context_parallel_config", None)
    if context is None:
        return ALONE
    if context.ring_degree > 1 or context.ulysses_anything:
        raise CaptureError(
            "Under ring attention, and under Ulysses with uneven shares, a process does not see all tokens of whole "
            "heads, so its attention cannot be read.",
            hint="Use ContextParallelConfig(ulysses_degree=N) alone, with N that divides the heads and the tokens.",
        )
    return Ranks(context.ulysses_degree, context._ulysses_mesh.get_group())
