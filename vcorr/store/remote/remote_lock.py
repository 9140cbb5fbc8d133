"""Locks a run in a store: one command writes at a time, on whichever machine.

The lock is an object that only one writer can create (a conditional PUT). A store that would let a second one create it
is refused. A killed writer leaves the object behind. The working copy that took it may take it again: the kernel's lock
of its folder says that no other process of this machine writes. Another machine cannot know.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from fsspec.spec import AbstractFileSystem

from vcorr.contract.errors import StoreError
from vcorr.store.json_text import read_json
from vcorr.store.lock import LOCK, Holder, NotWritableError
from vcorr.store.remote.filesystems import naming_url
from vcorr.store.remote.mirror import Mirror
from vcorr.store.remote.sync_state import sync_alone


@contextlib.contextmanager
def hold_remote_lock(mirror: Mirror) -> Iterator[None]:
    """Holds the lock of a run in its store during the block. The caller holds the lock of the working copy.

    Raises:
        NotWritableError: the store refuses to write, or cannot lock.
        StoreError: another machine holds the lock or may hold it, or the store cannot be used.
    """
    lock = _RemoteLock(mirror)
    lock.take()
    try:
        yield
    finally:
        with contextlib.suppress(StoreError, OSError):
            lock.release()


class _RemoteLock:
    def __init__(self, mirror: Mirror) -> None:
        self._url, self._files, self._path = mirror.url, mirror.filesystem, f"{mirror.path}/{LOCK}"
        with sync_alone(mirror.folder) as state:
            self._copy = state.copy
        now = datetime.now(UTC).isoformat(timespec="seconds")
        words = {"host": socket.gethostname(), "process": os.getpid(), "since": now, "copy": self._copy}
        self._content = json.dumps({**words, "token": secrets.token_hex(8)}).encode()

    def take(self) -> None:
        if _cannot_create(self._files):
            raise self._refuse("its file system in fsspec has no conditional write")
        with naming_url(self._url):
            try:
                self._create()
                self._check_exclusive()
            except FileNotFoundError as error:
                raise StoreError(f"{self._url} cannot be written: {error}.", hint="Create the bucket first.") from error

    def _create(self) -> None:
        try:
            self._files.pipe_file(self._path, self._content, mode="create")
        except FileExistsError:
            held = self._read()
            if held == self._content:  # the reply to a first try was lost on the way
                return
            found = _parse(held)
            if found.get("copy") != self._copy:
                raise self._is_held(found) from None
            self._files.pipe_file(self._path, self._content)

    def _check_exclusive(self) -> None:
        """Checks that the lock cannot be created once more: some stores ignore the condition."""
        try:
            self._files.pipe_file(self._path, self._content, mode="create")
        except FileExistsError:
            return
        self._files.rm_file(self._path)
        raise self._refuse("it ignores the condition of a conditional write")

    def release(self) -> None:
        """Deletes the lock. The lock of another writer stays: somebody may have deleted this one by hand."""
        with naming_url(self._url):
            if self._read() == self._content:
                self._files.rm_file(self._path)

    def _read(self) -> bytes:
        self._files.invalidate_cache()
        content: bytes = self._files.cat_file(self._path)
        return content

    def _refuse(self, reason: str) -> NotWritableError:
        return NotWritableError(
            f"{self._url} cannot be locked: {reason}. Two commands could write the run at once.",
            hint="Write to a folder with --out DIR, and copy the run there when it is complete.",
        )

    def _is_held(self, found: dict[str, Any]) -> StoreError:
        try:
            holder = str(Holder(str(found["host"]), int(found["process"]), str(found["since"])))
        except (KeyError, ValueError, TypeError):
            holder = "another process"
        protocol = self._url.partition("://")[0]
        delete = f"import fsspec; fsspec.filesystem({protocol!r}).rm({self._path!r})"
        return StoreError(
            f"{self._url} is locked by {holder}. Whether that process still runs cannot be seen from here.",
            hint=f"Once it has ended, delete the lock and repeat the command: python -c {shlex.quote(delete)}",
        )


def _cannot_create(files: Any) -> bool:
    return getattr(files.pipe_file, "__func__", None) is AbstractFileSystem.pipe_file


def _parse(content: bytes) -> dict[str, Any]:
    try:
        found = read_json(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
