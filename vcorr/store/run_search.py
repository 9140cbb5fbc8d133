"""Finds runs: in a folder and the folders below it, and by a run id or its beginning."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from vcorr.contract.errors import StoreError
from vcorr.store.remote import working_copies
from vcorr.store.remote.addresses import place_of, url_of
from vcorr.store.rundir import RECORD, RunDirectory, find_runs, is_run

DEFAULT_FOLDER = Path("runs")
"""The folder in which runs are made, listed and looked for by their id, unless another one is named."""
DEPTH = 4
"""Number of levels of folders below a folder in which its runs are listed."""
_NAMED = 5
"""Most runs that a message names."""


def find_all_runs(folder: Path, leave_out: Path | None = None, depth: int | None = None) -> Iterator[RunDirectory]:
    """Yields the runs in a folder and in all folders below it; each folder once, whatever links to it.

    The runs directly in a folder come first, then the runs of its folders, all by name.

    Args:
        folder: the folder, or a run.
        leave_out: a folder that is not searched.
        depth: number of levels below `folder` at which a run may lie; None for any.
    """
    yield from _find_below(folder, set() if leave_out is None else {leave_out.resolve()}, depth)


def _find_below(folder: Path, seen: set[Path], depth: int | None) -> Iterator[RunDirectory]:
    place = folder.resolve()
    if place in seen:
        return
    seen.add(place)
    found = find_runs(folder)
    inside = {run.path for run in found}
    for run in found:
        own = run.path.resolve()
        if run.path == folder or own not in seen:
            seen.add(own)
            yield run
    if folder in inside or not folder.is_dir() or (depth is not None and depth <= 1):
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path not in inside and not path.name.startswith("."):
            yield from _find_below(path, seen, None if depth is None else depth - 1)


def locate_run(path: Path) -> RunDirectory:
    """Finds an existing run without reading its record.

    path: its directory; a folder that holds no other run; its id or the beginning of it, for a run in the folder `runs`
    or below it; FOLDER/ID, with the whole id or its beginning, for a run in another folder or below that.

    Raises:
        StoreError: there is no such run, or there are several.
    """
    working_copies.refresh(path)
    if is_run(path):
        return RunDirectory(path)
    if os.path.lexists(path):
        return _only_run_in(path)
    return _run_with_id(path)


def open_run(path: Path) -> RunDirectory:
    """Finds an existing run as `locate_run` does, and reads its record.

    Raises:
        StoreError: there is no such run, or there are several.
        DamagedRecordError: its record cannot be read.
    """
    run = locate_run(path)
    run.record()
    return run


def _only_run_in(folder: Path) -> RunDirectory:
    inside = list(find_all_runs(folder, depth=DEPTH)) if folder.is_dir() else []
    if len(inside) == 1:
        return inside[0]
    hint = f"It holds these runs: {_name_some(inside, folder)}." if inside else "Runs are made by: vcorr run"
    raise StoreError(f"{place_of(folder)} is not a run: it has no {RECORD}.", hint=hint)


def _run_with_id(path: Path) -> RunDirectory:
    folder = DEFAULT_FOLDER if path.parent == Path() else path.parent
    runs = list(find_all_runs(folder, depth=DEPTH)) if _may_hold_runs(folder) else []
    found = _match(runs, path.name)
    if len(found) == 1:
        return found[0]
    is_default = folder == DEFAULT_FOLDER
    listing = "vcorr list runs" + ("" if is_default else f" --results {shlex.quote(place_of(folder))}")
    if found:
        raise StoreError(
            f"{place_of(path)} names several runs in {place_of(folder)}: {_name_some(found, folder)}.",
            hint=f"Write more of the id, or the folder of the run. To tell them apart: {listing}",
        )
    if runs:
        raise StoreError(
            f"{place_of(path)} is not a run: it has no {RECORD}, and no run id in {place_of(folder)} begins with "
            f"{path.name!r}.",
            hint=f"The runs there: {listing}",
        )
    raise StoreError(f"{place_of(path)} is not a run: it has no {RECORD}.", hint="Runs are made by: vcorr run")


def _may_hold_runs(folder: Path) -> bool:
    """Returns whether runs can be looked for in a folder: it exists (a name that is too long raises), or is a URL."""
    return url_of(folder) is not None or os.path.isdir(folder)


def _match(runs: Sequence[RunDirectory], name: str) -> Sequence[RunDirectory]:
    """Returns the runs with an id, else those whose id begins like it. A small copy gives way to its original."""
    found = [run for run in runs if run.run_id == name] or [run for run in runs if run.run_id.startswith(name)]
    if len({run.run_id for run in found}) > 1:
        return found
    return [run for run in found if not run.is_copy] or found


def _name_some(runs: Sequence[RunDirectory], folder: Path) -> str:
    named = ", ".join(str(run.path.relative_to(folder)) for run in runs[:_NAMED])
    return named + (" …" if len(runs) > _NAMED else "")
