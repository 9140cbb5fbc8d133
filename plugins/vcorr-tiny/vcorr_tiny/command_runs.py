"""Runs `vcorr` commands and functions for the measurements of the pages, and holds their common options.

``python -m vcorr_tiny.command_runs MODULE:NAME ARGUMENTS`` calls a function, for `Work.run_one`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from threading import Lock
from typing import BinaryIO, NoReturn

from vcorr import VcorrError

EXIT_INTERRUPTED = 130
PATIENCE = 20.0
"""Seconds that a process has to end after it was interrupted."""


@dataclass(frozen=True)
class Command:
    """Words after `vcorr`, without device, dtype and reuse.

    on_device: whether it runs a network. optional: whether it is left out, with a sentence, if weights or packages of
    its model are missing. study: whether it is a study, which goes on by itself and has no `--reuse`.
    """

    words: tuple[str, ...]
    on_device: bool = False
    dtype: str = "float32"
    optional: bool = False
    study: bool = False

    @property
    def model(self) -> str:
        """Name of the model or tracker that runs."""
        flag = "--model" if "--model" in self.words else "--tracker"
        return self.words[self.words.index(flag) + 1]


@dataclass(frozen=True)
class Call:
    """A function that runs in a process of its own. function: "MODULE:NAME". arguments: text, numbers and paths.

    on_device: whether it runs a network. It then gets the keyword `device`.
    """

    function: str
    arguments: tuple[str | int | Path, ...] = ()
    on_device: bool = False


class Processes:
    """The processes that run now. They are in process groups of their own: Ctrl-C reaches them through `stop` alone."""

    def __init__(self, patience: float = PATIENCE) -> None:
        """Begins with none. patience: seconds that a process has to end after it was interrupted."""
        self.stopped, self._patience = False, patience
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = Lock()

    def run(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        log: BinaryIO | None = None,
        cores: Collection[int] = (),
    ) -> int:
        """Runs a process; returns its exit code. After `stop` it runs none.

        log: gets its output. cores: numbers of the processor cores that it may use; empty for all of this process.
        """
        with self._lock:
            if self.stopped:
                return EXIT_INTERRUPTED
            nothing, errors = subprocess.DEVNULL, subprocess.STDOUT if log else None
            process = subprocess.Popen(
                words, env=environment, stdin=nothing, stdout=log, stderr=errors, process_group=0
            )
            self._running.add(process)
            if cores:
                with suppress(ProcessLookupError):  # it has ended already
                    os.sched_setaffinity(process.pid, cores)
        try:
            return process.wait()
        except KeyboardInterrupt:  # it is in another process group, so it was not interrupted as well
            self._end([process])
            raise
        finally:
            with self._lock:
                self._running.discard(process)

    def stop(self) -> None:
        """Interrupts all processes as Ctrl-C does, and ends those that still run when patience is over."""
        with self._lock:
            self.stopped, running = True, list(self._running)
        self._end(running)

    def _end(self, running: Sequence[subprocess.Popen[bytes]]) -> None:
        for process in running:
            process.send_signal(signal.SIGINT)
        end_by = time.monotonic() + self._patience
        for process in running:
            try:
                process.wait(max(end_by - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def count_cores() -> int:
    """Returns the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Work:
    """What a measurement runs, and where.

    out: folder of the runs. limit: number of clips. device: of the networks, or several with commas, which take turns;
    models without a network run on the CPU. jobs: number of processes at a time. reuse: as in `vcorr run`. only:
    beginnings of the names of tasks to run; empty for all. tables_only: nothing runs, stored runs are read. deadline:
    of `time.monotonic`, when tasks that still run are interrupted. processes: those that run now.
    """

    out: Path
    limit: int
    device: str = "cpu"
    jobs: int = 1
    reuse: str = "matching"
    only: Collection[str] = ()
    tables_only: bool = False
    deadline: float = math.inf
    processes: Processes = field(default_factory=Processes, repr=False, compare=False)
    _turn: Iterator[int] = field(default_factory=count, repr=False, compare=False)

    def inside(self, folder: str, limit: int) -> Work:
        """Returns the same work in a folder of this one, over at most `limit` clips."""
        return replace(self, out=self.out / folder, limit=min(self.limit, limit))

    def run_one(self, made: Command | Call) -> int:
        """Runs a command or a function in a process of its own, and returns its exit code."""
        device = self.next_device() if made.on_device else "cpu"
        if isinstance(made, Call):
            asked = {"arguments": list(map(_plain, made.arguments)), "device": device if made.on_device else None}
            return self._python(["vcorr_tiny.command_runs", made.function, json.dumps(asked)])
        reuse = [] if made.study else ["--reuse", self.reuse]
        return self._vcorr([*made.words, "--device", device, "--dtype", made.dtype, *reuse])

    def next_device(self) -> str:
        """Returns the devices in turn."""
        devices = self.device.split(",")
        return devices[next(self._turn) % len(devices)]

    def _vcorr(self, arguments: Sequence[str]) -> int:
        return self._python(["vcorr", *arguments])

    def _python(self, words: Sequence[str]) -> int:
        threads = max(count_cores() // self.jobs, 1)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        return self.processes.run(run_module(words), environment)


def run_module(words: Sequence[str]) -> list[str]:
    """Returns the words that run a module with its arguments, in a process that ends with this one."""
    return [sys.executable, "-m", "vcorr_tiny.tied_process", *words]


def _plain(value: str | int | Path) -> str | int:
    return str(value) if isinstance(value, Path) else value


def read_count(text: str) -> int:
    """Reads a whole number of at least 1; raises ArgumentTypeError for anything else."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def read_share(text: str) -> float:
    """Reads a number from 0 to 1; raises ArgumentTypeError for anything else."""
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return share


def make_parser(module: str, description: str, out: str, clips: int) -> argparse.ArgumentParser:
    """Returns a parser with the options of `Work` and of the page."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path(out), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--limit", type=read_count, default=clips, help="clips (default: %(default)s)")
    parser.add_argument("--docs", type=Path, help="docs folder whose page is updated")
    parser.add_argument("--device", default="cpu", help="of networks, such as cuda:0,cuda:1 (default: %(default)s)")
    parser.add_argument("--jobs", type=read_count, default=1, help="processes at a time (default: %(default)s)")
    parser.add_argument("--reuse", choices=("never", "matching", "only"), default="matching", help="as in vcorr run")
    parser.add_argument("--only", default="", metavar="NAME[,NAME]", help="run only tasks that begin so; make no table")
    until = "seconds after which tasks that still run are interrupted; the same command goes on later"
    parser.add_argument("--until", type=float, default=math.inf, metavar="SECONDS", help=until)
    parser.add_argument("--list", action="store_true", help="print the names of the tasks, and run nothing")
    parser.add_argument("--tables-only", action="store_true", help="run nothing; make the tables of stored runs")
    return parser


def read_work(options: argparse.Namespace) -> Work:
    """Returns the work that parsed options describe."""
    only = tuple(name for name in options.only.split(",") if name)
    ends = time.monotonic() + options.until
    return Work(
        options.out, options.limit, options.device, options.jobs, options.reuse, only, options.tables_only, ends
    )


def end(main: Callable[[], int]) -> NoReturn:
    """Runs the main function of a command and ends the process; prints an expected error without its traceback."""
    try:
        code = main()
    except VcorrError as error:
        sys.stderr.write(f"Error: {error}\n")
        code = error.exit_code
    except KeyboardInterrupt as error:
        sys.stderr.write(f"Interrupted. {error}".rstrip() + "\n")
        code = EXIT_INTERRUPTED
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Calls the function that two words name, as `Work.run_one` writes them; returns the exit code."""
    function, asked = sys.argv[1:] if arguments is None else arguments
    module, _, name = function.partition(":")
    values = json.loads(asked)
    keywords = {} if values["device"] is None else {"device": values["device"]}
    getattr(importlib.import_module(module), name)(*values["arguments"], **keywords)
    return 0


if __name__ == "__main__":
    end(main)
