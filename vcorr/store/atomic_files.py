"""Writes files and folders whole or not at all: also after kill -9, after a power cut and on a full disk.

A new file is written under a temporary name next to its place, flushed to the disk (`fsync`), and renamed. So its name
always leads to a whole file, the old one or the new one.

A writer holds a lock of the kernel on its temporary file or folder while it works. The kernel releases the lock when
the process ends. So `remove_temporaries` can tell what a killed process left behind from what another process is
writing. It never asks process numbers, because they are used again.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from vcorr.contract.errors import StoreError

TEMPORARY_SUFFIX = ".tmp"
_REPLACED_SUFFIX = ".old"
_MARK = r"\.\d+(?:\.[0-9a-f]{8})?"
_TEMPORARY = re.compile(rf"\..+{_MARK}{re.escape(TEMPORARY_SUFFIX)}")

_NO_SUCH_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EBADF}
"""Errors of `flock` on file systems without locks, or without locks of folders."""
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES}
"""Errors of `fsync` on a folder where the system has no such thing."""
_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[str]:
    """Yields the name of a temporary file, which becomes `path` if the block succeeds and is deleted if it fails.

    Raises:
        StoreError: the file cannot be written; the message says what to do.
    """
    try:
        temporary, claim = _create_file(path)
        try:
            yield str(temporary)
            _sync(temporary)
            os.replace(temporary, path)
            sync_folder(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            _close(claim)
    except OSError as error:
        raise cannot_write(path, error) from error


def write_text(path: Path, text: str, *, errors: str = "strict") -> None:
    """Writes a text file in UTF-8; atomic. errors: what happens to half characters, as in `str.encode`.

    Raises:
        StoreError: the file cannot be written.
    """
    with atomic_file(path) as temporary:
        Path(temporary).write_text(text, encoding="utf-8", errors=errors)


@contextlib.contextmanager
def replace_folder(target: Path, *, existing: bool = True) -> Iterator[Path]:
    """Yields an empty folder, which becomes `target` if the block succeeds and is deleted if it fails.

    First removes what killed processes left behind at this place. If one was killed between the two renames that
    replace a folder, the replaced folder is brought back.

    Args:
        target: the folder to write; its parents are created.
        existing: whether a `target` that exists is replaced; False if that is an error.

    Raises:
        StoreError: it cannot be written.
    """
    target = target.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_drafts(target)
        draft, claim = _create_folder(target)
        try:
            yield draft
            _sync_tree(draft)
            _move_into_place(draft, target, existing=existing)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            _close(claim)
    except OSError as error:
        raise cannot_write(target, error) from error


@contextlib.contextmanager
def replace_together(folder: Path) -> Iterator[Path]:
    """Yields a folder for new files, which replace the files of the same names in `folder` if the block succeeds.

    If the block fails, `folder` stays as it was, however many files were written. The caller holds the lock of the
    run. The new files are written by `atomic_file`.

    Raises:
        StoreError: a file cannot be written.
    """
    staging = _temporary_name(folder)
    remove_drafts(folder)
    try:
        staging.mkdir()
        yield staging
        for path in sorted(staging.iterdir()):
            os.replace(path, folder / path.name)
        sync_folder(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def make_folder(path: Path) -> None:
    """Creates a folder and its parents, if it does not exist.

    Raises:
        StoreError: it cannot be created, or something else has its name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def set_aside(path: Path) -> Path:
    """Renames a damaged file or folder to `NAME.damaged`, `NAME.damaged-2` …; returns the new path.

    Raises:
        StoreError: it cannot be renamed.
    """
    number, aside = 1, path.with_name(f"{path.name}.damaged")
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    try:
        os.rename(path, aside)
        sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    return aside


def remove_temporaries(folder: Path) -> None:
    """Deletes the temporary files in a folder that no process is writing, and folders that would have replaced it.

    The caller holds the lock of the run or dataset.

    Raises:
        StoreError: one cannot be deleted.
    """
    try:
        for name in os.listdir(folder) if folder.is_dir() else ():
            if _TEMPORARY.fullmatch(name) and not (folder / name).is_dir():
                _remove_file(folder / name)
    except OSError as error:
        raise cannot_write(folder, error) from error
    remove_drafts(folder)


