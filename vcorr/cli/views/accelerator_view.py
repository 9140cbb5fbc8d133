"""Prints what a study of accelerators found."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vcorr.cli.views.table_notes import interval_text, with_sign
from vcorr.cli.views.table_width import Column, Row, fit_table
from vcorr.cli.views.terminal import cell, console, number, say
from vcorr.studies.accelerator_rows import BEST, LOSS, MEMORY, PSNR, SECONDS, SKILL
from vcorr.studies.guidance_page import show

if TYPE_CHECKING:
    from vcorr.studies.accelerator_rows import AcceleratorRow
    from vcorr.studies.accelerator_study import AcceleratorStudy

_NO_SCORES = (SKILL, BEST, LOSS, PSNR, SECONDS, MEMORY)

_COLUMNS = (
    Column("accelerator", is_name=True),
    Column("skill"),
    Column("difference"),
    Column("95 % interval", gives_way=2),
    Column("best", gives_way=1),
    Column("loss", gives_way=0),
    Column("PSNR"),
    Column("time"),
)


def say_study(study: AcceleratorStudy) -> None:
    """Prints one line per accelerator, the scores of its videos, what was not measured and why, and the folder."""
    out, arms, facts = console(), group_rows(study.rows), study.facts
    title = f"Accelerated, compared with plain {facts['model']} (skill at {facts['site']})"
    out.print(fit_table(out, title, _COLUMNS, [_cells(label, rows) for label, rows in arms.items()]))
    scores = list(dict.fromkeys(row.metric for row in study.rows if row.metric not in _NO_SCORES))
    if scores:
        columns = (Column("accelerator", is_name=True), *(Column(name, gives_way=-i) for i, name in enumerate(scores)))
        lines = [_score_cells(label, rows, scores) for label, rows in arms.items()]
        out.print(fit_table(out, "Scores of its videos, differences from plain", columns, lines))
    out.print(cell("time: seconds per video / plain, timed in turn. Bold: p under 0.05 after Holm.", style="dim"))
    for line in (*study.facts.get("notes", ()), *list_reasons(study.rows)):
        out.print(cell(line), soft_wrap=True)
    say(f"Results: {study.folder}")


def group_rows(rows: Sequence[AcceleratorRow]) -> dict[str, dict[str, AcceleratorRow]]:
    """Returns the rows by accelerator and measure."""
    found: dict[str, dict[str, AcceleratorRow]] = {}
    for row in rows:
        found.setdefault(row.accelerator, {})[row.metric] = row
    return found


def list_reasons(rows: Sequence[AcceleratorRow]) -> list[str]:
    """Returns sentences on what was not measured, and on what readers must know of an accelerator."""
    lines: dict[str, list[str]] = {}
    for row in rows:
        if row.reason and row.metric in (SKILL, PSNR):
            lines.setdefault(row.reason, []).append(row.accelerator)
        if row.note:
            lines.setdefault(row.note, []).append(row.accelerator)
    return [f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in lines.items()]


def _cells(label: str, rows: Mapping[str, AcceleratorRow]) -> Row:
    skill, best, loss = (rows.get(name) for name in (SKILL, BEST, LOSS))
    ratio, psnr = (rows.get(name) for name in (SECONDS, PSNR))
    return (
        cell(label),
        number(math.nan if skill is None else skill.value),
        _difference(skill),
        "–" if skill is None else interval_text(skill.low, skill.high, signed=True),
        _difference(best),
        _difference(loss),
        number(math.nan if psnr is None else psnr.value, 1),
        "–" if ratio is None or math.isnan(ratio.ratio) else f"{ratio.ratio:.2f}x",
    )


def _score_cells(label: str, rows: Mapping[str, AcceleratorRow], scores: Sequence[str]) -> Row:
    return (cell(label), *(_score_difference(rows.get(name)) for name in scores))


def _difference(row: AcceleratorRow | None) -> Any:
    return "–" if row is None else _in_bold(with_sign(row.difference, 3), row)


def _score_difference(row: AcceleratorRow | None) -> Any:
    """Returns the difference of a score with three digits that count: some scores are below 0.001."""
    return "–" if row is None else _in_bold(show(row.difference, signed=True), row)


def _in_bold(text: str, row: AcceleratorRow) -> Any:
    return "–" if math.isnan(row.difference) else cell(text, style="bold" if row.is_significant else "")


def to_dict(study: AcceleratorStudy) -> dict[str, Any]:
    """Returns what `vcorr study accelerators --json` prints."""
    rows = [{name: _plain(value) for name, value in dataclasses.asdict(row).items()} for row in study.rows]
    return {**study.facts, "folder": str(study.folder), "failed": study.failed, "rows": rows}


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
