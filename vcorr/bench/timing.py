"""Times one run of a function on a device, and measures the memory it takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from vcorr.runner.peak_memory import device_peak, forget_peak


@dataclass(frozen=True)
class Timed:
    """One timed run. ms: milliseconds. gib: peak memory on the device, weights included; NaN on a CPU."""

    ms: float
    gib: float


def time_run(run: Callable[[], object], device: str) -> Timed:
    """Measures the time of `run`, from an idle device until the device is idle again."""
    settle(device)
    forget_peak(device)
    began = time.perf_counter()
    run()
    settle(device)
    elapsed = 1000 * (time.perf_counter() - began)
    gib = device_peak(device)
    return Timed(elapsed, math.nan if gib is None else gib)


def settle(device: str) -> None:
    """Waits until a GPU has finished its queue; returns at once on a CPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
