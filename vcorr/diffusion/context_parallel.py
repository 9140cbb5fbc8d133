"""Lets several processes share each pass of a denoiser, through diffusers' own Ulysses parallelism.

Each process has the whole network. Outside attention it computes some of the tokens, and inside attention some of the
heads. diffusers' models say in `_cp_plan` where their tokens are split and joined.

Text that enters through cross-attention is not split: each process attends with its video tokens to the whole text.
diffusers does the same for Wan. For LTX-Video it splits the text too, but its mask then has the heads of all processes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from vcorr.diffusion.loading import pipeline_type


def has_plan(class_name: str) -> bool:
    """Returns whether the class of diffusers with this name says where its tokens are split."""
    import diffusers

    return getattr(getattr(diffusers, class_name, None), "_cp_plan", None) is not None


def share_passes(denoisers: Sequence[Any], sites: Collection[str], processes: int, device: str) -> None:
    """Lets the processes of the default group of torch.distributed share every pass of diffusers' models.

    Args:
        denoisers: the models.
        sites: paths of their modules for self-attention over video tokens.
        processes: number of processes in the group.
        device: where this process computes.
    """
    from torch.distributed.device_mesh import init_device_mesh

    config: Any = pipeline_type("ContextParallelConfig")
    kind = torch.device(device).type
    mesh = init_device_mesh(kind, (1, processes), mesh_dim_names=("ring", "ulysses"))
    for denoiser in denoisers:
        with _accelerator(kind):
            split = _leave_out_text(denoiser._cp_plan)
            denoiser.enable_parallelism(config=config(ulysses_degree=processes, mesh=mesh), cp_plan=split)
        for name, module in denoiser.named_modules():
            processor: Any = getattr(module, "processor", None)
            if name not in sites and hasattr(processor, "_parallel_config"):
                processor._parallel_config = None


def _leave_out_text(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Returns where tokens are split and joined, without the text."""
    return {
        module: {name: how for name, how in parts.items() if not str(name).startswith("encoder_")}
        if isinstance(parts, dict)
        else parts
        for module, parts in plan.items()
    }


@contextmanager
def _accelerator(kind: str) -> Iterator[None]:
    """Says on the CPU that there is one accelerator, because diffusers divides by the number of them."""
    if kind != "cpu":
        yield
        return
    count = torch.accelerator.device_count
    torch.accelerator.device_count = lambda: 1
    try:
        yield
    finally:
        torch.accelerator.device_count = count
