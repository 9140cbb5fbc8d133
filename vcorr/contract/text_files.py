"""Reads the small text files that people write: configs, boards, lists of prompts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from vcorr.contract.errors import UsageError

LARGEST = 100_000_000
"""Size in bytes of the largest text file that is read."""


def read_small_file(path: Path, label: str) -> bytes:
    """Returns the bytes of a file. A pipe or a device such as /dev/zero might never end, so it is refused.

    label: what messages call the file, such as "The board board.yaml".

    Raises:
        FileNotFoundError: there is no such file.
        UsageError: it cannot be read, is not a regular file, or is larger than `LARGEST`.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise UsageError(f"{label} cannot be read: it is a folder.", hint="Give the path of a file.")
        if not stat.S_ISREG(found.st_mode):
            raise UsageError(
                f"{label} cannot be read: it is a pipe or a device.",
                hint="Write its text to a file, and give the file.",
            )
        if found.st_size > LARGEST:
            raise UsageError(f"{label} cannot be read: it has {found.st_size} bytes, and {LARGEST} are the most.")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"{label} cannot be read: {error.strerror or error}.") from error


def read_text(path: Path, label: str) -> str:
    """Returns the text of a file in UTF-8, without a byte order mark.

    Raises:
        UsageError: as `read_small_file`; also if there is no such file, or it is not UTF-8.
    """
    try:
        data = read_small_file(path, label)
    except FileNotFoundError as error:
        raise UsageError(f"{label} cannot be read: it does not exist.") from error
    return decode(data, label)


def decode(data: bytes, label: str) -> str:
    """Returns the text of UTF-8 bytes, without a byte order mark.

    Raises:
        UsageError: the bytes are not UTF-8, or hold zero bytes, as UTF-16 does.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{label} is not UTF-8: line {line} holds the byte 0x{data[error.start]:02x}.", hint="Save it as UTF-8."
        ) from error
    if "\0" in text:
        raise UsageError(f"{label} is not text: it holds zero bytes.", hint="Save it as UTF-8.")
    return text


def expand_home(path: str | Path) -> Path:
    """Returns a path with the home folder for "~" or "~NAME"; unlike pathlib, it keeps the text if NAME is no user."""
    return Path(os.path.expanduser(path))
