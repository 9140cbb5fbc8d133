"""Locks a folder for writing results: one process writes at a time, and the lock says which.

The kernel holds the lock (`flock`) and releases it when the process ends, also after kill -9. The process number in the
file is for people. No code relies on it, because process numbers are used again. The writer deletes the file at the
end.

In two cases the kernel cannot say whether the writer still runs. First, the lock comes from another host. Second, the
system has no such locks, as on Windows (no `fcntl`) and on some network file systems: then the file alone is the lock,
and a killed process leaves it behind. Both cases are refused, and the message says which file to delete.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import socket
import stat
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from vcorr.contract.errors import StoreError
from vcorr.store.atomic_files import cannot_write
from vcorr.store.json_text import read_json
from vcorr.store.remote.addresses import place_of

LOCK = ".lock"
"""Name of the lock file inside the folder."""

_NO_SUCH_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL}
"""Errors of `flock` on file systems without locks."""
_NOT_ALLOWED = {errno.EROFS, errno.EACCES, errno.EPERM}
_LOOKS, _PAUSE = 100, 0.01
"""How often, and how many seconds apart, the file of a held lock is read until it names its holder."""


class NotWritableError(StoreError):
    """A folder in which this process may not write, such as an archive."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock. since: time when it took the lock, UTC, in ISO 8601."""

    host: str
    process: int
    since: str

    def __str__(self) -> str:
        return f"process {self.process} on host {self.host} (since {self.since})"


@contextlib.contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder during the block; reading the folder needs no lock.

    Raises:
        NotWritableError: this process may not write in the folder.
        StoreError: another process holds the lock or may hold it, or the folder cannot be written.
    """
    path = folder / LOCK
    try:
        file, by_kernel = _acquire(path)
    except OSError as error:
        found = cannot_write(folder, error)
        if error.errno in _NOT_ALLOWED:
            raise NotWritableError(found.message, hint=found.hint) from error
        raise found from error
    try:
        yield
    finally:
        _release(path, file, by_kernel=by_kernel)


def _acquire(path: Path) -> tuple[int, bool]:
    """Takes the lock; returns the open file, and whether the kernel holds the lock. If not, the file is the lock."""
    while True:
        file, is_new = _open(path)
        try:
            by_kernel = _lock_in_kernel(file)
            if by_kernel and not _is_at(path, file):
                os.close(file)  # the last holder deleted the file after it was opened here
                continue
            _check_free(path, file, by_kernel=by_kernel, is_new=is_new)
            _write_holder(file)
        except BlockingIOError as error:
            holder = _wait_for_name(file)
            os.close(file)
            raise _is_held(path, holder) from error
        except BaseException:
            os.close(file)
            raise
        return file, by_kernel


def _open(path: Path) -> tuple[int, bool]:
    """Opens the lock file; also returns whether this call created it.

    Raises:
        StoreError: something else has the name of the lock, such as a link, which may lead to no file.
    """
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        with contextlib.suppress(FileNotFoundError):  # its holder deleted it in between
            _check_is_file(path)
            return os.open(path, os.O_RDWR), False


def _check_is_file(path: Path) -> None:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise StoreError(
            f"{path} is where the lock of that folder belongs, and it is no ordinary file.",
            hint=f"Move it away and repeat the command: mv {shlex.quote(str(path))} {shlex.quote(f'{path}.old')}",
        )


def _lock_in_kernel(file: int) -> bool:
    """Locks an open file until it is closed or the process ends; returns False if the system has no such locks.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_SUCH_LOCKS:
            return False
        raise
    return True


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except OSError:
        return False


def _check_free(path: Path, file: int, *, by_kernel: bool, is_new: bool) -> None:
    """Checks that no process may still hold a lock about which the kernel says nothing.

    Raises:
        StoreError: a process may hold it.
    """
    holder = _read_holder(file)
    if not by_kernel and not is_new:
        raise _may_be_held(path, holder, "this system has no file locks")
    if holder is not None and holder.host != socket.gethostname():
        raise _may_be_held(path, holder, f"this host is {socket.gethostname()}")


def _release(path: Path, file: int, *, by_kernel: bool) -> None:
    """Deletes the file, then releases the lock; in this order, the file of the next holder stays.

    The lock of another process stays too: somebody may have deleted this one by hand, and another process begun.
    """
    is_own = _is_at(path, file)
    if not by_kernel:  # Windows deletes only closed files
        os.close(file)
    if is_own:
        with contextlib.suppress(OSError):
            path.unlink()
    if by_kernel:
        os.close(file)


def _read_holder(file: int) -> Holder | None:
    """Returns the holder that an open lock file names; None if it names none."""
    os.lseek(file, 0, os.SEEK_SET)
    try:
        values = read_json(os.read(file, 4096))
        return Holder(str(values["host"]), int(values["process"]), str(values["since"]))
    except (ValueError, TypeError, KeyError, OverflowError):
        return None


def _wait_for_name(file: int) -> Holder | None:
    """Returns the holder of a lock that another process has; None if it does not write its name for a second.

    A process writes its name after it took the lock, so for a moment the file is empty.
    """
    for _ in range(_LOOKS):
        holder = _read_holder(file)
        if holder is not None:
            return holder
        time.sleep(_PAUSE)
    return None


def _write_holder(file: int) -> None:
    holder = Holder(socket.gethostname(), os.getpid(), datetime.now(UTC).isoformat(timespec="seconds"))
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, (json.dumps(asdict(holder)) + "\n").encode())


def _is_held(path: Path, holder: Holder | None) -> StoreError:
    return StoreError(
        f"{place_of(path.parent)} is being written by {holder or 'another process'}.",
        hint="Wait until that process has ended, or stop it; then repeat the command.",
    )


def _may_be_held(path: Path, holder: Holder | None, reason: str) -> StoreError:
    return StoreError(
        f"{path.parent} is locked by {holder or 'another process'}. Whether that process still runs cannot be seen "
        f"from here: {reason}.",
        hint=f"Once it has ended, delete the lock and repeat the command: rm {shlex.quote(str(path))}",
    )
