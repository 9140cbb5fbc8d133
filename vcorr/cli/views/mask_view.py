"""Prints what `vcorr propagate` made, and how well it did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcorr.cli.views.table_width import Column, Row, fit_table
from vcorr.cli.views.terminal import DASH, cell, console, number, say
from vcorr.contract.noun_counts import say_count

if TYPE_CHECKING:
    from vcorr.tracking.mask_table import MaskSummary, Measure, ObjectRow

REPORTED = "Reported on DAVIS-17 val, J&F, ViT-B/16: MAE 0.524, CLIP 0.549, DINOv2 0.631."
"""Numbers that others have measured, in another protocol than the rows of a table."""

_SCORES = {"region": "J", "contour": "F", "both": "J&F"}


def say_carried(facts: Mapping[str, Any], folder: Path) -> None:
    """Prints what was written, with the area of every label in the first and the last frame."""
    for note in facts["notes"]:
        say(note)
    rows: list[Row] = [
        [cell(label), *(f"{100 * counts[at] / facts['pixels']:.2f} %" for at in (0, -1)), str(sum(map(bool, counts)))]
        for label, counts in facts["areas"].items()
    ]
    columns = [Column("label", is_name=True), Column("first frame"), Column("last frame"), Column("frames with it")]
    out = console()
    out.print(fit_table(out, f"{facts['model']}: {say_count(facts['frames'], 'frame')}", columns, rows))
    say(f"Masks, and the overlay to look at: {folder}")


def say_failure(rows: Sequence[ObjectRow]) -> None:
    """Prints the error of a clip that failed."""
    for row in rows:
        if row.error:
            say(f"Clip {row.clip} failed: {row.error}", stderr=True)


def say_measured(summary: MaskSummary, facts: Mapping[str, Any]) -> None:
    """Prints J, F and J&F over clips and over objects, for DAVIS with reported numbers next to them."""
    for note in facts["notes"]:
        say(note)
    clips, objects = summary.counted
    title = f"{facts['model']} on {facts['data']}: {say_count(clips, 'clip')}, {say_count(objects, 'object')}"
    columns = [Column("score", is_name=True), Column("mean over clips"), Column("95 % interval"), Column("objects")]
    rows = [_row(name, getattr(summary, field)) for field, name in _SCORES.items()]
    out = console()
    out.print(fit_table(out, title, columns, rows))
    if summary.failed:
        say(f"{say_count(summary.failed, 'clip')} failed.")
    if facts["data"] == "davis17":
        say(REPORTED)
    say(f"One row per object: {facts['table']}")


def _row(name: str, measure: Measure) -> list[Any]:
    low, high = float(measure.clips.low), float(measure.clips.high)
    interval = DASH if math.isnan(low) else f"{low:.3f} to {high:.3f}"
    return [cell(name), number(float(measure.clips.estimate)), interval, number(measure.objects)]


def summary_dict(summary: MaskSummary) -> dict[str, Any]:
    """Returns a summary as plain values, NaN as None."""
    clips, objects = summary.counted
    return {
        "clips": clips,
        "objects": objects,
        "failed": summary.failed,
        "scores": {name: _plain(getattr(summary, field)) for field, name in _SCORES.items()},
    }


def _plain(measure: Measure) -> dict[str, float | None]:
    found = measure.clips
    values = {
        "mean": float(found.estimate),
        "low": float(found.low),
        "high": float(found.high),
        "objects": measure.objects,
    }
    return {name: None if math.isnan(value) else value for name, value in values.items()}
