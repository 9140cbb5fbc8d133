"""Makes the charts of a model page as Vega-Lite specifications, with Altair. Text and lines take the page's colours.

Every map of every page uses one colour scale for skill, from 0 to 1, so that maps can be compared. Skill below 0 is
worse than predicting that nothing moves. Such cells are slate whatever their value; cell and tooltip show the value.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from vcorr.contract.records import HEAD_MEAN, NO_SITE
from vcorr.stats.series import Series
from vcorr.board.tables.site_rows import SiteRow
from vcorr.stats.summary import SiteSummary, site_summaries

Spec = dict[str, Any]
Chart = Any
"""An Altair chart. Altair annotates its methods with unions of all chart classes, which are too wide to be useful."""

DATA = "cells"
SCHEME: Literal["viridis"] = "viridis"
NUMBERED_COLUMNS = 12
"""Most columns for which cells show their number; with more, cells are too narrow."""
BELOW_FLOOR = -0.005
"""Largest skill that is still negative after rounding to two digits."""
SLATE = "#4b525a"
DARK_INK_ABOVE = 0.55
"""Skill above which the colour scale is bright enough for dark numbers."""
SVG_CELLS = 1200
"""Most cells that are drawn as SVG; larger charts are drawn on a canvas, which is faster."""

_TOOLTIP = (
    ("layer_name", "module", None),
    ("layer", "layer", None),
    ("step", "step", None),
    ("head", "head", None),
    ("noise", "noise", ".3f"),
    ("skill", "skill", ".3f"),
    ("interval", "95 % interval", None),
    ("value", "value", ".3f"),
    ("floor", "floor", ".3f"),
    ("ceiling", "ceiling", ".3f"),
    ("clips", "clips", None),
)


def site_map(s: Series, at: SiteRow | None) -> Spec | None:
    """Maps layer x step: skill of every site over all clips, at the head of the first chosen site.

    None when the series has no attention sites.
    """
    head = at.sites[0].head if at else s.sites[0]["head"]
    wanted = [i for i, site in enumerate(s.sites) if site["head"] == head and site["layer"] != NO_SITE]
    if not wanted:
        return None
    marks = {(site.layer, site.step) for site in at.sites if site.head == head} if at else set()
    cells = [_cell(x, chosen=(x.layer, x.step) in marks) for x in site_summaries(s, sites=wanted)]
    stepless = all(s.sites[i]["step"] == NO_SITE for i in wanted)
    title = "no steps: the model adds no noise" if stepless else "step (0 has the most noise)"
    return _heat_map(cells, "step", title, f"Skill of {s.name} by layer and denoising step")


def head_map(s: Series, at: SiteRow | None) -> Spec | None:
    """Maps layer x head at the step of the first chosen site. None when no single heads were recorded."""
    if at is None:
        return None
    step = at.sites[0].step
    wanted = [i for i, x in enumerate(s.sites) if x["head"] != HEAD_MEAN and x["step"] == step]
    if len({s.sites[i]["head"] for i in wanted}) < 2:
        return None
    marks = {(site.layer, site.head) for site in at.sites if site.step == step}
    cells = [_cell(x, chosen=(x.layer, x.head) in marks) for x in site_summaries(s, sites=wanted)]
    return _heat_map(cells, "head", "head", f"Skill of {s.name} by layer and head")


def noise_lines(pairs: Sequence[tuple[Series, SiteRow]]) -> Spec | None:
    """Draws skill over noise level, one line per probe, at the layer and head of its first chosen site.

    None when there are fewer than two noise levels.
    """
    cells = []
    for s, at in pairs:
        site = (at.sites[0].layer, at.sites[0].head)
        wanted = [i for i, x in enumerate(s.sites) if (x["layer"], x["head"]) == site and math.isfinite(x["noise"])]
        label = s.name if at.sites[0].layer == NO_SITE else f"{s.name}, layer {at.sites[0].layer}"
        cells += [{**_cell(x, chosen=False), "line": label} for x in site_summaries(s, sites=wanted)]
    return _lines(cells) if len({cell["noise"] for cell in cells}) > 1 else None


def _cell(x: SiteSummary, *, chosen: bool) -> dict[str, Any]:
    kept = ("layer", "layer_name", "step", "head", "noise", "skill", "value", "floor", "ceiling", "clips")
    values = {k: _plain(v) for k, v in asdict(x).items() if k in (*kept, "skill_low", "skill_high")}
    interval = "–" if values["skill_low"] is None else f"{x.skill_low:.3f} … {x.skill_high:.3f}"
    label = "–" if math.isnan(x.skill) else f"{round(x.skill, 2) + 0.0:.2f}"  # no -0.00
    head = "mean" if x.head == HEAD_MEAN else x.head
    step = "none" if x.step == NO_SITE else x.step
    return {**values, "interval": interval, "chosen": chosen, "head": head, "step": step, "label": label}


def _heat_map(cells: list[dict[str, Any]], column: str, title: str, description: str) -> Spec:
    columns, rows = (len({cell[key] for cell in cells}) for key in (column, "layer"))
    height = rows * (26 if rows <= 20 else 15)
    shape = _heat_shape(column, title, numbered=columns <= NUMBERED_COLUMNS, height=height)
    return _add_data(shape, cells, description)


@functools.cache
def _heat_shape(column: str, title: str, *, numbered: bool, height: int) -> Spec:
    """Makes a heat map without its data.

    Altair validates every specification, which is slow, so equal heat maps are made only once.
    """
    import altair as alt

    base = alt.Chart(alt.NamedData(DATA)).encode(
        x=alt.X(f"{column}:O", title=title, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        y=alt.Y("layer:O", title="layer", axis=alt.Axis(labelOverlap=True)),
        tooltip=_tooltip(),
    )
    numbers = [_numbers(base)] if numbered else []
    layers = [_missing(base), _skills(base), _below_floor(base), *numbers, _frame_chosen(base)]
    return _shape(alt.layer(*layers).properties(width="container", height=height))


def _skills(base: Chart) -> Chart:
    import altair as alt

    scale = alt.Scale(scheme=SCHEME, domain=[0, 1], clamp=True)
    legend = alt.Legend(title="skill", orient="bottom", gradientLength=160, gradientThickness=8, titleOrient="left")
    return (
        base.transform_filter("isValid(datum.skill)")
        .mark_rect()
        .encode(alt.Color("skill:Q", scale=scale, legend=legend))
    )


def _below_floor(base: Chart) -> Chart:
    return base.transform_filter(f"isValid(datum.skill) && datum.skill <= {BELOW_FLOOR}").mark_rect(fill=SLATE)


def _missing(base: Chart) -> Chart:
    """Draws sites without skill in grey; where cells show numbers they show a dash."""
    return base.transform_filter("!isValid(datum.skill)").mark_rect(fill="#888", fillOpacity=0.25)


def _frame_chosen(base: Chart) -> Chart:
    """Draws a frame in two colours around the chosen site, which is visible on every colour of the scale."""
    import altair as alt

    frame = base.transform_filter("datum.chosen")
    outer = frame.mark_rect(fill=None, stroke="#ffffff", strokeWidth=4, strokeJoin="round")
    inner = frame.mark_rect(fill=None, stroke="#d1242f", strokeWidth=2, strokeJoin="round")
    return alt.layer(outer, inner)


def _numbers(base: Chart) -> Chart:
    import altair as alt

    missing, bright = "!isValid(datum.skill)", f"datum.skill > {DARK_INK_ABOVE}"
    ink = alt.when(missing).then(alt.value("#888")).when(bright).then(alt.value("#111")).otherwise(alt.value("#fff"))
    return base.mark_text(fontSize=10.5).encode(text="label:N", color=ink)


def _lines(cells: list[dict[str, Any]]) -> Spec:
    return _add_data(_line_shape(*_reach(cells)), cells, "Skill over noise level, one line per probe")


def _line_shape(bottom: float, top: float) -> Spec:
    import altair as alt

    scale = alt.Scale(domain=[bottom, top])
    legend = alt.Legend(
        orient="top", columns=1, symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=2.5, labelLimit=300
    )
    base = alt.Chart(alt.NamedData(DATA)).encode(
        x=alt.X(
            "noise:Q",
            title="noise level (0 is clean, 1 is pure noise)",
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(tickCount=5, format=".1f"),
        ),
        color=alt.Color("line:N", title=None, sort=None, legend=legend),
        tooltip=_tooltip(),
    )
    band = base.mark_area(opacity=0.15).encode(y=alt.Y("skill_low:Q", scale=scale), y2="skill_high:Q")
    line = base.mark_line(point=True).encode(y=alt.Y("skill:Q", title="skill", scale=scale))
    return _shape(alt.layer(band, line).properties(width="container", height=260))


def _reach(cells: list[dict[str, Any]]) -> tuple[float, float]:
    ends = [cell[key] for cell in cells for key in ("skill_low", "skill_high", "skill") if cell[key] is not None]
    return min([0.0, *ends]), max([1.0, *ends])


def _tooltip() -> list[Any]:
    import altair as alt

    texts = ("layer_name", "interval", "head")
    formats: dict[str, dict[str, Any]] = {name: {"format": form} if form else {} for name, _, form in _TOOLTIP}
    return [
        alt.Tooltip(f"{name}:{'N' if name in texts else 'Q'}", title=title, **formats[name])
        for name, title, _ in _TOOLTIP
    ]


def _shape(chart: Chart) -> Spec:
    spec: Spec = chart.to_dict()
    # The schema's address would be a link to the network; charts.js names the language and sets the page's colours.
    spec.pop("$schema", None)
    spec.pop("config", None)
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec


def _add_data(shape: Spec, cells: list[dict[str, Any]], description: str) -> Spec:
    renderer = "svg" if len(cells) <= SVG_CELLS else "canvas"
    return {
        **shape,
        "description": description,
        "datasets": {DATA: cells},
        "usermeta": {"embedOptions": {"renderer": renderer}},
    }


def _plain(value: Any) -> Any:
    """Turns NaN into None and rounds numbers to what a tooltip shows; more digits would only make the page larger."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
