"""Prints what a study of guidances found."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from vcorr.cli.views.table_width import Column, fit_table
from vcorr.cli.views.terminal import cell, console, say
from vcorr.contract.noun_counts import say_count
from vcorr.metrics.motion_guard import say_better
from vcorr.runner.spec import NO_GUIDANCE
from vcorr.stats.intervals import MIN_CLIPS_FOR_INTERVAL
from vcorr.stats.sign_flips import show_p
from vcorr.studies.guidance_page import show, show_interval, summarise_study

if TYPE_CHECKING:
    from vcorr.studies.guidance_rows import GuidanceRow
    from vcorr.studies.guidance_study import GuidanceStudy

_INTERVAL = Column("95 % interval", gives_way=2)
_COLUMNS = (
    Column("score", is_name=True),
    Column("guidance", is_name=True),
    Column("mean", gives_way=1),
    Column("difference"),
    _INTERVAL,
    Column("p"),
    Column("better", is_name=True, gives_way=0),
)


def say_study(study: GuidanceStudy, page: Path) -> None:
    """Prints the differences from `none`, what they say, and where the results are."""
    out, rows = console(), [row for row in study.rows if row.control == NO_GUIDANCE]
    shown = [i for i, column in enumerate(_COLUMNS) if column is not _INTERVAL or any(map(_has_interval, rows))]
    columns, cells = [_COLUMNS[i] for i in shown], [[_cells(row)[i] for i in shown] for row in rows]
    out.print(fit_table(out, "Differences from no guidance, on the same prompts and seeds", columns, cells))
    if len(study.clips) < MIN_CLIPS_FOR_INTERVAL:
        give = "gives" if len(study.clips) == 1 else "give"
        few = f"{say_count(len(study.clips), 'prompt')} {give} no intervals; {MIN_CLIPS_FOR_INTERVAL} do."
        out.print(cell(few, style="dim"), soft_wrap=True)
    for line in (*summarise_study(study), *study.notes):
        out.print(cell(line), soft_wrap=True)
    say(f"Page: {page}")
    say(f"Results: {study.folder}")


def _has_interval(row: GuidanceRow) -> bool:
    return math.isfinite(row.low)


def _cells(row: GuidanceRow) -> list[Text | str]:
    style = "bold" if row.is_significant else ""
    return [
        cell(row.metric),
        cell(row.guidance),
        show(row.value),
        cell(show(row.difference, signed=True), style=style),
        show_interval(row),
        cell(show_p(row.p_holm)),
        say_better(row.metric, lower=row.better == "lower"),
    ]


def to_dict(study: GuidanceStudy, page: Path) -> dict[str, Any]:
    """Returns what `vcorr study guidance --json` prints."""
    rows = [{k: _plain(v) for k, v in dataclasses.asdict(row).items()} for row in study.rows]
    return {
        **study.facts,
        "folder": str(study.folder),
        "page": str(page),
        "failed": study.failed,
        "rows": rows,
        "found": list(summarise_study(study)),
        "notes": list(study.notes),
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
