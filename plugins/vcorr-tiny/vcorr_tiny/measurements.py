"""Describes a measurement of a page, and is the command of each: ``python -m vcorr_tiny.NAME``.

Every measurement has two stages. Its tasks run networks and need neither the pages nor what draws charts. Its tables
and pictures are made of small copies of what the tasks stored, on any machine.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcorr.board.collecting import collect_runs, find_copied
from vcorr.board.tables.definitions import builtin_boards, metric_names
from vcorr.store.atomic_files import atomic_file, make_folder
from vcorr.store.run_search import find_all_runs
from vcorr.store.rundir import find_runs
from vcorr_tiny.command_runs import Work, make_parser, read_work
from vcorr_tiny.statements import write_blocks
from vcorr_tiny.task_pool import Task, choose, run_tasks


@dataclass(frozen=True)
class Kept:
    """What a small copy holds. columns: of scores, of all runs. files: patterns of other files in the folder.

    for_boards: whether it also holds the columns that boards show. one_folder: whether all copies of runs lie in one
    folder; else each lies where its run does. going_on: patterns of files from which a stopped study goes on.
    """

    columns: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    for_boards: bool = False
    one_folder: bool = False
    going_on: tuple[str, ...] = ()

    def copy(self, out: Path, target: Path) -> None:
        """Copies what was measured in `out` and has no copy yet. A copy is whole or absent at every instant.

        Raises:
            StoreError, UsageError: the copy cannot be written.
        """
        make_folder(target)
        columns = (*self.columns, *(metric_names(builtin_boards()) if self.for_boards else ()))
        for folder in self._find_folders(out):
            list(collect_runs(folder, target / folder.relative_to(out), columns, only_new=True))
        _copy_files(out, target, self.files)

    def copy_unfinished(self, out: Path, target: Path) -> None:
        """Copies the files from which stopped studies go on, unless they are large.

        Raises:
            StoreError: the copy cannot be written.
        """
        paths = _find_files(out, self.going_on)
        if sum(path.stat().st_size for path in paths) <= MOST_UNFINISHED:
            _copy_files(out, target, self.going_on)

    def drop_others(self, out: Path, target: Path) -> None:
        """Deletes the copies of runs that are not in `out`, or were written anew since."""
        for folder in {run.path.parent for run in find_all_runs(target)} if out.is_dir() else ():
            source = out if self.one_folder else out / folder.relative_to(target)
            kept = set(find_copied(find_all_runs(source), folder).values())
            for copy in find_runs(folder):
                if copy.run_id not in kept:
                    shutil.rmtree(copy.path, ignore_errors=True)

    def _find_folders(self, out: Path) -> list[Path]:
        """Returns the folders whose runs are copied into one folder each."""
        runs = list(find_all_runs(out)) if self.columns else []
        return [out] if runs and self.one_folder else sorted({run.path.parent for run in runs})


MOST_UNFINISHED = 20_000_000
"""Most bytes of unfinished studies that are copied."""


def _find_files(out: Path, patterns: Iterable[str]) -> list[Path]:
    """Returns the files that fit one of the patterns, without temporary ones."""
    found = {path for pattern in patterns for path in out.glob(pattern)}
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _copy_files(out: Path, target: Path, patterns: Iterable[str]) -> None:
    """Copies the files that fit one of the patterns and differ from their copies.

    Raises:
        StoreError: a copy cannot be written.
    """
    for path in _find_files(out, patterns):
        copy, content = target / path.relative_to(out), path.read_bytes()
        if copy.is_file() and copy.read_bytes() == content:
            continue
        make_folder(copy.parent)
        with atomic_file(copy) as temporary:
            Path(temporary).write_bytes(content)


@dataclass(frozen=True)
class Measurement:
    """Everything that one page, or one section, is measured from.

    name: of its folder and before its tasks. clips: their number. list_tasks: returns what runs. write_tables: makes
    the generated blocks of stored results and returns them by name; with a docs folder, it writes them and the pictures
    into it.
    """

    name: str
    clips: int
    list_tasks: Callable[[Work], Sequence[Task]]
    write_tables: Callable[[Work, Path | None], Mapping[str, str]]
    kept: Kept

    def make_parser(self, module: str, description: str) -> argparse.ArgumentParser:
        """Returns the parser of its command."""
        return make_parser(f"vcorr_tiny.{module}", description, f"runs/{self.name}", self.clips)

    def run(self, options: argparse.Namespace) -> int:
        """Runs what parsed options ask for; returns the exit code.

        Raises:
            VcorrError: a task failed; the others ran.
        """
        work = read_work(options)
        tasks = choose(self.list_tasks(work), work.only)
        if options.list:
            sys.stdout.write("".join(f"{task.name}\n" for task in tasks))
            return 0
        if not work.tables_only:
            run_tasks(work, tasks)
        if work.only:
            return 0
        blocks = self.write_tables(work, options.docs)
        sys.stdout.write("\n\n".join(blocks.values()) + "\n")
        return 0


def copy_picture(picture: Path, docs: Path) -> None:
    """Copies a picture that was drawn where its videos are into the folder of pictures of the pages."""
    (docs / "images").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(picture, docs / "images" / picture.name)


def write_to(
    page: str, make_blocks: Callable[[Path, int], Iterable[tuple[str, str]]]
) -> Callable[[Work, Path | None], Mapping[str, str]]:
    """Returns the `write_tables` of a measurement whose blocks all stand on one page.

    page: its file in the docs folder. make_blocks: yields names and texts for a folder of runs and a number of clips.
    """

    def write_tables(work: Work, docs: Path | None) -> Mapping[str, str]:
        blocks = dict(make_blocks(work.out, work.limit))
        if docs:
            write_blocks(docs / page, blocks)
        return blocks

    return write_tables
