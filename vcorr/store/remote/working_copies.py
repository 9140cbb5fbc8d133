"""What a run directory does so that its working copy and its store agree. For an ordinary folder, nothing.

A command looks at the store when it opens a run. From then on it downloads each table when it first reads it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from vcorr.contract.errors import StoreError
from vcorr.store.atomic_files import make_folder
from vcorr.store.remote.addresses import url_of
from vcorr.store.remote.filesystems import map_at_once
from vcorr.store.remote.mirror import Mirror
from vcorr.store.remote.sync_state import STATE
from vcorr.store.run_names import LOGS, PACKED, RECORD, TABLES, WRITE_ORDER

_open: dict[Path, Mirror] = {}
"""The mirrors that this process has looked at, by folder."""


def refresh(folder: Path) -> None:
    """Looks at the store of a run or of a folder of runs. Of a run, downloads its record.

    Of a folder of runs, creates a folder for each run, which `refresh_each` fills.

    Raises:
        StoreError, MissingError, UsageError: the store cannot be used.
    """
    if url_of(folder) is None:
        return
    mirror = Mirror.of(folder)
    assert mirror is not None
    files, folders = mirror.list_level()
    is_there = {RECORD, PACKED} & set(files) or set(TABLES) & set(folders)
    if not is_there and not (folder / STATE).exists():
        _open.pop(folder, None)
        for name in folders:
            make_folder(folder / name)
        return
    mirror.look()
    mirror.fetch([RECORD, PACKED])
    if is_there and RECORD not in mirror.files:  # what tables say takes the place of a lost record
        mirror.fetch(TABLES)
    _open[folder] = mirror


def refresh_each(folders: Iterable[Path]) -> None:
    """Refreshes several runs, some at a time; raises as `refresh`."""
    map_at_once(refresh, [folder for folder in folders if url_of(folder) is not None])


def fetch(folder: Path, name: str) -> None:
    """Downloads a folder of a run that this process has refreshed, unless it was downloaded since then.

    Raises:
        StoreError: the store cannot be read, or the disk cannot be written.
    """
    if (mirror := _open.get(folder)) is not None:
        mirror.fetch([name])


def upload(folder: Path) -> None:
    """Uploads what is new in a run whose lock this process holds.

    Raises:
        StoreError: the store cannot be written. Everything stays in the folder.
    """
    if (mirror := _open.get(folder)) is not None:
        mirror.upload(WRITE_ORDER, left_out=[LOGS])


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Holds the lock of a run in its store during the block, downloads all of the run first, and uploads at the end.

    The caller holds the lock of the folder.

    Raises:
        NotWritableError: the store refuses to write, or cannot lock.
        StoreError: another machine is writing the run, or the store cannot be used.
    """
    if (mirror := Mirror.of(folder)) is None:
        yield
        return
    from vcorr.store.remote.remote_lock import hold_remote_lock

    with hold_remote_lock(mirror):
        mirror.look()
        mirror.fetch()
        _open[folder] = mirror
        try:
            yield
        except BaseException:
            # the error that ended the block counts, and not a second one
            with contextlib.suppress(StoreError):
                if not mirror.failed:
                    upload(folder)
            raise
        upload(folder)
