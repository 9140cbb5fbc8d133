"""The heads of one process among several that share a pass, and the sum over the heads of all of them.

A correlation that is a mean over heads is a sum of what each process computes for its own heads. All processes add
these sums up, and read positions from the total.

Shape legend: R processes, H heads of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def _same(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class HeadShare:
    """Which of all heads a tensor holds: in process r of R, the heads r*H/R to (r+1)*H/R - 1.

    processes: R; 1 if the tensor holds all heads. take: returns the heads of this process from a tensor with all of
    them, (H, ...). add: adds a contiguous float32 tensor over all processes, in place, and returns it. Every process
    calls it, with tensors of one shape, in the same order.
    """

    processes: int = 1
    take: Callable[[Tensor], Tensor] = _same
    add: Callable[[Tensor], Tensor] = _same


WHOLE = HeadShare()
"""All heads, in one process."""
