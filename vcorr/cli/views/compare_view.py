"""Builds what `vcorr compare` prints."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vcorr.cli.views.table_width import Column, Row, fit_table
from vcorr.cli.views.terminal import cell, console, number

if TYPE_CHECKING:
    from vcorr.analysis.comparison import Comparison
    from vcorr.analysis.stored_scores import RunFacts
    from vcorr.stats.paired import Difference, PairedRow, Side

_CLIPS_NAMED = 4


def comparison(found: Comparison) -> None:
    """Prints the two runs, their settings that differ, the differences in score, what was left out, and notes."""
    out = console()
    out.print(_runs_table(found))
    out.print(_rows_table(found.rows))
    for line in _how(found.rows):
        out.print(cell(line, style="dim"))
    for left in found.left_out:
        out.print(cell(f"Left out: {left.metric}, {left.probe}: {left.reason}.", style="dim"))
    for note in found.notes:
        out.print(cell(note, style="yellow"))


def comparison_dict(found: Comparison) -> dict[str, Any]:
    """Returns what `vcorr compare --json` prints."""
    return {
        "a": _run_dict(found, found.a),
        "b": _run_dict(found, found.b),
        "settings": {name: {"a": a, "b": b} for name, (a, b) in found.settings.items()},
        "clips": list(found.clips),
        "rows": [row.to_dict() for row in found.rows],
        "left_out": [asdict(left) for left in found.left_out],
        "notes": list(found.notes),
    }


def _run_dict(found: Comparison, side: RunFacts) -> dict[str, Any]:
    return {
        "path": side.path,
        "run": side.run,
        "status": side.status,
        "model": side.model,
        "weights": side.weights,
        "random_weights": side.is_random,
        "only_here": list(found.only_in(side)),
        "failed": list(side.failed),
        "without_tracks": list(side.untracked),
    }


def _runs_table(found: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "A", "B"):
        table.add_column(name, overflow="fold", style="dim" if not name else None)
    sides = (found.a, found.b)
    table.add_row("run", *(cell(side.run) for side in sides))
    table.add_row("model", *(cell(side.model + (" (random weights)" if side.is_random else "")) for side in sides))
    table.add_row("clips in common", *(str(len(found.clips)) for _ in sides))
    for name, clips in (
        ("only here", [found.only_in(side) for side in sides]),
        ("failed", [side.failed for side in sides]),
        ("without tracks", [side.untracked for side in sides]),
    ):
        if any(clips):
            table.add_row(name, *(cell(_clips(ids)) for ids in clips))
    for name, pair in _worth_showing(found.settings):
        table.add_row(cell(name), *(cell(_setting(value)) for value in pair))
    return table


def _worth_showing(settings: dict[str, tuple[Any, Any]]) -> list[tuple[str, tuple[Any, Any]]]:
    """Drops options of two different models, and options of a probe that only one run has; --json has them all."""
    other_model = "model.name" in settings
    return [
        (name, pair)
        for name, pair in settings.items()
        if not (other_model and name.startswith("model.")) and not (name.startswith("probes") and None in pair)
    ]


def _clips(ids: Sequence[str]) -> str:
    if not ids:
        return "0"
    return f"{len(ids)}: {', '.join(ids[:_CLIPS_NAMED])}" + (" …" if len(ids) > _CLIPS_NAMED else "")


def _setting(value: Any) -> str:
    return "–" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _rows_table(rows: Iterable[PairedRow]) -> RenderableType:
    """Builds a block per metric, with two lines per comparison: values and skills."""
    columns = (
        Column("metric, probe", is_name=True),
        Column("site A", is_name=True),
        Column("site B", is_name=True),
        Column(""),
        Column("A", gives_way=2),
        Column("B", gives_way=2),
        Column("A - B"),
        Column("95 % interval"),
        Column("clips", gives_way=0),
    )
    cells: list[Row] = []
    for metric, group in groupby(rows, key=_metric):
        cells.append((cell(metric, style="bold"), *[""] * 8))
        for row in group:
            names = (f"  {_probes(row)}", _site(row.a), _site(row.b), "value")
            values = _numbers(row.a.value, row.b.value, row.difference)
            cells.append((*map(Text, names), *values, str(row.clips)))
            cells.append(("", "", "", "skill", *_numbers(row.a.skill, row.b.skill, row.skill_difference), ""))
    return fit_table(console(), "A - B on the same clips", columns, cells)


def _numbers(a: float, b: float, difference: Difference) -> list[Text]:
    # a difference whose interval excludes 0 is printed in bold
    style = "bold" if difference.low > 0 or difference.high < 0 else ""
    interval = f"{_with_sign(difference.low)} … {_with_sign(difference.high)}"
    return [cell(number(a)), cell(number(b)), cell(_with_sign(difference.estimate), style=style), cell(interval)]


def _with_sign(value: float) -> str:
    text = number(value)
    return text if text.startswith(("-", "–")) or not float(text) else f"+{text}"


def _metric(row: PairedRow) -> str:
    return row.metric if row.variant == "corrected" else f"{row.metric} ({row.variant})"


def _probes(row: PairedRow) -> str:
    return row.a.probe if row.a.probe == row.b.probe else f"{row.a.probe}:{row.b.probe}"


def _site(side: Side) -> str:
    return "–" if side.layer < 0 and side.step < 0 else str(side.site)


def _how(rows: Sequence[PairedRow]) -> list[str]:
    lines = ["Sites are LAYER:STEP for the mean over heads, LAYER:STEP:HEAD for one head alone."]
    if {"mean", "single"} <= {row.heads for row in rows}:
        lines.append("Means over heads and single heads are chosen separately, and each kind has rows of its own.")
    sides = [side for row in rows for side in (row.a, row.b)]
    chosen = max(side.chosen_on for side in sides)
    if chosen:
        regret = max((side.regret for side in sides if not math.isnan(side.regret)), default=math.nan)
        lines.append(
            f"Sites that were not given are chosen by skill on {chosen} clips; everything is reported on the others. "
            f"Largest regret: {number(regret)}."
        )
    if any(row.not_scored for row in rows):
        left = max(row.not_scored for row in rows)
        lines.append(f"Rows leave out clips that one of the runs could not score: at most {left} per row.")
    return lines
