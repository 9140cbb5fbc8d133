"""Measures what scoring and reading large runs takes: seconds, rows per second and the peak of memory.

Every command runs in a process of its own, as a user starts it, on runs with made-up predictions.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcorr.bench.made_runs import RunSize
from vcorr.contract.errors import StoreError, UsageError
from vcorr.runner.peak_memory import GIB
from vcorr.store.rundir import find_runs
from vcorr.store.shards import read_shard

PROGRAM = ("-m", "vcorr")
MAKER = ("-m", "vcorr.bench.made_runs")


_WATCHER = """
import os, subprocess, sys, time
began = time.perf_counter()
process = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
print(time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(process.returncode if process.returncode >= 0 else 128 - process.returncode)
"""
"""Starts Python with the words of its command line, and prints what that took. It is small itself."""


@dataclass(frozen=True)
class CommandCost:
    """What one command took.

    Attributes:
        command: its name.
        rows: rows of scores that it wrote or read.
        seconds: on the clock, with the start of the process.
        cpu_seconds: of all its threads; changes less with the load of the machine.
        rows_per_second: on the clock.
        peak_gib: the most memory that the process held.
    """

    command: str
    rows: int
    seconds: float
    cpu_seconds: float
    rows_per_second: float
    peak_gib: float


def measure_commands(size: RunSize, out: Path | None = None, *, scores: bool = True) -> Iterator[CommandCost]:
    """Makes two runs, and measures the commands that score one of them, show it, compare both, and build their board.

    Args:
        size: of each run.
        out: a new or empty folder in which everything stays; None for a temporary one.
        scores: whether one run is scored again, which takes longest. If not, both keep made-up scores.

    Raises:
        UsageError: `out` is not empty.
        StoreError: a command failed, for instance because the disk is full.
    """
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out} is not an empty folder.", hint="Name a new folder.")
    with tempfile.TemporaryDirectory(prefix="vcorr-bench-") as temporary:
        folder = out or Path(temporary)
        for seed in (0, 1):
            run_measured([*MAKER, str(folder / "runs"), *_size_words(size, seed)])
        yield from _measure_each(folder, size, scores=scores)


def _size_words(size: RunSize, seed: int) -> list[str]:
    numbers = {"clips": size.clips, "sites": size.sites, "points": size.points, "seed": seed}
    return [word for name, number in numbers.items() for word in (f"--{name}", str(number))]


def _measure_each(folder: Path, size: RunSize, *, scores: bool) -> Iterator[CommandCost]:
    first, second = (str(run.path) for run in find_runs(folder / "runs"))
    example = next(iter((Path(first) / "scores").iterdir()))
    rows = read_shard(example, "scores").num_rows * size.clips
    site = str(folder / "site")
    commands = {
        "score": (["score", first], rows),
        "show run": (["show", "run", first], rows),
        "compare": (["compare", first, second], 2 * rows),
        "board build": (["board", "build", "--results", str(folder / "runs"), "--out", site], 2 * rows),
    }
    for name, (words, read) in commands.items():
        if scores or name != "score":
            seconds, cpu, gib = run_measured([*PROGRAM, *words])
            yield CommandCost(name, read, seconds, cpu, read / seconds, gib)


def run_measured(words: Sequence[str]) -> tuple[float, float, float]:
    """Runs Python with these words in a process of its own; returns seconds, seconds of CPU, and GiB at its peak.

    Raises:
        StoreError: it ended with an error; the message has the end of what it said.
    """
    # a process inherits the peak of the one that starts it, so a small one starts it
    watched = subprocess.run(
        [sys.executable, "-c", _WATCHER, *words], capture_output=True, text=True, errors="replace", check=False
    )
    if watched.returncode:
        last = watched.stderr.strip().splitlines()[-3:]
        raise StoreError(
            f"{' '.join(words[1:])} ended with exit code {watched.returncode}. {' '.join(last)}".strip(),
            hint="Is there enough memory, and room on the disk?",
        )
    seconds, cpu, peak = map(float, watched.stdout.split())
    return seconds, cpu, peak * (1 if sys.platform == "darwin" else 1024) / GIB
