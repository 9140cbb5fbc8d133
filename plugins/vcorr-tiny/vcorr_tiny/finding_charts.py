"""Draws the pictures of docs/findings.md, one per claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vcorr.stats.intervals import gain_interval
from vcorr.stats.series import Series
from vcorr_tiny.finding_tables import Places
from vcorr_tiny.pieces import PIXELS, XFEAT
from vcorr_tiny.place_results import Measured, source_of
from vcorr_tiny.reported_rows import ACROSS, QK, Source
from vcorr_tiny.sprites.level_names import HARD

RANKED: tuple[Source, ...] = (QK, ("tiny", "feature-cos"), ("tiny", "latent"), *((model, "direct") for model in PIXELS))
"""Rows of the picture of baselines. XFeat follows where it was measured."""
SEED_COLOURS = ["#1b6ca8", "#d1662f", "#3f8f4f", "#666666"]
SEED_NAMES = ["seed 0", "seed 1", "seed 2", "no seed"]

Record = dict[str, Any]


def draw_all(places: Places, strata: Sequence[Mapping[str, Any]], folder: Path) -> None:
    """Draws every picture into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    hard = places.get(HARD) or next(iter(places.values()))
    charts = {
        "findings-baselines": draw_baselines(places),
        "findings-heatmap": draw_sites(hard),
        "findings-steps": draw_steps(places),
        "findings-heads": draw_heads(hard),
        "findings-strata": draw_strata(strata),
    }
    for name, chart in charts.items():
        chart.configure_axis(labelFontSize=11, titleFontSize=12).configure_header(
            labelFontSize=13, labelFontWeight="bold"
        ).save(str(folder / f"{name}.png"), scale_factor=2)


def _seed_name(seed: int) -> str:
    return f"seed {seed}" if seed >= 0 else "no seed"


def _line_of(seed: int) -> str:
    """Returns on which line of its name a point is; in the middle without a seed."""
    return _seed_name(seed) if seed >= 0 else SEED_NAMES[1]


def _colour(names: Sequence[str] = SEED_NAMES) -> Any:
    import altair as alt

    scale = alt.Scale(domain=list(names), range=SEED_COLOURS[: len(names)])
    return alt.Color("seed:N", title=None, scale=scale)


def draw_baselines(places: Places) -> Any:
    """Draws the gain of the network with each seed and of baselines, with intervals, a panel per place."""
    rows = [record for name, seeds in places.items() for record in _rank_rows(name, seeds)]
    return _gain_chart(rows, "place", list(places), columns=3, width=230)


def _rank_rows(place: str, seeds: Sequence[Measured]) -> list[Record]:
    rows = []
    xfeat = [source_of(XFEAT)] if XFEAT in seeds[0].compared else []
    for model, probe in (*RANKED, *xfeat):
        own = model == "tiny"
        for m in seeds if own else seeds[:1]:
            interval = gain_interval(*m.results.choose([(model, probe)]).scores(ACROSS)[:2])
            name, seed = (probe, m.seed) if own else (model, -1)
            ends = {"low": float(interval.low), "high": float(interval.high)}
            rows.append({"place": place, "name": name, "seed": seed, "gain": float(interval.estimate), **ends})
    return rows


def draw_strata(gains: Sequence[Mapping[str, Any]]) -> Any:
    """Draws the gain by level with one fault, a panel per level."""
    shown = [g for g in gains if g["name"] in ("qk", "latent", *PIXELS, XFEAT)]
    return _gain_chart(shown, "stratum", list(dict.fromkeys(g["stratum"] for g in gains)), columns=4, width=150)


