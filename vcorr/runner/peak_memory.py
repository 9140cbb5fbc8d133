"""Measures the most memory that a run held."""

from __future__ import annotations

import sys

GIB = 2**30


def forget_peak(device: str) -> None:
    """Resets the peak that `device_peak` returns; does nothing on a device that does not count memory."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def device_peak(device: str) -> float | None:
    """Returns the most GiB allocated on a device since `forget_peak`; None if the device does not count memory."""
    if not device.startswith("cuda"):
        return None
    import torch

    return float(torch.cuda.max_memory_allocated(device) / GIB)


def host_peak() -> float | None:
    """Returns the most GiB that this process has held so far; None if the operating system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak * (1 if sys.platform == "darwin" else 1024) / GIB)
