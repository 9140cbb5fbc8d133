"""Makes the tables of reported numbers in docs/tracking.md from the boards of tracking and propagation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcorr.board.tables.reported_numbers import ReportedRow, ReportedTable

TRACKS = {"average_pts_within_thresh": "delta", "average_jaccard": "AJ", "occlusion_accuracy": "OA"}
MASKS = {"region_and_contour": "J&F"}


def part() -> str:
    """Returns a table per source of tracks, in percent, with its protocol above it."""
    return _tables("tracking", TRACKS)


def mask_part() -> str:
    """Returns the same for masks."""
    return _tables("propagation", MASKS)


def _tables(task: str, columns: Mapping[str, str]) -> str:
    from vcorr.board.tables.definitions import builtin_boards

    tables = [table for board in builtin_boards() if board.task == task for table in board.reported]
    return "\n".join(text for table in tables for text in _lines(table, columns))


def _lines(table: ReportedTable, columns: Mapping[str, str]) -> Iterator[str]:
    supervised = " Trained on tracks of points." if table.supervised else ""
    yield f"**{table.dataset}** ({table.source}).{supervised}\n"
    yield "\n".join(f"- {name}: {words}" for name, words in table.protocol.items()) + "\n"
    shares = any(row.thresholds for row in table.rows)
    notes = any(row.notes for row in table.rows)
    head = ["method", *columns.values(), *(["1, 2, 4, 8, 16 px"] if shares else []), *(["note"] if notes else [])]
    yield f"| {' | '.join(head)} |"
    yield f"| --- |{' ---: |' * len(columns)}{' --- |' * (len(head) - 1 - len(columns))}"
    for row in table.rows:
        yield f"| {' | '.join(_cells(row, columns, shares, notes))} |"
    yield ""


def _cells(row: ReportedRow, columns: Mapping[str, str], shares: bool, notes: bool) -> list[str]:
    values = [_percent(row.values[name]) if name in row.values else "–" for name in columns]
    thresholds = [", ".join(map(_percent, row.thresholds)) or "–"] if shares else []
    return [row.name, *values, *thresholds, *(["; ".join(row.notes) or "–"] if notes else [])]


def _percent(value: float) -> str:
    text = f"{100 * value:.2f}"
    return text.removesuffix("0")
