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


def draw_all(table: pa.Table, folder: Path) -> None:
    """Draws every picture into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    draw_faults(folder / "video-faults.png")
    draw_responses(read_responses(table)).save(str(folder / "video-scores.png"), scale_factor=2)


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
    rows = []
    for metric in dict.fromkeys(one.metric for one in chosen):
        panels = [_panel(one) for one in chosen if one.metric == metric]
        rows.append(alt.hconcat(*panels).resolve_scale(y="shared"))
    return alt.vconcat(*rows).configure_axis(labelFontSize=10, titleFontSize=11)


def _panel(one: Responses) -> Any:
    import altair as alt

    base = alt.Chart({"values": list(_points(one))}).encode(x=alt.X("dose:O", title=one.fault.name, axis=_axis()))
    value = alt.Y("value:Q", title=one.metric, scale=alt.Scale(zero=False))
    line = base.mark_line(point=True, color="#1b6ca8").encode(y=value)
    span = base.mark_rule(color="#1b6ca8").encode(y=alt.Y("low:Q", title=one.metric), y2="high:Q")
    return alt.layer(line, span).properties(width=130, height=80)


def _axis() -> Any:
    import altair as alt

    return alt.Axis(labelAngle=0)


def _points(one: Responses) -> Iterator[dict[str, float | str | None]]:
    """Yields the mean of each dose with its interval; None for NaN, which JSON does not have."""
    for dose, values in zip(one.fault.doses, one.values.T, strict=True):
        found = mean_interval(values)
        ends = {"value": found.estimate, "low": found.low, "high": found.high}
        yield {
            "dose": f"{dose:.3g}",
            **{key: None if np.isnan(end) else float(end) for key, end in ends.items()},
        }
