"""Runs what `vcorr bench kernels` measures: agreement on drawn cases, times of one layer, times of tilings."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from vcorr.bench.kernel_agreement import Agreement, Drawing, measure_agreement
from vcorr.bench.kernel_times import COGVIDEOX_2B, SMALL, TILINGS, KernelTime, TilingTime, time_kernels, time_tilings
from vcorr.bench.measuring import Progress
from vcorr.bench.side_tasks import Deadline
from vcorr.contract.errors import UsageError
from vcorr.contract.index_text import split_names
from vcorr.kernels.kernel_choice import DTYPES, WIDEST, refuse_device
from vcorr.kernels.tilings import interprets

WIDTHS = (64, 128, 72)
"""Channels of a head that are drawn: of CogVideoX, of larger models, and one that is no power of two."""

SMALL_WIDTHS = (8, 20, 72)
"""The same for the interpreter."""

NAMES = tuple(str(dtype).removeprefix("torch.") for dtype in DTYPES)


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
        dtypes: of the drawn cases, separated by commas.
        widths: of their heads, separated by commas; None for `WIDTHS`.
        threads: kernels that are compiled and compared at a time; None for one per core.
        time_limit: seconds after which the measurement ends with what it has; None for no limit.
    """

    device: str | None = None
    cases: int = 12
    seed: int = 0
    pairs: int = 10
    small: bool = False
    tune: bool = False
    dtypes: str = ",".join(NAMES)
    widths: str | None = None
    threads: int | None = None
    time_limit: float | None = None


@dataclass(frozen=True)
class KernelBench:
    """What was measured. facts: device, versions, size and seconds, for the reader of the numbers.

    stopped: says that the time limit left something out; "" if nothing.
    """

    facts: dict[str, Any]
    agreement: list[Agreement]
    times: list[KernelTime] = field(default_factory=list)
    tilings: list[TilingTime] = field(default_factory=list)
    stopped: str = ""

    @property
    def tables(self) -> tuple[Sequence[Any], ...]:
        """The three tables, in the order of the fields."""
        return self.agreement, self.times, self.tilings


def run_kernel_bench(options: KernelOptions, say: Progress) -> KernelBench:
    """Checks and times the fused kernels.

    say: gets one line of progress at a time.

    Raises:
        UsageError: the kernels cannot run on the device, or an option cannot be used.
    """
    began, deadline = time.monotonic(), Deadline(options.time_limit)
    dtypes, widths = _read_dtypes(options.dtypes), _read_widths(options.widths)
    device = _choose_device(options.device)
    size = SMALL if options.small else COGVIDEOX_2B
    drawing = Drawing(options.cases, options.seed, widths)
    threads = 1 if interprets() else options.threads or os.cpu_count() or 1
    say(f"compiling for {len(dtypes)} dtypes and {len(widths)} widths, {threads} at a time")
    with torch.no_grad():
        agreement = measure_agreement(device, dtypes, drawing, say, threads=threads, deadline=deadline)
        times, tilings = [], []
        if options.pairs:
            times = time_kernels(device, torch.bfloat16, size, options.pairs, say, threads=threads, deadline=deadline)
        if options.tune:
            tilings = time_tilings(device, torch.bfloat16, size, TILINGS, say, deadline=deadline)
    facts = _describe(device, options) | {"widths": list(widths), "seconds": round(time.monotonic() - began, 1)}
    stopped = f"It stopped at the time limit of {options.time_limit:g} seconds; the rest is missing."
    return KernelBench(facts, agreement, times, tilings, stopped if deadline.cut_short else "")


def _read_dtypes(text: str) -> list[torch.dtype]:
    names = split_names(text)
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise UsageError(f"--dtypes: expected some of {', '.join(NAMES)}, got {text!r}.")
    return [DTYPES[NAMES.index(name)] for name in dict.fromkeys(names)]


def _read_widths(text: str | None) -> Sequence[int]:
    if text is None:
        return SMALL_WIDTHS if interprets() else WIDTHS
    names = split_names(text)
    if not names or not all(name.isdecimal() and 0 < int(name) <= WIDEST for name in names):
        raise UsageError(f"--widths: expected whole numbers from 1 to {WIDEST}, got {text!r}.", hint="--widths 64,128")
    return [int(name) for name in dict.fromkeys(names)]


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
