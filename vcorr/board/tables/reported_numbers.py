"""Reads numbers that others reported, which a board shows next to its tables and never ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vcorr.board.tables.board_keys import check_keys, read_text_value
from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.tasks import PROPAGATION

_PROTOCOLS = {PROPAGATION: ("input", "propagation")}
_PROTOCOL = ("input", "queries", "occlusion")
"""Keys that say the protocol of a table in words, by task, and of any other task."""
_THRESHOLDS = 5


@dataclass(frozen=True)
class ReportedRow:
    """A method of others. values: by metric column, as fractions.

    thresholds: shares of visible points within 1, 2, 4, 8 and 16 px of 256, as fractions; empty if they are unknown.
    notes: where its protocol is another one than its table's, and remarks.
    """

    name: str
    values: Mapping[str, float]
    thresholds: tuple[float, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ReportedTable:
    """Numbers from one source, on one dataset.

    protocol: in words, by what they say: size of the frames (input), which points (queries), how hidden points are
    predicted (occlusion), or how masks are carried (propagation). supervised: whether the methods were trained on
    tracks of points.
    """

    dataset: str
    source: str
    protocol: Mapping[str, str]
    supervised: bool
    rows: tuple[ReportedRow, ...]


def read_reported(value: Any, metrics: Sequence[str], task: str, label: str) -> tuple[ReportedTable, ...]:
    """Returns the reported numbers of a board.

    Each table has `dataset`, `source`, `input`, `queries`, `occlusion` and `rows`, and may say `supervised: true`. In
    propagation, `propagation` takes the place of `queries` and `occlusion`. A row is a mapping of `name` and percents
    by metric. It may replace the protocol of its table, and have a `note` and `thresholds`, the five percents behind
    delta.

    Args:
        value: the key `reported` of the YAML.
        metrics: the columns of the board.
        task: of the board.
        label: begins error messages.

    Raises:
        UsageError: a key or a value is wrong.
    """
    if not isinstance(value, list):
        raise UsageError(f"{label}: reported must be a list, got {value!r}.")
    protocol = _PROTOCOLS.get(task, _PROTOCOL)
    return tuple(_read_table(item, metrics, protocol, f"{label}: reported[{i}]") for i, item in enumerate(value))


def _read_table(item: Any, metrics: Sequence[str], protocol: Sequence[str], label: str) -> ReportedTable:
    check_keys(item, label, ("dataset", "source", *protocol, "rows"), ("supervised",))
    rows, supervised = item["rows"], item.get("supervised", False)
    if not isinstance(rows, list) or not rows:
        raise UsageError(f"{label}: rows must be a list with at least one row, got {rows!r}.")
    if not isinstance(supervised, bool):
        raise UsageError(f"{label}: supervised must be true or false, got {supervised!r}.")
    return ReportedTable(
        **{name: read_text_value(item, name, label) for name in ("dataset", "source")},
        protocol={name: read_text_value(item, name, label) for name in protocol},
        supervised=supervised,
        rows=tuple(_read_row(row, metrics, protocol, f"{label}: rows[{i}]") for i, row in enumerate(rows)),
    )


def _read_row(row: Any, metrics: Sequence[str], protocol: Sequence[str], label: str) -> ReportedRow:
    check_keys(row, label, ("name",), (*metrics, *protocol, "note", "thresholds"))
    values = {name: _read_percent(row[name], name, label) for name in metrics if name in row}
    if not values:
        raise unknown_name(f"metric in {label}:", "none", metrics)
    own = [f"{name}: {read_text_value(row, name, label)}" for name in protocol if name in row]
    note = read_text_value(row, "note", label, default="")
    return ReportedRow(
        name=read_text_value(row, "name", label),
        values=values,
        thresholds=_read_thresholds(row.get("thresholds", []), label),
        notes=(*own, *([note] if note else [])),
    )


def _read_thresholds(value: Any, label: str) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) not in (0, _THRESHOLDS):
        raise UsageError(f"{label}: thresholds must be a list of {_THRESHOLDS} percents, got {value!r}.")
    return tuple(_read_percent(each, "thresholds", label) for each in value)


def _read_percent(value: Any, name: str, label: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise UsageError(f"{label}: {name} must be a number of percent, got {value!r}.")
    return value / 100
