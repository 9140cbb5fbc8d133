"""Opens files that should be pickles, and says what is wrong with those that are none."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vcorr.contract.errors import MissingError, UsageError
from vcorr.data.plain_values import DamagedPickleError, ForeignError

FIRST_PROTOCOL, LAST_PROTOCOL = 2, 5

_AGAIN = "Get the file from its source again."
_READ = "Only numpy arrays, bytes, text, numbers, lists, tuples, sets and dictionaries are read."
_REMEDIES = {
    "a zip archive": "Unpack it first: unzip FILE",
    "a gzip archive": "Unpack it first: gunzip FILE, or tar -xzf FILE",
    "a pointer of Git LFS": "Get the file itself: git lfs pull",
}
_HEADS = {
    b"PK": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"version https://git-lfs": "a pointer of Git LFS",
    b"\x93NUMPY": "a .npy file",
    b"\x89HDF": "an HDF5 file",
    b"<": "a web page or XML",
}


@contextmanager
def open_pickle(path: Path) -> Iterator[BinaryIO]:
    """Opens a pickle, and turns what reading it raises in the block into errors that name the file.

    Raises:
        MissingError: it cannot be read.
        UsageError: it is no pickle of a protocol that is read; also for the errors of `vcorr.data.plain_values`.
    """
    if what := describe_head(path):
        raise UsageError(
            f"{path} is not a pickle of protocol {FIRST_PROTOCOL} to {LAST_PROTOCOL}, but {what}.",
            hint=_REMEDIES.get(what, _AGAIN),
        )
    try:
        with _open(path) as file:
            yield file
    except ForeignError as error:
        raise UsageError(f"{path} {error}", hint=f"{_READ} {_AGAIN}") from error
    except DamagedPickleError as error:
        raise UsageError(f"{path} is damaged or cut off: {error}.", hint=_AGAIN) from error
    except OSError as error:
        raise MissingError(f"{path} cannot be read: {error.strerror or error}.") from error
    except MemoryError as error:
        raise UsageError(f"{path} needs more memory than there is.", hint=_AGAIN) from error


def check_whole(path: Path) -> None:
    """Checks the two ends of a pickle, before work on a file that is cut off begins.

    Raises:
        MissingError: it cannot be read.
        UsageError: it is no pickle, or its last byte is not the last one of a pickle.
    """
    with open_pickle(path) as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b".":
            raise DamagedPickleError("its end is missing")


def describe_head(path: Path) -> str:
    """Returns what a file is by its first bytes if it is no pickle, such as "a gzip archive"; "" if it may be one.

    Raises:
        MissingError: it cannot be read.
    """
    with _open(path) as file:
        begin = file.read(64)
    if not begin:
        return "empty (0 bytes)"
    if begin[0] == 0x80 and len(begin) > 1:
        return "" if FIRST_PROTOCOL <= begin[1] <= LAST_PROTOCOL else f"a pickle of protocol {begin[1]}"
    found = next((what for start, what in _HEADS.items() if begin.lstrip().startswith(start)), "")
    return found or ("JSON or other text" if _is_text(begin) else "something else")


def _is_text(begin: bytes) -> bool:
    return all(32 <= byte < 127 or byte in b"\t\r\n" for byte in begin)


def _open(path: Path) -> BinaryIO:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise MissingError(f"{path} cannot be read: it is no ordinary file.")
        return path.open("rb")
    except OSError as error:
        raise MissingError(f"{path} cannot be read: {error.strerror or error}.") from error
