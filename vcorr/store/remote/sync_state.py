"""Keeps what a working copy and its store had in common last, so that changes on either side are known.

It is the file `.remote.json` in the folder of a run.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vcorr.store.atomic_files import make_folder, write_text
from vcorr.store.json_text import read_json

STATE = ".remote.json"
_GATE = ".remote.lock"


@dataclass(frozen=True)
class Stat:
    """A file of the working copy: its size in bytes, and the time of its last change in ns."""

    size: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> Stat | None:
        """Returns the facts of a file; None if there is none."""
        try:
            found = path.stat()
        except OSError:
            return None
        return cls(found.st_size, found.st_mtime_ns)


@dataclass(frozen=True)
class Shared:
    """A file that was equal on both sides. tag: what the store says of its content, such as its ETag."""

    size: int
    changed: int
    tag: str


@dataclass
class SyncState:
    """What both sides had in common last.

    copy: names this working copy for ever, so that its own abandoned lock in the store is known. files: by name, as
    paths below the run with slashes.
    """

    copy: str = field(default_factory=lambda: secrets.token_hex(16))
    files: dict[str, Shared] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> SyncState:
        """Returns the state of a folder; an empty one if there is none, or it is damaged."""
        try:
            values = read_json((folder / STATE).read_bytes())
            files = {name: Shared(**value) for name, value in values["files"].items()}
            return cls(str(values["copy"]), files)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls()

    def write(self, folder: Path) -> None:
        """Writes the state; raises StoreError if the disk is full."""
        write_text(folder / STATE, json.dumps(asdict(self)))

    def is_changed(self, name: str, found: Stat | None) -> bool:
        """Returns whether a file of the working copy is there and differs from what the store was given."""
        if found is None:
            return False
        shared = self.files.get(name)
        return shared is None or (shared.size, shared.changed) != (found.size, found.changed)


@contextlib.contextmanager
def sync_alone(folder: Path) -> Iterator[SyncState]:
    """Yields the state of a folder while no other process of this machine changes it, and writes it at the end.

    Raises:
        StoreError: the folder cannot be written.
    """
    make_folder(folder)
    file = os.open(folder / _GATE, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _wait_for(file)
        state = SyncState.read(folder)
        try:
            yield state
        finally:
            state.write(folder)
    finally:
        os.close(file)


def _wait_for(file: int) -> None:
    try:
        import fcntl
    except ImportError:
        return
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(file, fcntl.LOCK_EX)
