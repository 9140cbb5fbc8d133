"""Fits tables into the terminal: names wrap and columns are dropped, but numbers are never cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_NARROW_NAMES, _FOLDED_NAMES = 20, 12
_WIDE, _TIGHT = (0, 1), (0, 0, 0, 1)


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


def fit_table(out: Console, title: str, columns: Sequence[Column], rows: Sequence[Row]) -> RenderableType:
    """Builds the table in the widest layout that fits; a line under it names the columns that were dropped."""
    for layout in _layouts(columns):
        table = _table(title, columns, rows, layout)
        unlimited = out.options.update(max_width=10_000)
        if Measurement.get(out, unlimited, table).maximum <= out.width:
            break
    hidden = [column.name for i, column in enumerate(columns) if i not in layout.columns]
    if not hidden:
        return table
    return Group(table, Text(f"Left out at this width: {'; '.join(hidden)}. --json has all.", style="dim"))


def _layouts(columns: Sequence[Column]) -> Iterator[_Layout]:
    kept = tuple(range(len(columns)))
    yield _Layout(kept, _WIDE, None)
    yield _Layout(kept, _TIGHT, None)
    yield _Layout(kept, _TIGHT, _NARROW_NAMES)
    turns = sorted({column.gives_way for column in columns if column.gives_way is not None})
    for turn in turns:
        if turn == turns[-1]:  # the last column to drop matters more than names without line breaks
            yield _Layout(kept, _TIGHT, _FOLDED_NAMES)
        kept = tuple(i for i in kept if columns[i].gives_way != turn)
        yield _Layout(kept, _TIGHT, _NARROW_NAMES)
    yield _Layout(kept, _TIGHT, _FOLDED_NAMES)


def _table(title: str, columns: Sequence[Column], rows: Sequence[Row], layout: _Layout) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=layout.padding, title=title, title_justify="left")
    for column in (columns[i] for i in layout.columns):
        if column.is_name:
            table.add_column(column.name, overflow="fold", max_width=layout.name_width)
        else:
            table.add_column(column.name, justify="right", no_wrap=True)
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*(row[i] for i in layout.columns))
    return table