def remove_drafts(target: Path) -> None:
    """Deletes folders that killed processes wrote in order to replace `target`; brings `target` back if it is gone."""
    own = re.compile(rf"\.{re.escape(target.name)}{_MARK}({re.escape(TEMPORARY_SUFFIX)}|{_REPLACED_SUFFIX})")
    try:
        found = [path for path in target.parent.iterdir() if path.is_dir() and own.fullmatch(path.name)]
    except OSError:
        return  # a parent that cannot be listed is reported by the write
    for leftover in found:
        claim = _claim(leftover)
        if claim is None:
            continue
        if leftover.name.endswith(_REPLACED_SUFFIX) and not os.path.lexists(target):
            with contextlib.suppress(OSError):
                leftover.rename(target)
        else:
            shutil.rmtree(leftover, ignore_errors=True)
        _close(claim)


def cannot_write(path: Path, error: OSError) -> StoreError:
    """Returns the error for a path that cannot be written, with what to do."""
    if error.errno in _FULL:
        return StoreError(
            f"The disk is full: {path} could not be written.", hint="Free some space, or choose --out DIR."
        )
    # Arrow's own errors have a number, but a whole report instead of the system's words for it
    reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error))
    return StoreError(
        f"{path} cannot be written: {reason}.",
        hint="Choose another folder with --out DIR; finished results can be copied there.",
    )


def sync_folder(folder: Path) -> None:
    """Flushes the names in a folder to the disk, so that a rename survives a power cut."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def _sync(path: Path) -> None:
    # Windows flushes only what is open for writing; elsewhere a file may be read-only, such as a copied one
    file = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _sync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for name in files:
            _sync(Path(parent, name))
        sync_folder(Path(parent))


def _temporary_name(path: Path) -> Path:
    # the number is for people; the random part keeps the names of two processes with one number apart
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")


def _create_file(path: Path) -> tuple[Path, int]:
    """Creates a temporary file next to `path` and claims it; returns its path and the claim."""
    while True:
        temporary = _temporary_name(path)
        os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
        claim = _claim(temporary, otherwise=_UNKNOWN)
        if claim is not None:
            return temporary, claim


def _create_folder(target: Path) -> tuple[Path, int]:
    """Creates a temporary folder next to `target` and claims it; returns its path and the claim."""
    while True:
        draft = _temporary_name(target)
        draft.mkdir()
        claim = _claim(draft, otherwise=_UNKNOWN)
        if claim is not None:
            return draft, claim


_UNKNOWN = -1
"""Claim of a path on a system that has no such locks."""


def _claim(path: Path, *, otherwise: int | None = None) -> int | None:
    """Locks a temporary file or folder until it is closed or the process ends.

    Returns:
        The open file; None if another process has claimed the path, or has just deleted it; `otherwise` where the
        kernel has no such locks.
    """
    try:
        import fcntl
    except ImportError:
        return otherwise
    try:
        # network file systems lock a file only if it is open for writing
        file = os.open(path, os.O_NOFOLLOW | (os.O_RDONLY if path.is_dir() else os.O_RDWR))
    except FileNotFoundError:
        return None
    except PermissionError:
        return otherwise
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(file)):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        if error.errno not in _NO_SUCH_LOCKS:
            os.close(file)
            raise
        os.close(file)
        return otherwise
    os.close(file)
    return None


def _close(claim: int) -> None:
    if claim != _UNKNOWN:
        os.close(claim)


def _remove_file(leftover: Path) -> None:
    """Deletes a temporary file unless a process is writing it."""
    # without locks of the kernel, the lock that the caller holds says that nobody is writing
    claim = _UNKNOWN if leftover.is_symlink() else _claim(leftover, otherwise=_UNKNOWN)
    if claim is not None:
        leftover.unlink(missing_ok=True)
        _close(claim)


def _move_into_place(draft: Path, target: Path, *, existing: bool) -> None:
    """Renames a folder to its final name; the folder that was there becomes the draft."""
    if not (existing and target.exists()):
        os.rename(draft, target)
        return
    if _exchange(draft, target):
        return
    old = draft.with_name(draft.name.removesuffix(TEMPORARY_SUFFIX) + _REPLACED_SUFFIX)
    os.rename(target, old)
    try:
        os.rename(draft, target)
    except OSError:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchanges two paths in one step, so that a kill cannot fall between two renames; False if the system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    return bool(rename(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0)