def _gain_chart(rows: Sequence[Mapping[str, Any]], by: str, order: Sequence[str], *, columns: int, width: int) -> Any:
    """Returns points with intervals: names along y, gain along x, one colour per seed."""
    import altair as alt

    names = list(dict.fromkeys(row["name"] for row in rows))
    values = [_plain({**row, "seed": _seed_name(row["seed"]), "line": _line_of(row["seed"])}) for row in rows]
    base = alt.Chart().encode(
        y=alt.Y("name:N", title=None, sort=names),
        yOffset=alt.YOffset("line:N", sort=SEED_NAMES[:-1]),
        color=_colour(),
    )
    lines = base.mark_rule().encode(x=alt.X("low:Q", title="gain, moving points"), x2="high:Q")
    points = base.mark_point(filled=True, size=40).encode(x=alt.X("gain:Q", title="gain, moving points"))
    layered = alt.layer(lines, points, data={"values": values}).properties(width=width, height=22 * len(names))
    return layered.facet(facet=alt.Facet(f"{by}:N", title=None, sort=list(order)), columns=columns)


def draw_sites(seeds: Sequence[Measured]) -> Any:
    """Draws the skill by layer and step with each seed, of queries and keys and of the best probe of features."""
    rows = []
    for m in seeds:
        for probe in ("qk", "feature-cos"):
            for site, value in _by_site(m.results.get("tiny", probe)):
                step = f"{site['step']} ({site['noise']:.2f})"
                at = {"layer": site["layer"], "step": step, "order": site["step"], "skill": value}
                rows.append({"seed": _seed_name(m.seed), "probe": probe, **at})
    return _heat_map(rows, "step:O", "step (noise)", "probe", width=210)


def draw_heads(seeds: Sequence[Measured]) -> Any:
    """Draws the skill of each head and of the mean over heads at the cleanest step, with each seed."""
    rows = []
    for m in seeds:
        for s in (m.heads.single, m.heads.mean):
            for site, value in _by_site(s):
                head = "mean" if site["head"] < 0 else str(site["head"])
                order = 99 if site["head"] < 0 else site["head"]
                rows.append(
                    {"seed": _seed_name(m.seed), "layer": site["layer"], "head": head, "order": order, "skill": value}
                )
    return _heat_map(rows, "head:O", "head", None, width=150)


def _by_site(s: Series) -> list[tuple[Any, float]]:
    return [(site, float(v)) for site, v in zip(s.sites, s.skill.tolist(), strict=True) if np.isfinite(v)]


def _heat_map(rows: Sequence[Record], x: str, title: str, by: str | None, *, width: int) -> Any:
    import altair as alt

    row = {"row": alt.Row(f"{by}:N", title=None, sort=["qk"])} if by else {}
    most = max(
        [0.1, *(math.ceil(10 * record["skill"]) / 10 for record in rows)]
    )  # layers differ little at a scale to 1
    return (
        alt.Chart({"values": list(rows)})
        .mark_rect()
        .encode(
            x=alt.X(x, title=title, sort=alt.SortField("order")),
            y=alt.Y("layer:O", title="layer"),
            color=alt.Color("skill:Q", scale=alt.Scale(scheme="viridis", domain=[0, most], clamp=True), title="skill"),
            column=alt.Column("seed:N", title=None),
            **row,
        )
        .properties(width=width, height=200)
    )


def draw_steps(places: Places) -> Any:
    """Draws the skill of the best layer by noise level, a line per seed, a panel per place."""
    import altair as alt

    rows = []
    for name, seeds in places.items():
        for m in seeds:
            best: dict[int, Record] = {}
            for site, value in _by_site(m.results.get(*QK)):
                if value > best.get(site["step"], {"skill": -9.0})["skill"]:
                    best[site["step"]] = {"noise": float(site["noise"]), "skill": value}
            rows += [{"place": name, "seed": _seed_name(m.seed), **found} for found in best.values()]
    return (
        alt.Chart({"values": rows})
        .mark_line(point=True)
        .encode(
            x=alt.X("noise:Q", title="noise level", sort="descending", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("skill:Q", title="skill of the best layer", scale=alt.Scale(domain=[0, 1])),
            color=_colour(SEED_NAMES[:-1]),  # a baseline has no steps
            column=alt.Column("place:N", title=None, sort=list(places)),
        )
        .properties(width=210, height=180)
    )


def _plain(row: Mapping[str, Any]) -> Record:
    """Returns a record without NaN, which JSON does not have."""
    return {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in row.items()}
