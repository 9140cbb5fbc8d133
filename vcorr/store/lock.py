"""The lock of a folder that results are written into: one process writes at a time, and the lock says which.

The kernel holds the lock (`flock`) and releases it when the process ends, also after kill -9. The process number in the
file is there for people; it is never trusted, because numbers are used again. The writer deletes the file at the end.

In two cases the kernel cannot answer. Another host left the lock: this host cannot see whether that process still runs.
Or there are no such locks, as on Windows (no `fcntl`) and on some network file systems: then the file alone is the
lock, and a killed process leaves it behind. Both are refused, and the message says which file to delete.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from vcorr.contract.errors import StoreError

LOCK = ".lock"
"""Name of the file inside the folder."""

_NO_SUCH_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL}
"""What `flock` answers on file systems without locks."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. since: when it was taken, UTC, in ISO 8601."""

    host: str
    process: int
    since: str

    def __str__(self) -> str:
        return f"process {self.process} on host {self.host} (since {self.since})"


@contextlib.contextmanager
def hold_lock(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder during the block; reading the folder needs no lock.

    Raises:
        StoreError: another process holds the lock or may hold it, or the folder cannot be written.
    """
    path = folder / LOCK
    try:
        file, by_kernel = _acquire(path)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror or error}.",
            hint="Choose another folder with --out DIR; what is finished can be copied to where you may write.",
        ) from error
    try:
        yield
    finally:
        _release(path, file, by_kernel=by_kernel)


def _acquire(path: Path) -> tuple[int, bool]:
    """The open lock file, and whether the kernel holds the lock; else the existence of the file is the lock."""
    while True:
        file, is_new = _open(path)
        try:
            by_kernel = _lock_in_kernel(file)
            if by_kernel and not _is_at(path, file):
                os.close(file)  # the last holder deleted it after it was opened here
                continue
            _check_free(path, file, by_kernel=by_kernel, is_new=is_new)
            _write_holder(file)
        except BlockingIOError as error:
            holder = _read_holder(file)
            os.close(file)
            raise _is_held(path, holder) from error
        except BaseException:
            os.close(file)
            raise
        return file, by_kernel


def _open(path: Path) -> tuple[int, bool]:
    """The lock file, open, and whether this call made it."""
    while True:
        with contextlib.suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        with contextlib.suppress(FileNotFoundError):  # deleted in between by its holder
            return os.open(path, os.O_RDWR), False


def _lock_in_kernel(file: int) -> bool:
    """Locks an open file until it is closed or the process ends; False where the system has no such locks.

    Raises:
        BlockingIOError: another process holds it.
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
    except FileNotFoundError:
        return False


def _check_free(path: Path, file: int, *, by_kernel: bool, is_new: bool) -> None:
    """Refuses a lock whose holder may still run where the kernel cannot tell."""
    holder = _read_holder(file)
    if not by_kernel and not is_new:
        raise _may_be_held(path, holder, "this system has no file locks to ask")
    if holder is not None and holder.host != socket.gethostname():
        raise _may_be_held(path, holder, f"this host is {socket.gethostname()}")


def _release(path: Path, file: int, *, by_kernel: bool) -> None:
    """Deletes the file and releases the lock: in this order, so that the file of the next holder stays."""
    if not by_kernel:  # Windows deletes closed files only
        os.close(file)
    with contextlib.suppress(OSError):
        path.unlink()
    if by_kernel:
        os.close(file)


def _read_holder(file: int) -> Holder | None:
    """The holder that an open lock file names; None when it names none."""
    os.lseek(file, 0, os.SEEK_SET)
    try:
        values = json.loads(os.read(file, 4096))
        return Holder(str(values["host"]), int(values["process"]), str(values["since"]))
    except (ValueError, TypeError, KeyError):
        return None


def _write_holder(file: int) -> None:
    holder = Holder(socket.gethostname(), os.getpid(), datetime.now(UTC).isoformat(timespec="seconds"))
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, (json.dumps(asdict(holder)) + "\n").encode())


def _is_held(path: Path, holder: Holder | None) -> StoreError:
    return StoreError(
        f"{path.parent} is being written by {holder or 'another process'}.",
        hint="Wait until that process has ended, or stop it; then repeat the command.",
    )


def _may_be_held(path: Path, holder: Holder | None, reason: str) -> StoreError:
    return StoreError(
        f"{path.parent} is locked by {holder or 'another process'}. Whether that process still runs cannot be seen "
        f"from here: {reason}.",
        hint=f"Once it has ended, delete the lock and repeat the command: rm {shlex.quote(str(path))}",
    )
