"""Prints what `vcorr propagate` made, and how well it did."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vcorr.cli.views.table_width import Column, Row, fit_table
from vcorr.cli.views.terminal import cell, console, say
from vcorr.contract.metric_columns import PROPAGATION_COLUMNS
from vcorr.contract.noun_counts import say_count

REPORTED = "Reported on DAVIS-17 val, J&F, ViT-B/16: MAE 0.524, CLIP 0.549, DINOv2 0.631."
"""Numbers that others have measured, in another protocol than the rows of a table."""

_TITLES = dict(zip(PROPAGATION_COLUMNS, ("J&F", "J", "F"), strict=True))


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


def say_objects(means: Mapping[str, float], dataset: str) -> None:
    """Prints the means over all objects, and for DAVIS the numbers that others report. means: by column."""
    if means:
        found = ", ".join(f"{_TITLES[name]} {value:.3f}" for name, value in means.items())
        say(f"Mean over objects, as DAVIS reports it: {found}.")
    if dataset == "davis17":
        say(REPORTED)
