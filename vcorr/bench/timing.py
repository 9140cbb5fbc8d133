"""Times functions on a device, one run or several in turn, and measures the memory that they take."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from vcorr.bench.measuring import Progress, say_nothing
from vcorr.runner.peak_memory import device_peak, forget_peak


@dataclass(frozen=True)
class Timed:
    """One timed run.

    ms: milliseconds. gib: peak memory on the device, weights included; NaN on a CPU. cpu_ms: milliseconds
    of the CPU, of all threads of the process.
    """

    ms: float
    gib: float
    cpu_ms: float = math.nan


@dataclass(frozen=True)
class Turns:
    """Several functions that were timed in turn. rounds: for each round, one timed run of each function, by name.

    What disturbs the machine for a while disturbs all of them. So a ratio is taken within each round.
    """

    rounds: Sequence[Mapping[str, Timed]]

    def ms(self, name: str) -> float:
        """Returns the median time of a function, in milliseconds."""
        return statistics.median(each[name].ms for each in self.rounds)

    def ratio(self, name: str, base: str) -> float:
        """Returns the median over the rounds of the time of a function / the time of `base`."""
        return statistics.median(each[name].ms / each[base].ms for each in self.rounds)

    def cpu_ms(self, name: str) -> float:
        """Returns the median CPU time of a function, in milliseconds."""
        return statistics.median(each[name].cpu_ms for each in self.rounds)

    def cpu_ratio(self, name: str, base: str) -> float:
        """Returns the median over the rounds of the CPU time of a function / the CPU time of `base`."""
        return statistics.median(each[name].cpu_ms / each[base].cpu_ms for each in self.rounds)

    def more_ms(self, name: str, base: str) -> float:
        """Returns the median over the rounds of the time of a function - the time of `base`, in milliseconds."""
        return statistics.median(each[name].ms - each[base].ms for each in self.rounds)

    def gib(self, name: str) -> float:
        """Returns the peak memory of a function, in GiB; NaN on a CPU."""
        return max(each[name].gib for each in self.rounds)


def time_in_turns(
    runs: Mapping[str, Callable[[], object]], device: str, rounds: int, say: Progress = say_nothing
) -> Turns:
    """Measures the time of functions in turn, `rounds` times, after one round to warm up that does not count."""
    found = []
    for number in range(rounds + 1):
        say(f"round {number} of {rounds}" if number else "a round to warm up")
        found.append({name: time_run(run, device) for name, run in runs.items()})
    return Turns(found[1:])


def time_run(run: Callable[[], object], device: str) -> Timed:
    """Measures the time of `run`, from an idle device until the device is idle again."""
    settle(device)
    forget_peak(device)
    began, cpu_began = time.perf_counter(), time.process_time()
    run()
    settle(device)
    elapsed, on_cpu = 1000 * (time.perf_counter() - began), 1000 * (time.process_time() - cpu_began)
    gib = device_peak(device)
    return Timed(elapsed, math.nan if gib is None else gib, on_cpu)


def settle(device: str) -> None:
    """Waits until a GPU has finished its queue; returns at once on a CPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
