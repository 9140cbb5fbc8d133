"""Fits tables into the terminal: names wrap and columns are dropped, but numbers are never cut."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from vcorr.cli.views.terminal import cell

NARROW_NAMES, _FOLDED_NAMES = 20, 12
_NAME_LINES = 3
"""Most lines of a name that wraps; a longer name is shortened."""
_MARK_LENGTH = 4
_WIDE, _TIGHT, _TIGHTEST = (0, 1), (0, 0, 0, 1), (0, 0)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    is_name: holds words, which are aligned left and may wrap. gives_way: order in which columns are dropped when the
    terminal is too narrow, lowest first, equal numbers together; None: never.
    """

    name: str
    is_name: bool = False
    gives_way: int | None = None


class _Layout(NamedTuple):
    columns: tuple[int, ...]
    padding: tuple[int, int] | tuple[int, int, int, int]
    name_width: int | None


Row = Sequence[Text | str] | None
"""A cell for every column, or None for a line between sections."""


@dataclass(frozen=True)
class Fitted:
    """A table that fits. shown: names of its columns. hidden: names of the columns that were dropped."""

    table: RenderableType
    shown: frozenset[str]
    hidden: tuple[str, ...] = ()

    def with_notes(self, *notes: RenderableType) -> RenderableType:
        """Returns the table with notes under it, the first of which names the dropped columns."""
        said = f"Left out at this width: {'; '.join(self.hidden)}. --json has all."
        return Group(self.table, *([Text(said, style="dim")] if self.hidden else []), *notes)


def fit_table(out: Console, title: str, columns: Sequence[Column], rows: Sequence[Row]) -> RenderableType:
    """Builds the table in the widest layout that fits; a line under it names the columns that were dropped."""
    return fit_columns(out, title, columns, rows).with_notes()


def fit_columns(out: Console, title: str, columns: Sequence[Column], rows: Sequence[Row]) -> Fitted:
    """Builds the table in the widest layout that fits, and says which columns it shows."""
    for layout in _layouts(columns):
        table = _table(title, columns, rows, layout)
        unlimited = out.options.update(max_width=10_000)
        if Measurement.get(out, unlimited, table).maximum <= out.width:
            break
    hidden = tuple(column.name for i, column in enumerate(columns) if i not in layout.columns)
    return Fitted(table, frozenset(columns[i].name for i in layout.columns), hidden)


def shorten(name: str, width: int) -> str:
    """Returns a name in at most `width` cells: its beginning, a mark of four characters and its end.

    The mark is computed from the whole name, so that two long names that differ only in the middle stay apart. `width`
    is at least 8.
    """
    if cell_len(name) <= width:
        return name
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_MARK_LENGTH]
    room = width - _MARK_LENGTH - 2
    tail = set_cell_size(name[::-1], room // 2)[::-1].strip()
    return f"{set_cell_size(name, room - room // 2).strip()}…{mark}…{tail}"


def _layouts(columns: Sequence[Column]) -> Iterator[_Layout]:
    kept = tuple(range(len(columns)))
    yield _Layout(kept, _WIDE, None)
    yield _Layout(kept, _TIGHT, None)
    yield _Layout(kept, _TIGHT, NARROW_NAMES)
    turns = sorted({column.gives_way for column in columns if column.gives_way is not None})
    for turn in turns:
        yield _Layout(kept, _TIGHTEST, NARROW_NAMES)
        if turn == turns[-1]:  # the last column to drop matters more than names without line breaks
            yield _Layout(kept, _TIGHT, _FOLDED_NAMES)
        kept = tuple(i for i in kept if columns[i].gives_way != turn)
        yield _Layout(kept, _TIGHT, NARROW_NAMES)
    yield _Layout(kept, _TIGHTEST, NARROW_NAMES)
    yield _Layout(kept, _TIGHTEST, _FOLDED_NAMES)


def _table(title: str, columns: Sequence[Column], rows: Sequence[Row], layout: _Layout) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=layout.padding, title=cell(title), title_justify="left")
    for column in (columns[i] for i in layout.columns):
        if column.is_name:
            table.add_column(cell(column.name), overflow="fold", max_width=layout.name_width)
        else:
            table.add_column(cell(column.name), justify="right", no_wrap=True)
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*(_cell(columns[i], row[i], layout.name_width) for i in layout.columns))
    return table


def _cell(column: Column, value: Text | str, width: int | None) -> Text:
    text = value if isinstance(value, Text) else cell(value)
    if not column.is_name or "\n" in text.plain:
        return text
    short = shorten(text.plain, _NAME_LINES * (width or NARROW_NAMES))
    return Text(short if width is None else break_name(short, width), style=text.style)


_BREAKS = "_@:,="
"""Characters of names and settings after which a line may end."""


def break_name(name: str, width: int) -> str:
    """Returns a name with line breaks after underscores and marks where its words are wider than `width` cells."""
    return " ".join(_break_word(word, width) for word in name.split(" "))


def _break_word(word: str, width: int) -> str:
    last = max(word.rfind(mark, 1, width) for mark in _BREAKS)
    if cell_len(word) <= width or last < 0:
        return word
    return f"{word[: last + 1]}\n{_break_word(word[last + 1 :], width)}"
