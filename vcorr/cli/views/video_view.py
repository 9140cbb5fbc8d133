"""Prints generated videos and their scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcorr.cli.views.table_notes import interval_text, say_no_interval
from vcorr.cli.views.table_width import Column, fit_table
from vcorr.cli.views.terminal import cell, console, duration, number, say
from vcorr.metrics.motion_guard import say_better
from vcorr.metrics.score_digits import count_decimals
from vcorr.runner.guided import say_guidance
from vcorr.stats.intervals import no_interval_reason

if TYPE_CHECKING:
    from vcorr.analysis.generated_clips import ColumnSummary, GeneratedScores
    from vcorr.runner.coordinator import Outcome
    from vcorr.runner.plan import Plan

_FILES_SHOWN = 5


def say_generated(plan: Plan, done: Outcome, found: GeneratedScores, files: Sequence[Path]) -> None:
    """Prints the end of `vcorr generate`: scores, files and the folder of the run. files: the videos as mp4."""
    out = console()
    if found.columns:
        out.print(_scores_table(found, done.clips))
    if done.clips > 1 and found.columns and not math.isfinite(found.columns[0].interval.low):
        out.print(cell(say_no_interval(no_interval_reason(found.columns[0].interval)), style="dim"))
    for clip, reason in found.unscored.items():
        out.print(cell(f"Clip {clip} has no scores: {reason}."), soft_wrap=True)
    out.print(cell(f"Guidance: {say_guidance(plan.selection.guided)}. Tracks: {plan.reference.text}."), soft_wrap=True)
    out.print(f"{done.clips - len(done.failed)} of {done.clips} videos in {duration(done.seconds)}.")
    for path in files[:_FILES_SHOWN]:
        say(f"Video: {path}")
    if len(files) > _FILES_SHOWN:
        say(f"… and {len(files) - _FILES_SHOWN} more videos in {files[0].parent}")
    say(f"Results: {done.run.place}")


def _scores_table(found: GeneratedScores, clips: int) -> Any:
    several = clips > 1
    columns = [Column("score", is_name=True), Column("mean" if several else "value")]
    columns += [Column("95 % interval", gives_way=0), Column("clips", gives_way=1)] if several else []
    columns += [Column("better", is_name=True, gives_way=2)]
    rows = [_cells(one, several) for one in found.columns]
    return fit_table(console(), "Scores of the videos" if several else "Scores of the video", columns, rows)


def _cells(one: ColumnSummary, several: bool) -> list[Any]:
    estimate, low, high = (float(getattr(one.interval, name)) for name in ("estimate", "low", "high"))
    mean = cell(number(estimate, count_decimals(estimate)), style="bold")
    more = [interval_text(low, high, count_decimals(estimate)), str(int(one.interval.n))]
    return [cell(one.column), mean, *(more if several else []), say_better(one.column, lower=one.lower_is_better)]


def to_dict(plan: Plan, done: Outcome, found: GeneratedScores, files: Sequence[Path]) -> dict[str, Any]:
    """Returns what `vcorr generate --json` prints."""
    return {
        **done.to_dict(),
        "guidance": None if plan.selection.guided is None else plan.selection.guided.columns(),
        "reference": plan.reference.to_dict(),
        "notes": list(plan.notes),
        "scores": [_column_dict(one) for one in found.columns],
        "not_scored": dict(found.unscored),
        "videos": [str(path) for path in files],
    }


def _column_dict(one: ColumnSummary) -> dict[str, Any]:
    ends = {name: float(getattr(one.interval, name)) for name in ("estimate", "low", "high")}
    return {
        "column": one.column,
        "lower_is_better": one.lower_is_better,
        "mean": _plain(ends["estimate"]),
        "low": _plain(ends["low"]),
        "high": _plain(ends["high"]),
        "values": {clip: _plain(value) for clip, value in one.values.items()},
    }


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
