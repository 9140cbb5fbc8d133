"""Builds the tables of `vcorr list` and `vcorr show` with rich. Needs no numpy: these commands answer at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vcorr.cli.views.table_width import NARROW_NAMES, Column, Fitted, break_name, fit_columns, shorten
from vcorr.cli.views.terminal import cell, console
from vcorr.contract.tasks import CORRESPONDENCE
from vcorr.contract.visible_text import escape_line
from vcorr.store.remote.addresses import folder_of

LISTING_WIDTH = 100
"""Least width in characters at which lists say which plugin an entry is from."""


def listing(kind: str, rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Builds the table of one kind of entries, or of the plugins."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=kind, title_justify="left", title_style="bold")
    if kind == "plugins":
        for name in ("plugin", "version", "state", "provides"):
            table.add_column(name, overflow="fold")
        for row in rows:
            provides = _lines(row["reasons"] or [f"{len(row['provides'])} entries"])
            table.add_row(cell(_plugin_name(row)), cell(row["version"]), _state(row["state"]), provides)
        return table
    wide = console().width >= LISTING_WIDTH
    licensed = any("licence" in row for row in rows)
    names = ("name", "summary", *(["licence"] if licensed else []), *(["plugin"] if wide else []))
    longest = max(console().width // 3, 8)
    for name in names:
        table.add_column(name, overflow="fold", no_wrap=name in ("name", "plugin"))
    for row in rows:
        cells = {name: cell(str(row[name])) for name in names}
        cells["name"] = cell(shorten(escape_line(row["name"]), longest), style="bold")
        table.add_row(*cells.values())
    return Fitted(table, frozenset(names), () if wide else ("plugin",)).with_notes()


def kinds_table(counts: Mapping[str, int], uncounted: Sequence[str]) -> RenderableType:
    """Builds one row per kind that can be listed: how many there are, and the command that lists them.

    uncounted: kinds whose number takes long to find.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("kind")
    table.add_column("number", justify="right")
    table.add_column("command", no_wrap=True)
    for kind, count in counts.items():
        table.add_row(cell(kind, style="bold"), str(count), f"vcorr list {kind}")
    for kind in uncounted:
        table.add_row(cell(kind, style="bold"), "", f"vcorr list {kind}")
    return Group(table, Text("Everything about one of them: vcorr show KIND NAME", style="dim"))


def runs_table(folder: Path, rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Builds the table of the runs below a folder, then a line per run that cannot be read."""
    columns = (
        Column("run", is_name=True),
        Column("status", is_name=True),
        Column("model", is_name=True),
        Column("probes", is_name=True),
        Column("data", is_name=True, gives_way=3),
        Column("settings", is_name=True, gives_way=4),
        Column("mode", is_name=True, gives_way=1),
        Column("clips"),
        Column("failed"),
        Column("folder", is_name=True, gives_way=2),
        Column("started", is_name=True, gives_way=0),
    )
    cells = [_run_cells(folder, row) for row in rows]
    said = {name: any(row[name].plain not in ("–", ".") for row in cells) for name in ("settings", "folder")}
    shown = [column for column in columns if said.get(column.name, True)]
    reasons = [cell(f"{row['run']}: {row['reason']}", style="red") for row in rows if row["reason"]]
    table = fit_columns(console(), "runs", shown, [[row[column.name] for column in shown] for row in cells])
    notes = [cell(_SETTINGS_EXPLAINED, style="dim")] if "settings" in table.shown else []
    return table.with_notes(*notes, *reasons)


_SETTINGS_EXPLAINED = "settings: those in which the runs of one model differ. More about a run: vcorr show run ID"


def _run_cells(folder: Path, row: Mapping[str, Any]) -> dict[str, Text]:
    place = folder_of(row["path"]).parent
    mode = row["mode"] if row["task"] == CORRESPONDENCE else row["task"]
    inside = place.relative_to(folder) if place.is_relative_to(folder) else "."
    settings = [_setting_lines(name, value) for name, value in row["settings"].items()]
    shown = {**row, "mode": mode, "folder": inside, "settings": "", "probes": ", ".join(row["probes"])}
    cells = {name: cell("–" if value in (None, "") else value) for name, value in shown.items()}
    return cells | ({"settings": Text("\n".join(settings))} if settings else {})


def _setting_lines(name: str, value: str) -> str:
    return break_name(shorten(escape_line(f"{name}={value}"), 2 * NARROW_NAMES), NARROW_NAMES)


def facts(values: Mapping[str, Any]) -> RenderableType:
    """Builds indented lines from nested facts."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in values.items():
        if isinstance(value, Mapping):
            table.add_row(cell(key, style="bold"), "")
            for inner, v in value.items():
                table.add_row(cell(f"  {inner}"), _fact(v))
        else:
            table.add_row(cell(key), _fact(value))
    return table


def options_table(kind: str, options: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    """Builds the options of an entry: the explanation, and under it allowed values, unit and default."""
    part = "data" if kind == "dataset" else kind
    table = Table(box=None, show_header=False, pad_edge=False, title_justify="left", title_style="bold")
    table.title = f"options (--set {part}.NAME=VALUE)"
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, facts in options.items():
        unit = f", in {facts['unit']}" if facts["unit"] else ""
        line = cell(f"{facts['allowed']}{unit}; default {_default(facts['default'])}", style="dim")
        table.add_row(cell(f"  {name}"), Text("\n").join([cell(facts["explanation"]), line]))
    return table


def _default(value: Any) -> str:
    """Returns a default as `--set` takes it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return "''" if value == "" else "{}" if value == {} else _inline(value)


def _fact(value: Any) -> Text:
    if isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
        return _lines([_inline(v) for v in value])
    return cell(_inline(value))


def _lines(texts: Iterable[str]) -> Text:
    return Text("\n".join(map(escape_line, texts)))


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_inline(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_inline(v) for v in value)
    return str(value)


def _plugin_name(row: Mapping[str, Any]) -> str:
    same = row["name"] == row["distribution"]
    return str(row["distribution"]) if same else f"{row['distribution']} ({row['name']})"


def _state(state: str) -> Text:
    return cell(state, style={"ok": "green", "warning": "yellow", "broken": "red"}.get(state, "dim"))
