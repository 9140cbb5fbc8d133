"""The one place where text goes to the terminal: it escapes control characters and keeps foreign output off stdout.

Ids, prompts, paths and errors may come from strangers. A control character in them could recolour, hide or overwrite
lines, so it is shown in the form of a Python escape, such as \\x1b.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from vcorr.cli.streams import close_duplicate, duplicate_output
from vcorr.contract.visible_text import CONTROL, escape, escape_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

DASH = "–"
"""Stands in a table for a number that is not there."""
PIPE_WIDTH = 120
"""Width in characters when the output is not a terminal and COLUMNS is not set; rich would assume 80, too narrow."""


@dataclass
class _Streams:
    """Where vcorr's own text goes; None for the streams of `sys`."""

    out: TextIO | None = None
    err: TextIO | None = None


_streams = _Streams()


# --------------------------------------------------------------------------------------------------------------- escape


def cell(value: object, style: str = "") -> Text:
    """Returns text for a cell of a table: on one line, and without any meaning of brackets."""
    from rich.text import Text

    return Text(escape_line(str(value)), style=style)


class Escaped(io.TextIOBase):
    """A text stream that escapes what is written to it and passes it on. A carriage return begins a new line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes the text, escaped."""
        self._stream.write(escape(text.replace("\r\n", "\n").replace("\r", "\n")))
        return len(text)

    def flush(self) -> None:
        """Flushes the stream behind it."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Returns False, so that libraries send no colours."""
        return False

    def fileno(self) -> int:
        """Returns the file number of the stream behind it."""
        return self._stream.fileno()

    def writable(self) -> bool:
        """Returns True."""
        return True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


# ---------------------------------------------------------------------------------------------------------------- print


@functools.cache
def _safe_console() -> type[Console]:
    """Returns the class of consoles that send their own colours, and no control character of a text.

    rich is imported here, and not with the module, so that `vcorr --help` need not wait for it.
    """
    from rich.console import Console

    class SafeConsole(Console):
        def render(self, renderable: Any, options: Any = None) -> Any:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=escape(segment.text))

    return SafeConsole


def console(*, stderr: bool = False) -> Console:
    """Returns a console that writes plain text when its stream is not a terminal. Brackets in text have no meaning."""
    stream = (_streams.err or sys.stderr) if stderr else (_streams.out or sys.stdout)
    width = None if stream.isatty() else _width_of_pipe()
    return _safe_console()(file=stream, width=width, highlight=False, markup=False, emoji=False)


def _width_of_pipe() -> int:
    """Returns the width that the variable COLUMNS asks for, as for a terminal, or else the usual one."""
    asked = os.environ.get("COLUMNS", "")
    return int(asked) if asked.isdecimal() and int(asked) > 0 else PIPE_WIDTH


def say(text: str, *, stderr: bool = False, label: str = "") -> None:
    """Prints text without wrapping it, so that paths and commands can be copied in one piece.

    label: a word in red before the text.
    """
    from rich.text import Text

    shown = Text.assemble((f"{label} " if label else "", "bold red"), escape(text))
    console(stderr=stderr).print(shown, soft_wrap=True)


def print_json(value: Any) -> None:
    """Prints a value as JSON on standard output; control characters are escaped as JSON does it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    stream = _streams.out or sys.stdout
    stream.write(CONTROL.sub(lambda found: json.dumps(found.group())[1:-1].replace("\x7f", "\\u007f"), text) + "\n")


def plain_rows(found: Sequence[Any]) -> list[dict[str, Any]]:
    """Returns dataclasses as rows for JSON, which has no NaN."""
    import dataclasses

    rows = [dataclasses.asdict(one) for one in found]
    return [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]


def number(value: float, digits: int = 3) -> str:
    """Formats a value for a table; NaN becomes a dash."""
    return DASH if math.isnan(value) else f"{value:.{digits}f}"


def size(count: float) -> str:
    """Formats a number of bytes with a decimal unit (kB, MB, GB, TB)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Formats seconds as seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


# -------------------------------------------------------------------------------------------------------- other output


@contextlib.contextmanager
def divert_foreign_output() -> Iterator[None]:
    """Sends to stderr, escaped, what plugins and libraries print during the block, so that stdout is vcorr's alone.

    Output of C code and of child processes goes to stderr too, if standard output is a real file; it is not escaped.
    """
    before = _streams.out, _streams.err
    out, err = sys.stdout, sys.stderr
    with _own_stdout(out) as own:
        _streams.out, _streams.err = own, err
        sys.stdout = sys.stderr = Escaped(err)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = out, err
            _streams.out, _streams.err = before


@contextlib.contextmanager
def _own_stdout(out: TextIO) -> Iterator[TextIO]:
    """Yields a stream to standard output that stays vcorr's while file number 1 leads to standard error."""
    try:
        is_real = out.fileno() == 1
        os.fstat(2)
    except (OSError, ValueError, AttributeError):
        is_real = False
    if not is_real:
        yield out
        return
    out.flush()
    own = duplicate_output(out)
    os.dup2(2, 1)
    try:
        yield own
    finally:
        os.dup2(own.fileno(), 1)
        close_duplicate(own, out)
