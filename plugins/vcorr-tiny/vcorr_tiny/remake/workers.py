"""Runs the processes of a remake on devices and processor cores of their own, with a log each."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from vcorr import UsageError, VcorrError
from vcorr_tiny.command_runs import Processes, count_cores, run_module
from vcorr_tiny.remake.recipe import DECODER

MOST_CORES = 8
"""Most processor cores of one training."""
PATIENCE = 60.0
"""Seconds that a process has to end after it was interrupted: measuring ends its own processes, and makes copies."""
ENDING = 60.0
"""Seconds that a training takes before its first step and after its last one: imports, evaluation, samples, files."""
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


def read_devices(text: str) -> list[str]:
    """Reads devices with commas between them.

    Raises:
        UsageError: one has no such name, or is named twice.
    """
    devices = text.split(",")
    for device in devices:
        if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
            raise UsageError(f"{device!r} is no device.", hint="Such as: --device cuda:0,cuda:1")
        if devices.count(device) > 1 and device != "cpu":
            raise UsageError(f"{device} is named twice.", hint="Each device trains one network at a time.")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    numbers = [_read_number(device) for device in devices if device.startswith("cuda")]
    if visible and max(numbers, default=-1) >= len(visible.split(",")):
        raise UsageError(f"There is no cuda:{max(numbers)}.", hint=f"CUDA_VISIBLE_DEVICES={visible}")
    return devices


def _read_number(device: str) -> int:
    return int(device.partition(":")[2] or 0)


def name_devices(devices: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Returns the value of --device for a process that sees these devices alone, and its environment."""
    if any(not device.startswith("cuda") for device in devices):
        return devices[0], {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    numbers = [_read_number(device) for device in devices]
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
        say(
            f"{name}: begins, {self.seconds_left:.0f} s are left" if math.isfinite(self.deadline) else f"{name}: begins"
        )
        with (self.out / f"{name}.log").open("ab") as log:
            asked = {"OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1", **os.environ, **environment}
            code = self.processes.run(run_module(words), asked, log=log, cores=cores)
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

    def train(
        self, trainings: Mapping[str, Sequence[str]], devices: Sequence[str], cores: Cores, kept: float = 0.0
    ) -> None:
        """Runs trainings, one at a time on each device. A device that is free takes the next one.

        What failed goes on, once more, on each other device that becomes free. kept: seconds before the deadline by
        which the trainings end. The ones that would take longer are shortened.

        Raises:
            VcorrError: one failed on all devices that took it; the others ran.
        """
        waiting = Waiting(list(trainings))

        def work(device: str, own: frozenset[int]) -> None:
            chosen, environment = name_devices([device])
            while name := waiting.take(device):
                left = self.seconds_left - kept
                ends = self._limit(left / waiting.count_rounds(len(devices)))
                code = self.run(name, [*trainings[name], "--device", chosen, *ends], own, environment)
                waiting.end(name, device, code)

        with ThreadPoolExecutor(len(devices)) as threads:
            try:
                for done in [threads.submit(work, *pair) for pair in zip(devices, cores.trainings, strict=True)]:
                    done.result()
            except BaseException:
                self.processes.stop()
                raise
        self.check(waiting.codes)

    def _limit(self, seconds: float) -> list[str]:
        """Returns the words with which a training ends within so many seconds, or stops at the deadline."""
        if math.isinf(self.deadline):
            return []
        return ["--finish-within", f"{max(seconds - ENDING, 1.0):.0f}", "--stop-after", f"{self.seconds_left:.0f}"]

    def check(self, codes: Mapping[str, int]) -> None:
        """Raises VcorrError with the end of the log of each process that failed."""
        failed = {name: code for name, code in codes.items() if code}
        if failed:
            tails = "\n".join(f"{name}.log ends:\n{self._read_tail(name)}" for name in failed)
            raise VcorrError(f"Failed: {', '.join(failed)}.\n{tails}", hint="Repeat the command: it goes on.")

    def _read_tail(self, name: str) -> str:
        lines = (self.out / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-TAIL:])


class Waiting:
    """The trainings that wait for a device, in order. codes: exit codes of those that ended, the last one of each."""

    def __init__(self, names: Sequence[str]) -> None:
        self.codes: dict[str, int] = {}
        self._names = list(names)
        self._running: set[str] = set()
        self._failed: set[tuple[str, str]] = set()
        self._lock = Lock()

    def take(self, device: str) -> str:
        """Returns the next training that did not fail on this device; "" if there is none."""
        with self._lock:
            name = next((name for name in self._names if (name, device) not in self._failed), "")
            if name:
                self._names.remove(name)
                self._running.add(name)
            return name

    def end(self, name: str, device: str, code: int) -> None:
        """Notes the end of a training. One that failed waits for another device."""
        with self._lock:
            self.codes[name] = code
            self._running.discard(name)
            if code:
                self._failed.add((name, device))
                self._names.append(name)

    def count_rounds(self, devices: int) -> int:
        """Returns how many trainings of seeds a device makes one after another, with those that run."""
        with self._lock:
            return math.ceil(len({*self._running, *self._names} - {DECODER}) / devices) or 1


def say(text: str) -> None:
    """Prints a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
