"""Copies what a board needs of runs, in a small form that can be shared: their records, and scores in one file each."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from vcorr.contract.errors import MissingError, UsageError, unknown_name
from vcorr.contract.metric_columns import read_columns
from vcorr.store.atomic_files import make_folder, replace_folder
from vcorr.store.rundir import PACKED, RECORD, RunDirectory, find_runs, is_run
from vcorr.store.shards import write_packed

COMPLETE = "complete"


class Collected(NamedTuple):
    """A run that was copied, with its size in bytes; or why it was not, and size 0."""

    run: Path
    reason: str
    size: int = 0


def collect_runs(results: Path, out: Path, metrics: Collection[str], also: Collection[str] = ()) -> Iterator[Collected]:
    """Copies the complete runs below a folder, at any depth, into one folder; yields each with what became of it.

    A copy of the same id and name is replaced. Runs that differ in their tracks alone have the same id; the second gets
    the name RUN-2. Copies in `out`, which may be below `results`, are not copied again.

    Args:
        results: a folder with runs, or with folders of runs.
        out: the folder of copies.
        metrics: the columns to keep, where a run has them.
        also: further columns to keep, which somebody asked for by name.

    Raises:
        MissingError: there are no runs.
        UsageError: no run was scored by a column of `also`, or a copy would replace a whole run.
        StoreError: a run is damaged, or `out` cannot be written.
    """
    if results.resolve().is_relative_to(out.resolve()):
        raise UsageError(f"--out {out} holds the runs of --results {results}.", hint="Name another folder for copies.")
    runs = [run for run in find_all_runs(results) if not run.path.resolve().is_relative_to(out.resolve())]
    if not runs:
        raise MissingError(f"There are no runs in {results}.", hint="Runs are made by: vcorr run --out DIR")
    _check_columns(runs, also)
    make_folder(out)
    taken: set[str] = set()
    for run in runs:
        if reason := _why_not(run):
            yield Collected(run.path, reason)
            continue
        target = out / _find_name(run.run_id, taken)
        _check_replaceable(target)
        pack_run(run, target, [*metrics, *also])
        yield Collected(run.path, "", sum(path.stat().st_size for path in target.iterdir()))


def find_all_runs(folder: Path) -> Iterator[RunDirectory]:
    """Yields the runs in a folder and in all folders below it, sorted by path."""
    found = find_runs(folder)
    yield from found
    inside = {run.path for run in found}
    if folder in inside or not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path not in inside and not path.name.startswith("."):
            yield from find_all_runs(path)


def pack_run(run: RunDirectory, target: Path, metrics: Collection[str]) -> None:
    """Writes a copy of a run that has its record and these metrics of its scores, without predictions and tracks.

    Raises:
        StoreError: the run is damaged, or the copy cannot be written.
    """
    fingerprint = str((run.record().get("fingerprints") or {}).get("score", ""))
    kept = [_keep(table, metrics) for table in run.iter_shards("scores")]
    with replace_folder(target) as folder:
        write_packed(folder / PACKED, kept, fingerprint)
        shutil.copyfile(run.path / RECORD, folder / RECORD)


def _check_replaceable(target: Path) -> None:
    """Raises UsageError if there is a whole run in the place of a copy: its predictions would be lost."""
    if is_run(target) and not (target / PACKED).is_file():
        raise UsageError(f"{target} is a whole run, not a copy of one.", hint="Name another folder for copies: --out")


def _check_columns(runs: Iterable[RunDirectory], also: Collection[str]) -> None:
    known = {name for run in runs for one in read_columns(run.record()) for name in one.columns}
    for name in also:
        if name not in known:
            raise unknown_name("column of scores", name, known)


def _keep(table: pa.Table, metrics: Collection[str]) -> pa.Table:
    """Returns the rows of some metrics; rows of clips without scores, which have no metric, are kept as well."""
    return table.filter(pc.is_in(table["metric"], pa.array(["", *metrics], pa.string())))


def _why_not(run: RunDirectory) -> str:
    status = run.record().get("status")
    return "" if status == COMPLETE else f"it is {status}, not complete"


def _find_name(name: str, taken: set[str]) -> str:
    numbered = (f"{name}-{number}" for number in count(2))
    found = next(each for each in chain([name], numbered) if each not in taken)
    taken.add(found)
    return found
