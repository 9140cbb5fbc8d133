"""Joins the processes that train one model together, one per GPU, as ``torchrun`` starts them.

Every rank draws its own videos, and the gradients are averaged. The ranks begin with the same weights and make the
same steps, so their weights stay equal. Rank 0 alone logs, measures and saves, and its clock decides when all stop.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from torch import Tensor, distributed

from vcorr import UsageError

TIMEOUT = timedelta(minutes=30)
"""Longest wait for another rank: rank 0 measures and saves while the others wait."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; alone by default, and then no method communicates."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def first(self) -> bool:
        """Whether this process is the one that logs, measures and saves."""
        return self.rank == 0

    @property
    def look_every(self) -> int:
        """Steps between two looks at the clock; ranks look seldom, because each look waits for the device."""
        return 1 if self.count == 1 else 10

    def share(self, total: int) -> int:
        """Returns the number of ``total`` videos that each rank takes.

        Raises:
            UsageError: the ranks cannot share them equally.
        """
        if total % self.count:
            raise UsageError(
                f"{total} videos cannot be shared by {self.count} processes.", hint=f"Take a multiple of {self.count}."
            )
        return total // self.count

    def broadcast(self, values: Sequence[float]) -> list[float]:
        """Returns the values of rank 0 on every rank."""
        if self.count == 1:
            return list(values)
        message = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.broadcast(message, 0)
        received: list[float] = message.tolist()
        return received

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its mean over the ranks, all in one message."""
        if self.count == 1:
            return
        message = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(message)
        message /= self.count
        parts = torch.split(message, [tensor.numel() for tensor in tensors])
        torch._foreach_copy_(list(tensors), [part.view_as(to) for part, to in zip(parts, tensors, strict=True)])

    def leave(self) -> None:
        """Waits for all ranks and ends their connection; rank 0 can then go on alone."""
        if self.count > 1:
            distributed.barrier()
            distributed.destroy_process_group()


def join(device: torch.device) -> Ranks:
    """Joins the other processes if torchrun started this one; returns this process among them.

    device: "cuda" gives each rank a GPU of its own, and the ranks talk through NCCL; through gloo on a CPU.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks(device=device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    return Ranks(distributed.get_rank(), count, device)
