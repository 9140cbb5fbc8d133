"""Runs `vcorr` commands for the measurements of the pages, several at a time, and holds their common options."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import NoReturn

from vcorr import MissingError, UsageError, VcorrError


@dataclass(frozen=True)
class Command:
    """Words after `vcorr`, without device, dtype and reuse. on_device: whether it runs a network."""

    words: tuple[str, ...]
    on_device: bool = False

    @property
    def model(self) -> str:
        """Name of the model or tracker that runs."""
        flag = "--model" if "--model" in self.words else "--tracker"
        return self.words[self.words.index(flag) + 1]


@dataclass(frozen=True)
class Work:
    """What a measurement runs, and where.

    out: folder of the runs. limit: number of clips. device: of the networks, or several with commas, which take turns;
    models without a network run on the CPU. jobs: number of commands at a time. reuse: as in `vcorr run`. only: what to
    run, models or pieces; empty for all. tables_only: nothing runs, stored runs are read.
    """

    out: Path
    limit: int
    device: str = "cpu"
    jobs: int = 1
    reuse: str = "matching"
    only: Collection[str] = ()
    tables_only: bool = False

    def run(self, commands: Sequence[Sequence[str]], networks: Collection[str], dtype: str = "float32") -> None:
        """Runs commands, `run --model MODEL ...` each. networks: the models that run on `device`.

        The number of clips is added to each. A run that was stopped goes on, so a measurement can be made in pieces.

        Raises:
            UsageError: a model in `only` has no command.
            VcorrError: a command failed.
        """
        if self.tables_only:
            return
        every = [Command((*words, "--limit", str(self.limit))) for words in commands]
        models = [command.model for command in every]
        if unknown := sorted(set(self.only) - set(models)):
            raise UsageError(f"--only {','.join(unknown)}: known are {', '.join(dict.fromkeys(models))}.")
        chosen = [replace(command, on_device=command.model in networks) for command in every]
        self.run_commands([command for command in chosen if not self.only or command.model in self.only], dtype=dtype)

    def run_commands(
        self, commands: Sequence[Command], optional: Collection[str] = (), *, dtype: str = "float32"
    ) -> None:
        """Runs commands, `jobs` at a time.

        optional: models that are left out, with a sentence, if their weights or packages are missing.

        Raises:
            VcorrError: a command failed. The others ran to their ends.
        """
        devices = cycle(self.device.split(","))
        lines = [
            [*c.words, "--device", next(devices) if c.on_device else "cpu", "--dtype", dtype, "--reuse", self.reuse]
            for c in commands
        ]
        with ThreadPoolExecutor(self.jobs) as pool:
            codes = list(pool.map(self._vcorr, lines))
        failed = []
        for command, line, code in zip(commands, lines, codes, strict=True):
            if code == MissingError.exit_code and command.model in optional:
                sys.stderr.write(f"Left out, since {command.model} is not in reach: vcorr {' '.join(line)}\n")
            elif code:
                failed.append(f"vcorr {' '.join(line)}")
        if failed:
            raise VcorrError(f"These commands failed: {'; '.join(failed)}.")

    def _vcorr(self, arguments: Sequence[str]) -> int:
        threads = max((os.cpu_count() or 1) // self.jobs, 1)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        return subprocess.run([sys.executable, "-m", "vcorr", *arguments], check=False, env=environment).returncode


def make_parser(module: str, description: str, out: str, clips: int, what: str = "models") -> argparse.ArgumentParser:
    """Returns a parser with the options of `Work` and of the page. what: the things that `--only` names."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path(out), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=clips, help="clips (default: %(default)s)")
    parser.add_argument("--docs", type=Path, help="docs folder whose page is updated")
    parser.add_argument("--device", default="cpu", help="of networks, such as cuda:0,cuda:1 (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="commands at a time (default: %(default)s)")
    parser.add_argument("--reuse", choices=("never", "matching", "only"), default="matching", help="as in vcorr run")
    parser.add_argument("--only", default="", metavar="NAME[,NAME]", help=f"run only these {what}, and make no table")
    parser.add_argument("--tables-only", action="store_true", help="run nothing; make the tables of stored runs")
    return parser


def read_work(options: argparse.Namespace) -> Work:
    """Returns the work that parsed options describe."""
    only = tuple(name for name in options.only.split(",") if name)
    return Work(options.out, options.limit, options.device, options.jobs, options.reuse, only, options.tables_only)


def end(main: Callable[[], int]) -> NoReturn:
    """Runs the main function of a command and ends the process; prints an expected error without its traceback."""
    try:
        code = main()
    except VcorrError as error:
        sys.stderr.write(f"Error: {error}\n")
        code = error.exit_code
    sys.exit(code)
