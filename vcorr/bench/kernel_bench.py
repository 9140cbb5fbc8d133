"""Runs what `vcorr bench kernels` measures: agreement on drawn cases, times of one layer, times of tilings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from vcorr.bench.kernel_agreement import Agreement, measure_agreement
from vcorr.bench.kernel_times import COGVIDEOX_2B, SMALL, TILINGS, KernelTime, TilingTime, time_kernels, time_tilings
from vcorr.bench.measuring import Progress
from vcorr.contract.errors import UsageError
from vcorr.kernels.kernel_choice import DTYPES, refuse_device
from vcorr.kernels.tilings import interprets


@dataclass(frozen=True)
class KernelOptions:
    """Options of the measurement.

    Attributes:
        device: a torch device; None for cuda if there is one, else cpu.
        cases: drawn cases per dtype.
        seed: of the cases.
        pairs: timed pairs of fused and plain, after one to warm up; 0 times nothing.
        small: times a tiny layer in place of one of CogVideoX-2B.
        tune: also times every tiling.
    """

    device: str | None = None
    cases: int = 24
    seed: int = 0
    pairs: int = 10
    small: bool = False
    tune: bool = False


@dataclass(frozen=True)
class KernelBench:
    """What was measured. facts: device, versions and size, for the reader of the numbers."""

    facts: dict[str, Any]
    agreement: list[Agreement]
    times: list[KernelTime] = field(default_factory=list)
    tilings: list[TilingTime] = field(default_factory=list)

    @property
    def tables(self) -> tuple[Sequence[Any], ...]:
        """The three tables, in the order of the fields."""
        return self.agreement, self.times, self.tilings


def run_kernel_bench(options: KernelOptions, say: Progress) -> KernelBench:
    """Checks and times the fused kernels.

    say: gets one line of progress at a time.

    Raises:
        UsageError: the kernels cannot run on the device.
    """
    device = _choose_device(options.device)
    size = SMALL if options.small else COGVIDEOX_2B
    with torch.no_grad():
        agreement = measure_agreement(device, list(DTYPES), options.cases, options.seed, say)
        times = time_kernels(device, torch.bfloat16, size, options.pairs, say) if options.pairs else []
        tilings = time_tilings(device, torch.bfloat16, size, TILINGS, say) if options.tune else []
    return KernelBench(_describe(device, options), agreement, times, tilings)


def _choose_device(name: str | None) -> torch.device:
    chosen = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(chosen)
    except RuntimeError as error:
        raise UsageError(f"--device: {chosen!r} is no device of torch.", hint="For example: --device cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--device: torch finds no CUDA GPU.", hint="In the interpreter: TRITON_INTERPRET=1, --device cpu"
        )
    reason = refuse_device(device)
    if reason:
        raise UsageError(f"The fused kernels cannot run on {device}: {reason}.")
    return device


def _describe(device: torch.device, options: KernelOptions) -> dict[str, Any]:
    import triton

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "device": f"{name}, in Triton's interpreter" if interprets() else name,
        "torch": torch.__version__,
        "triton": triton.__version__,
        "layer": "a tiny layer" if options.small else "one layer of CogVideoX-2B",
        "cases": options.cases,
        "seed": options.seed,
        "pairs": options.pairs,
    }
