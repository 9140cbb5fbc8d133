"""Runs `vcorr` commands for the measurements of the pages, several at a time, and holds their common options."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from vcorr import UsageError, VcorrError


@dataclass(frozen=True)
class Work:
    """What a measurement runs, and where.

    out: folder of the runs. limit: number of clips. device: of the networks; models without a network run on the CPU.
    jobs: number of commands at a time. reuse: as in `vcorr run`. only: the models to run; empty for all.
    tables_only: nothing runs, stored runs are read.
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
        models = [command[command.index("--model") + 1] for command in commands]
        if unknown := sorted(set(self.only) - set(models)):
            raise UsageError(f"--only {','.join(unknown)}: known are {', '.join(dict.fromkeys(models))}.")
        chosen = [
            [*command, "--device", self.device if model in networks else "cpu", "--dtype", dtype, *self._common]
            for command, model in zip(commands, models, strict=True)
            if not self.only or model in self.only
        ]
        with ThreadPoolExecutor(self.jobs) as pool:
            codes = list(pool.map(self._vcorr, chosen))
        if failed := [" ".join(command) for command, code in zip(chosen, codes, strict=True) if code]:
            raise VcorrError(f"These commands failed: {'; '.join(f'vcorr {line}' for line in failed)}.")

    @property
    def _common(self) -> tuple[str, ...]:
        return "--limit", str(self.limit), "--reuse", self.reuse

    def _vcorr(self, arguments: Sequence[str]) -> int:
        threads = max((os.cpu_count() or 1) // self.jobs, 1)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        return subprocess.run([sys.executable, "-m", "vcorr", *arguments], check=False, env=environment).returncode


def make_parser(module: str, description: str, out: str, clips: int) -> argparse.ArgumentParser:
    """Returns a parser with the options of `Work` and of the page."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--out", type=Path, default=Path(out), help="folder of the runs (default: %(default)s)")
    parser.add_argument("--limit", type=int, default=clips, help="clips (default: %(default)s)")
    parser.add_argument("--docs", type=Path, help="docs folder whose page is updated")
    parser.add_argument("--device", default="cpu", help="where networks run (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="commands at a time (default: %(default)s)")
    parser.add_argument("--reuse", choices=("never", "matching", "only"), default="matching", help="as in vcorr run")
    parser.add_argument("--only", default="", metavar="MODEL[,MODEL]", help="run only these models, and make no table")
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
