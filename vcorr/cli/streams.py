"""Makes standard output and standard error safe to write to: closed ones, full disks, and encodings of few letters."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata
from typing import Any, TextIO

ERRORS = "vcorr-plain"
"""Name of the codec error handler that writes letters which an encoding lacks in plain ones."""

_PLAIN = {"–": "-", "—": "-", "−": "-", "…": "...", "·": ".", "→": "->", "×": "x", "±": "+-", "≤": "<=", "≥": ">=",
          "‘": "'", "’": "'", "“": '"', "”": '"', "σ": "sigma", "█": "#"}  # fmt: skip


def prepare_streams() -> None:
    """Replaces the standard streams by ones to which writing never raises an error.

    What cannot be written is lost, and the command goes on: a run keeps its results. `find_output_fault` says later
    whether standard output lost something. A stream that the caller closed (`vcorr list >&-`) discards everything.
    Letters that an encoding lacks are written in plain ones. Streams that a program replaced stay as they are.
    """
    codecs.register_error(ERRORS, _replace_letters)
    _open_closed_descriptors()
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        sys.stdout = _forgive(sys.stdout)
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        sys.stderr = _forgive(sys.stderr)


def find_output_fault() -> OSError | None:
    """Flushes standard output and returns why something could not be written to it; None if nothing was lost."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Forgiving):
        return None
    sys.stdout.flush()
    return raw.fault


def duplicate_output(stream: TextIO) -> TextIO:
    """Returns a stream to a new descriptor of the file behind `stream`, to which writing never raises an error."""
    raw = _Forgiving(os.dup(stream.fileno()), "w")
    lines = stream.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=stream.encoding, errors=ERRORS, line_buffering=lines)


def close_duplicate(own: TextIO, stream: TextIO) -> None:
    """Closes a stream of `duplicate_output`; `find_output_fault` then also knows what was lost in it."""
    own.flush()
    fault = getattr(getattr(getattr(own, "buffer", None), "raw", None), "fault", None)
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    if fault is not None and isinstance(raw, _Forgiving):
        raw.fault = raw.fault or fault
    own.close()


def _open_closed_descriptors() -> None:
    """Opens the descriptors 0 to 2 that are closed, so that no file gets one and then holds what was printed."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)


class _Forgiving(io.FileIO):
    """A file that loses what cannot be written. fault: the first error; None if everything was written."""

    fault: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Writes bytes and returns their number, also if they could not be written."""
        size = memoryview(data).nbytes
        if self.fault is not None:
            return size
        try:
            written = super().write(data)
        except OSError as error:
            self.fault = error
            return size
        return size if written is None else written


def _forgive(stream: TextIO | None) -> TextIO:
    """Returns a stream with the same descriptor that loses what cannot be written. None: a stream that was closed."""
    if stream is None:
        raw = _Forgiving(os.open(os.devnull, os.O_WRONLY), "w")
        return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors=ERRORS)
    raw = _Forgiving(stream.fileno(), "w", closefd=False)
    lines = stream is sys.stderr or stream.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=stream.encoding, errors=ERRORS, line_buffering=lines)


def _replace_letters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_to_plain, error.object[error.start : error.end])), error.end


def _to_plain(letter: str) -> str:
    """Returns ASCII for a letter: a known substitute, the letter without accent, or its code, as in "\\xe9"."""
    if letter in _PLAIN:
        return _PLAIN[letter]
    name = unicodedata.name(letter, "")
    if name.startswith("BOX DRAWINGS"):
        return "+" if " AND " in name else "-" if "HORIZONTAL" in name else "|"
    if 0xDC80 <= ord(letter) <= 0xDCFF:  # a byte of a file name that is no text
        return f"\\x{ord(letter) - 0xDC00:02x}"
    bare = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return bare or letter.encode("ascii", "backslashreplace").decode()
