"""Sizes of the tiles of a kernel, and the first ones that fit on the device."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor


def interprets() -> bool:
    """Says whether Triton's interpreter runs the kernels; it is slow, and needs no GPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


class TileSizeError(RuntimeError):
    """Not even the smallest tiles of a kernel fit on the device."""


@dataclass(frozen=True)
class Tiling:
    """Sizes of one kernel's tiles.

    rows, columns: tokens of a tile; powers of two, at least 16. step: channels that are loaded at once, at least 16.
    warps, stages: of a program on the GPU. registers: the most of a thread; None leaves it to the compiler.
    """

    rows: int
    columns: int
    step: int
    warps: int = 4
    stages: int = 3
    registers: int | None = None

    def reach(self, width: int) -> int:
        """Returns how many channels are loaded at once, for vectors of `width` channels."""
        return min(self.step, max(16, 1 << (width - 1).bit_length()))

    def arguments(self, width: int, widen: bool) -> dict[str, Any]:
        """Returns the sizes as a kernel takes them, for vectors of `width` channels. widen: converts to float32."""
        step = self.reach(width)
        sizes = {"block_rows": self.rows, "block_columns": self.columns, "step": step}
        layout = {"whole": width <= step, "even": width % step == 0, "widen": widen}
        limit = {} if self.registers is None else {"maxnreg": self.registers}
        return {**sizes, **layout, **limit, "num_warps": self.warps, "num_stages": self.stages}


_SMALLEST = (Tiling(64, 64, 64), Tiling(32, 32, 32, stages=2))

SUMS = (Tiling(128, 64, 128), *_SMALLEST)
"""Tilings of the first pass in half precision, the fastest first. Source: times on one H100 (docs/performance.md)."""

DESCRIBED_SUMS = (Tiling(64, 64, 128), *_SMALLEST)
"""The same for tokens that are read through descriptors."""

COSTS = (Tiling(64, 128, 128), *_SMALLEST)
"""Tilings of the second pass and of peaks, in the same way."""

WIDE_COSTS = (Tiling(128, 128, 128, warps=8), *COSTS)
"""The same for two products per head, of vectors of more than 64 channels that are read through descriptors."""

WIDE_SHARED_COSTS = (Tiling(64, 128, 128, stages=2), *COSTS)
"""The same for one product per head."""

INTERPRETED = (Tiling(32, 32, 64),)
"""Tilings in the interpreter, where few large operations are fast."""


def cost_tilings(width: int, *, described: bool, products: int) -> Sequence[Tiling]:
    """Returns the tilings of the second pass, the fastest first. products: per head and tile, 1 or 2."""
    if width <= _NARROW or not described:
        return COSTS
    return WIDE_COSTS if products > 1 else WIDE_SHARED_COSTS


_NARROW = 64
"""Channels of a vector; tiles of wider ones leave less shared memory for programs side by side."""


def choose_tilings(preferred: Sequence[Tiling], widen: bool) -> Sequence[Tiling]:
    """Returns the tilings to try. widen: a value takes four bytes in a tile, so half the channels are loaded."""
    forced = _forced.get()
    if forced is not None:
        return (forced,)
    if interprets():
        return INTERPRETED
    if widen:
        return [Tiling(one.rows, one.columns, min(one.step, 64) // 2, one.warps, one.stages) for one in preferred]
    return preferred


@contextlib.contextmanager
def force_tiling(tiling: Tiling) -> Iterator[None]:
    """Makes every kernel inside a `with` block use one tiling, to time it."""
    token = _forced.set(tiling)
    try:
        yield
    finally:
        _forced.reset(token)


_forced: ContextVar[Tiling | None] = ContextVar("_forced", default=None)


def needs_float32(*tensors: Tensor) -> bool:
    """Says whether products need values of float32: for float32, for two dtypes, and in the interpreter.

    The interpreter would multiply the bits of bfloat16 as integers.
    """
    dtypes = {tensor.dtype for tensor in tensors}
    return interprets() or torch.float32 in dtypes or len(dtypes) > 1


def launch_first(name: str, device: torch.device, tilings: Sequence[Tiling], start: Callable[[Tiling], None]) -> None:
    """Starts a kernel with the first tiling that fits on the device, and begins with it the next time.

    name: of the kernel and of what its need of memory depends on.

    Raises:
        TileSizeError: no tiling fits.
    """
    from triton.runtime.errors import OutOfResources

    with _current(device):
        remembered = _fitting.get((name, device), 0) if len(tilings) > 1 else 0
        for index in range(remembered, len(tilings)):
            try:
                start(tilings[index])
            except OutOfResources:
                continue
            _fitting[name, device] = index
            return
    raise TileSizeError(f"no tile of {name} fits on {device}")


_fitting: dict[tuple[str, torch.device], int] = {}


@contextlib.contextmanager
def _current(device: torch.device) -> Iterator[None]:
    """Makes a GPU the current one; in the interpreter, silences NumPy where the GPU is silent about infinity."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            _begin_thread(device)
            yield
    else:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            yield


def _begin_thread(device: torch.device) -> None:
    """Makes CUDA ready in this thread, once: a new thread cannot make tensor descriptors before anything ran there."""
    begun = _threads.__dict__.setdefault("begun", set())
    if device not in begun:
        torch.zeros(1, device=device)
        begun.add(device)


_threads = threading.local()
