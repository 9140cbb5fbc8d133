"""Processes that share the heads of a pass, played one after the other in one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from vcorr.functional.head_shares import HeadShare

T = TypeVar("T")


@dataclass(frozen=True)
class Played:
    """results: of each process. sums: what they have added up, in order, as it is after the addition."""

    results: list
    sums: list[Tensor]


def play(processes: int, compute: Callable[[HeadShare], T]) -> Played:
    """Runs `compute` for the share of each process: once to learn what it adds, and once more with the sums.

    It fails if the processes do not add up the same number of tensors, of the same shapes.
    """
    given: list[list[Tensor]] = [[] for _ in range(processes)]
    for rank, own in enumerate(given):
        compute(HeadShare(processes, partial(take, processes, rank), partial(_note, own)))
    sums = [torch.stack(parts).sum(0) for parts in zip(*given, strict=True)]
    results = []
    for rank in range(processes):
        left = iter(sums)
        results.append(compute(HeadShare(processes, partial(take, processes, rank), partial(_replace, left))))
        assert next(left, None) is None
    return Played(results, sums)


def take(processes: int, rank: int, whole: Tensor) -> Tensor:
    """Returns the heads of one process."""
    return whole.chunk(processes)[rank]


def _note(given, total):
    assert (total.dtype, total.is_contiguous()) == (torch.float32, True)
    given.append(total.clone())
    return total


def _replace(sums, total):
    return total.copy_(next(sums))
