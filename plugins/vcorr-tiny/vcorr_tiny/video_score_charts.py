"""Draws the injected faults, and how scores of generated videos respond to their doses, for docs/video-scores.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vcorr.stats.intervals import mean_interval
from vcorr_tiny.fault_doses import INJECTED, SPLIT
from vcorr_tiny.video_score_tables import Responses, read_responses

CLIP = 5
"""The clip that is drawn."""
WIDE, NARROW = 56, 6
"""Pixels for the labels of the first panel of a row, and of the others: so the panels of all rows stand in columns."""


def draw_all(table: pa.Table, folder: Path) -> None:
    """Draws every picture into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_faults(folder / "video-faults.png")
    draw_responses(read_responses(table)).save(str(folder / "video-scores.png"), scale_factor=1.5)


def draw_faults(path: Path) -> None:
    """Draws six frames of a clip at the worst dose of every fault, below the clip without a fault."""
    import torch

    from vcorr_tiny.sprites.injections import render_injected
    from vcorr_tiny.training.sheets import sheet

    shown = [("no fault", INJECTED[0], 0.0)]
    shown += [(f"{fault.name}, {fault.worst:g} {fault.unit}", fault, fault.worst) for fault in INJECTED[:-1]]
    shown += [(f"{fault.name}, {fault.doses[0]:g} {fault.unit}", fault, fault.doses[0]) for fault in INJECTED[-1:]]
    videos = [torch.from_numpy(render_injected(fault, dose, SPLIT, CLIP)) for _, fault, dose in shown]
    sheet(path, videos, [title for title, _, _ in shown])


def draw_responses(responses: Sequence[Responses]) -> Any:
    """Draws the mean of every score by dose with its interval, a row per score and a column per fault."""
    import altair as alt

    chosen = [one for one in responses if one.tracker in ("", "dis")]
    first = chosen[0]
    rows = []
    for metric in dict.fromkeys(one.metric for one in chosen):
        panels = [
            _draw_panel(one, titled=one.metric == first.metric, named=one.fault == first.fault)
            for one in chosen
            if one.metric == metric
        ]
        rows.append(alt.hconcat(*panels, spacing=4).resolve_scale(y="shared"))
    return alt.vconcat(*rows, spacing=8).configure_axis(labelFontSize=10, titleFontSize=11)


def _draw_panel(one: Responses, *, titled: bool, named: bool) -> Any:
    """Draws one score under one fault. titled: whether the fault is named above. named: whether the score is."""
    import altair as alt

    points = list(_points(one))
    across = alt.X("dose:O", title=None, axis=alt.Axis(labelAngle=0), sort=[str(point["dose"]) for point in points])
    axis = alt.Axis(minExtent=WIDE if named else NARROW, labels=named, tickCount=4)
    name = one.metric.replace("_", " ") if named else None
    base = alt.Chart({"values": points}).encode(x=across)
    line = base.mark_line(point=True, color="#1b6ca8").encode(
        y=alt.Y("value:Q", title=name, axis=axis, scale=alt.Scale(zero=False))
    )
    span = base.mark_rule(color="#1b6ca8").encode(y=alt.Y("low:Q", title=name, axis=axis), y2="high:Q")
    title = {"title": alt.TitleParams(one.fault.name, fontSize=13)} if titled else {}
    return alt.layer(line, span).properties(width=140, height=80, **title)


def _points(one: Responses) -> Iterator[dict[str, float | str | None]]:
    """Yields the mean of each dose with its interval; None for NaN, which JSON does not have."""
    for dose, values in zip(one.fault.doses, one.values.T, strict=True):
        found = mean_interval(values)
        ends = {"value": found.estimate, "low": found.low, "high": found.high}
        yield {
            "dose": f"{dose:.3g}",
            **{key: None if np.isnan(end) else float(end) for key, end in ends.items()},
        }
