"""Draws random numbers from one generator, and gives each split its own seeds."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vcorr_tiny.sprites.split_names import SPLITS

_INDEX_BITS = 30


def seed_of(split: str, index: int) -> int:
    """Returns the seed of video ``index`` of ``split``: two high bits for the split, 30 bits for the index.

    Two splits therefore never share a seed. A seed has 32 bits because torch's CPU generator reads no more.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    if not 0 <= index < 2**_INDEX_BITS:
        raise ValueError(f"index {index} of split {split!r} is outside 0 .. 2**{_INDEX_BITS} - 1")
    return (SPLITS.index(split) + 1) << _INDEX_BITS | index


@dataclass(frozen=True)
class Draws:
    """Random draws from ``generator``; all of them are uniform, because torch draws these alike on every processor."""

    generator: torch.Generator

    @property
    def device(self) -> torch.device:
        """Device of the drawn tensors."""
        return self.generator.device

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        """Draws float32 of ``shape`` in [low, high)."""
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def symmetric(self, shape: tuple[int, ...], size: float) -> Tensor:
        """Draws float32 of ``shape`` in [-size, size)."""
        return self.uniform(shape, -size, size)

    def index(self, shape: tuple[int, ...], count: int) -> Tensor:
        """Draws int64 of ``shape`` in [0, count)."""
        return torch.randint(0, count, shape, generator=self.generator, device=self.device)

    def chance(self, shape: tuple[int, ...], probability: float) -> Tensor:
        """Draws float32 of ``shape``: 1 with ``probability``, else 0."""
        return (torch.rand(shape, generator=self.generator, device=self.device) < probability).float()
