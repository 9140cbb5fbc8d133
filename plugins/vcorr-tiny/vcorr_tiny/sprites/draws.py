"""Random draws from one generator, and the seeds that keep the splits apart."""

from dataclasses import dataclass

import torch
from torch import Tensor

SPLITS = ("train", "validation", "test")
_INDEX_BITS = 30


def seed_of(split: str, index: int) -> int:
    """Seed of video ``index`` of ``split``: the split fills the two high bits of 32, the index the other 30.

    Two splits can therefore never share a seed. 32 bits, because torch's CPU generator reads no more of a seed.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    if not 0 <= index < 2**_INDEX_BITS:
        raise ValueError(f"index {index} of split {split!r} is outside 0 .. 2**{_INDEX_BITS} - 1")
    return (SPLITS.index(split) + 1) << _INDEX_BITS | index


@dataclass(frozen=True)
class Draws:
    """Uniform draws from ``generator``; only uniform bits are used, which torch makes alike on every processor."""

    generator: torch.Generator

    @property
    def device(self) -> torch.device:
        """Where the drawn tensors live."""
        return self.generator.device

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        """float32 of ``shape`` in [low, high)."""
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def signed(self, shape: tuple[int, ...], size: float) -> Tensor:
        """float32 of ``shape`` in [-size, size)."""
        return self.uniform(shape, -size, size)

    def index(self, shape: tuple[int, ...], count: int) -> Tensor:
        """int64 of ``shape`` in [0, count)."""
        return torch.randint(0, count, shape, generator=self.generator, device=self.device)

    def chance(self, shape: tuple[int, ...], probability: float) -> Tensor:
        """float32 of ``shape``: 1 with ``probability``, else 0."""
        return (torch.rand(shape, generator=self.generator, device=self.device) < probability).float()
