"""Runs the processes of a remake on devices and processor cores of their own, with a log each."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from vcorr import VcorrError
from vcorr_tiny.command_runs import Processes, count_cores

MOST_CORES = 8
"""Most processor cores of one training."""
PATIENCE = 60.0
"""Seconds that a process has to end after it was interrupted: measuring ends its own processes, and makes copies."""
TAIL = 30
"""Lines of a log that are shown when its process failed."""


@dataclass(frozen=True)
class Cores:
    """Processor cores by number. trainings: for each device, the cores of its training. rest: for everything else.

    Trainings share no core with other work: launches of kernels would wait for it. All are empty where the system
    cannot set processes apart; rest is also empty if there are too few.
    """

    trainings: tuple[frozenset[int], ...]
    rest: frozenset[int] = frozenset()


def share_cores(devices: int) -> Cores:
    """Shares the cores that this process may use among the trainings on so many devices, and the rest."""
    if not hasattr(os, "sched_getaffinity") or count_cores() <= devices:
        return Cores((frozenset(),) * devices)
    cores = sorted(os.sched_getaffinity(0))
    each = min(MOST_CORES, len(cores) // (devices + 1))
    parts = tuple(frozenset(cores[each * i : each * (i + 1)]) for i in range(devices))
    return Cores(parts, frozenset(cores[each * devices :]))


def name_devices(devices: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Returns the value of --device for a process that sees these devices alone, and its environment."""
    if any(not device.startswith("cuda") for device in devices):
        return devices[0], {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    numbers = [int(device.partition(":")[2] or 0) for device in devices]
    names = [visible.split(",")[number] if visible else str(number) for number in numbers]
    return "cuda", {"CUDA_VISIBLE_DEVICES": ",".join(names)}


@dataclass
class Workers:
    """Runs processes. out: the folder of their logs. deadline: of `time.monotonic`."""

    out: Path
    deadline: float = math.inf
    processes: Processes = field(default_factory=lambda: Processes(PATIENCE))

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline."""
        return max(self.deadline - time.monotonic(), 0.0)

    def run(self, name: str, words: Sequence[str], cores: frozenset[int], environment: Mapping[str, str]) -> int:
        """Runs a module of Python with its words; returns its exit code. Its output is in NAME.log."""
        started, threads = time.monotonic(), str(max(len(cores) // 2, 1))
        with (self.out / f"{name}.log").open("ab") as log:
            asked = {"OMP_NUM_THREADS": threads, **os.environ, **environment}
            code = self.processes.run([sys.executable, "-m", *words], asked, log=log, cores=cores)
        say(f"{name}: {'done' if not code else f'exit code {code}'}, {time.monotonic() - started:.0f} s")
        return code

    def run_or_fail(
        self, name: str, words: Sequence[str], cores: frozenset[int], environment: Mapping[str, str]
    ) -> None:
        """Runs a module, as `run` does.

        Raises:
            VcorrError: it failed; the end of its log is in the message.
        """
        self.check({name: self.run(name, words, cores, environment)})

    def train(self, trainings: Mapping[str, Sequence[str]], devices: Sequence[str], cores: Cores) -> None:
        """Runs trainings, one at a time on each device. A device that is free takes the next one.

        Raises:
            VcorrError: one failed; the others ran.
        """
        waiting: SimpleQueue[str] = SimpleQueue()
        for name in trainings:
            waiting.put(name)
        codes: dict[str, int] = {}

        def work(device: str, own: frozenset[int]) -> None:
            chosen, environment = name_devices([device])
            while True:
                try:
                    name = waiting.get_nowait()
                except Empty:
                    return
                words = [*trainings[name], "--device", chosen, "--stop-after", f"{self.seconds_left:.0f}"]
                codes[name] = self.run(name, words if math.isfinite(self.deadline) else words[:-2], own, environment)

        with ThreadPoolExecutor(len(devices)) as threads:
            try:
                for done in [threads.submit(work, *pair) for pair in zip(devices, cores.trainings, strict=True)]:
                    done.result()
            except BaseException:
                self.processes.stop()
                raise
        self.check(codes)

    def check(self, codes: Mapping[str, int]) -> None:
        """Raises VcorrError with the end of the log of each process that failed."""
        failed = {name: code for name, code in codes.items() if code}
        if failed:
            tails = "\n".join(f"{name}.log ends:\n{self._read_tail(name)}" for name in failed)
            raise VcorrError(f"Failed: {', '.join(failed)}.\n{tails}", hint="Repeat the command: it goes on.")

    def _read_tail(self, name: str) -> str:
        lines = (self.out / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-TAIL:])


def say(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
