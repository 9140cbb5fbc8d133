"""Copies what a board needs of runs, in a small form that can be shared: their records, and scores in one file each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from vcorr.contract.errors import MissingError, StoreError, UsageError, unknown_name
from vcorr.contract.metric_columns import read_columns
from vcorr.store.atomic_files import make_folder, replace_folder
from vcorr.store.run_search import find_all_runs
from vcorr.store.rundir import PACKED, RECORD, RunDirectory, find_runs, is_run
from vcorr.store.shards import write_packed

COMPLETE = "complete"
ELSEWHERE = "Name another folder for copies: --out DIR"


class Collected(NamedTuple):
    """A run that was copied, with the size of its copy in bytes; or why it was not, and size 0.

    damaged: whether it cannot be read. hint: what to do then.
    """

    run: Path
    reason: str = ""
    hint: str = ""
    damaged: bool = False
    size: int = 0


def collect_runs(
    results: Path, out: Path, metrics: Collection[str], also: Collection[str] = (), *, only_new: bool = False
) -> Iterator[Collected]:
    """Copies the complete runs below a folder, at any depth, into one folder; yields each with what became of it.

    A copy of the same name is replaced. Runs that differ in their tracks alone have the same id; the second gets
    the name RUN-2. Copies in `out` are not collected again, if it lies below `results`.

    Args:
        results: a folder with runs, or with folders of runs.
        out: the folder of copies.
        metrics: the columns to keep, where a run has them.
        also: further columns to keep, which somebody asked for by name.
        only_new: whether to leave out runs whose copy is in `out` (`find_copied`), whatever columns it has.

    Raises:
        MissingError: there are no runs.
        UsageError: `out` holds `results`, is inside a run, or has something else where a copy belongs; or no run was
            scored by a column of `also`.
        StoreError: `out` cannot be written.
    """
    _check_place(results, out)
    runs = list(find_all_runs(results, leave_out=out))
    if not runs:
        raise MissingError(f"There are no runs in {results}.", hint="Runs are made by: vcorr run --out DIR")
    copied = find_copied(runs, out) if only_new else {}
    runs = [run for run in runs if run.path not in copied]
    left_out = {run.path: found for run in runs if (found := _why_not(run))}
    kept = [run for run in runs if run.path not in left_out]
    _check_columns(kept, also)
    targets = dict(zip((run.path for run in kept), _find_targets(kept, out, copied.values()), strict=True))
    make_folder(out)
    for run in runs:
        yield left_out.get(run.path) or _copy(run, targets[run.path], [*metrics, *also])


def find_copied(runs: Iterable[RunDirectory], out: Path) -> dict[Path, str]:
    """Returns the runs that have a whole copy in `out` with the same record: the names of the copies, by path."""
    copies = {_read_record(copy): copy.run_id for copy in find_runs(out) if copy.is_copy}
    found = {run.path: copies.get(_read_record(run)) for run in runs}
    return {path: name for path, name in found.items() if name is not None}


def _read_record(run: RunDirectory) -> bytes:
    """Returns the content of a record, which says when the run was last written; its path if it cannot be read."""
    try:
        return (run.path / RECORD).read_bytes()
    except OSError:
        return os.fsencode(run.path)


def _copy(run: RunDirectory, target: Path, metrics: Collection[str]) -> Collected:
    """Writes a copy of a run that has its record and these metrics of its scores, without predictions and tracks.

    Raises:
        StoreError: the copy cannot be written.
    """
    try:
        kept = [_keep(table, metrics) for table in run.iter_shards("scores")]
    except StoreError as error:
        return _tell_damage(run, error)
    if not kept:
        return Collected(run.path, "it has no scores")
    fingerprint = str((run.record().get("fingerprints") or {}).get("score", ""))
    with replace_folder(target) as folder:
        write_packed(folder / PACKED, kept, fingerprint)
        shutil.copyfile(run.path / RECORD, folder / RECORD)
    return Collected(run.path, size=sum(path.stat().st_size for path in target.iterdir()))


def _check_place(results: Path, out: Path) -> None:
    """Raises UsageError if copies in `out` would mix with runs, or hide in one."""
    place = out.resolve()
    if results.resolve().is_relative_to(place):
        raise UsageError(f"--out {out} holds the runs of --results {results}.", hint=ELSEWHERE)
    inside = next((path for path in (place, *place.parents) if is_run(path)), None)
    if inside is not None:
        raise UsageError(f"--out {out} is inside the run {inside}.", hint=ELSEWHERE)


def _find_targets(runs: Sequence[RunDirectory], out: Path, others: Iterable[str]) -> Iterator[Path]:
    """Yields the folder of each copy. others: names of copies that stay.

    Raises:
        UsageError: it exists and is no copy, for example a whole run, whose predictions would be lost.
    """
    taken = set(others)
    for run in runs:
        target = out / _find_name(run.run_id, taken)
        if is_run(target) and not RunDirectory(target).is_copy:
            raise UsageError(f"{target} is a whole run, not a copy of one.", hint=ELSEWHERE)
        if os.path.lexists(target) and not is_run(target):
            raise UsageError(f"{target} exists and is no copy of a run.", hint=ELSEWHERE)
        yield target


def _check_columns(runs: Iterable[RunDirectory], also: Collection[str]) -> None:
    known = {name for run in runs for one in read_columns(run.record()) for name in one.columns}
    for name in also:
        if name not in known:
            raise unknown_name("column of scores", name, known)


def _keep(table: pa.Table, metrics: Collection[str]) -> pa.Table:
    """Returns the rows of some metrics; rows of clips without scores, which have no metric, are kept as well."""
    return table.filter(pc.is_in(table["metric"], pa.array(["", *metrics], pa.string())))


def _why_not(run: RunDirectory) -> Collected | None:
    """Returns why a run is left out; None if it is copied."""
    try:
        status = run.record().get("status")
    except StoreError as error:
        return _tell_damage(run, error)
    return None if status == COMPLETE else Collected(run.path, f"it is {status}, not complete")


def _tell_damage(run: RunDirectory, error: StoreError) -> Collected:
    return Collected(run.path, error.message.removesuffix("."), error.hint, damaged=True)


def _find_name(name: str, taken: set[str]) -> str:
    numbered = (f"{name}-{number}" for number in count(2))
    found = next(each for each in chain([name], numbered) if each not in taken)
    taken.add(found)
    return found
