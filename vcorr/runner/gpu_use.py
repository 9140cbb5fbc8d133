"""Says whether other processes use the GPU of a run."""

from __future__ import annotations

from collections.abc import Iterator

GIB = 2**30
_OWN_CONTEXT = 1 * GIB
"""What the CUDA context of a process takes at most, with the drivers known."""


def describe_use(device: str, name: str) -> Iterator[str]:
    """Yields a sentence if other processes hold memory of a CUDA device; nothing for other devices.

    Called before the model is loaded: what is taken then belongs to others, apart from the context of CUDA.

    Args:
        device: the device as torch knows it in this process.
        name: the device as the user knows it.
    """
    if not device.startswith("cuda"):
        return
    import torch

    free, total = torch.cuda.mem_get_info(device)
    others = total - free - torch.cuda.memory_reserved(device) - _OWN_CONTEXT
    if others > 0:
        yield (
            f"{name}: other processes hold about {others / GIB:.0f} of {total / GIB:.0f} GiB. Memory may run "
            "short, and the run takes longer than on a free GPU."
        )
