"""The most memory that a run held."""

from __future__ import annotations

import sys

GIB = 2**30


def forget_peak(device: str) -> None:
    """Begins anew to look for the most memory of a device; nothing where the device does not count it."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def device_peak(device: str) -> float | None:
    """The most memory allocated on a device since `forget_peak`, in GiB; None where the device does not count it."""
    if not device.startswith("cuda"):
        return None
    import torch

    return float(torch.cuda.max_memory_allocated(device) / GIB)


def host_peak() -> float | None:
    """The most memory that this process has held so far, in GiB; None where the operating system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak * (1 if sys.platform == "darwin" else 1024) / GIB)
