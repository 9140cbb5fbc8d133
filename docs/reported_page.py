"""Makes the tables of reported numbers in docs/tracking.md from the tracking board."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vcorr.board.tables.reported_numbers import ReportedRow, ReportedTable

COLUMNS = {"average_pts_within_thresh": "delta", "average_jaccard": "AJ", "occlusion_accuracy": "OA"}


def part() -> str:
    """Returns a table per source, in percent, with its protocol above it."""
    from vcorr.board.tables.definitions import builtin_boards

    return "\n".join(text for board in builtin_boards() for table in board.reported for text in _lines(table))


def _lines(table: ReportedTable) -> Iterator[str]:
    supervised = " Trained on tracks of points." if table.supervised else ""
    yield f"**{table.dataset}** ({table.source}).{supervised}\n"
    yield f"- input: {table.input}\n- queries: {table.queries}\n- occlusion: {table.occlusion}\n"
    shares = any(row.thresholds for row in table.rows)
    notes = any(row.notes for row in table.rows)
    head = ["method", *COLUMNS.values(), *(["1, 2, 4, 8, 16 px"] if shares else []), *(["note"] if notes else [])]
    yield f"| {' | '.join(head)} |"
    yield f"| --- |{' ---: |' * len(COLUMNS)}{' --- |' * (len(head) - 1 - len(COLUMNS))}"
    for row in table.rows:
        yield f"| {' | '.join(_cells(row, shares, notes))} |"
    yield ""


def _cells(row: ReportedRow, shares: bool, notes: bool) -> list[str]:
    values = [_percent(row.values[name]) if name in row.values else "–" for name in COLUMNS]
    thresholds = [", ".join(map(_percent, row.thresholds)) or "–"] if shares else []
    return [row.name, *values, *thresholds, *(["; ".join(row.notes) or "–"] if notes else [])]


def _percent(value: float) -> str:
    text = f"{100 * value:.2f}"
    return text.removesuffix("0")
