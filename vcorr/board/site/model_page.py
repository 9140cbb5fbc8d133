"""Collects what a model's page shows of each run: best sites, charts per metric, provenance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vcorr.board.site.charts import Spec, head_map, noise_lines, site_map
from vcorr.board.tables.definitions import BoardConfig, MetricColumn, boards_of
from vcorr.board.tables.board_runs import GROUP_KEYS, BoardRun
from vcorr.board.site.html import fact
from vcorr.contract.records import NO_SITE
from vcorr.stats.series import Series
from vcorr.stats.summary import BestSite

_SHOWN_APART = ("name", "title", "summary")


@dataclass(frozen=True)
class Chart:
    """A chart on the page: the id of its specification, its heading, and the line below it."""

    id: str
    title: str
    caption: str


@dataclass
class MetricView:
    """The charts of one metric."""

    column: MetricColumn
    maps: list[Chart] = field(default_factory=list)
    heads: list[Chart] = field(default_factory=list)
    lines: list[Chart] = field(default_factory=list)

    @property
    def charts(self) -> list[Chart]:
        """All charts, maps first."""
        return [*self.maps, *self.heads, *self.lines]


@dataclass
class RunView:
    """One run on its model's page. standings: rank of each probe on each board, in words."""

    run: BoardRun
    heading: str
    standings: list[str]
    best: list[tuple[str, BestSite]]
    metrics: list[MetricView]
    provenance: list[tuple[str, str]]


@dataclass
class ModelView:
    """A model's page. specs: specification of every chart, by chart id."""

    name: str
    title: str
    summary: str
    facts: list[tuple[str, str]]
    runs: list[RunView]
    specs: dict[str, Spec]


def model_view(runs: Sequence[BoardRun], boards: Sequence[BoardConfig], standings: dict[str, list[str]]) -> ModelView:
    """Collects the page of a model from all its runs; `standings` gives the ranks of each run, by run id."""
    specs: dict[str, Spec] = {}
    card = next((run.card for run in runs if run.card), {})
    views = [_run_view(run, boards, standings.get(run.run_id, []), specs) for run in runs]
    return ModelView(
        name=runs[0].model,
        title=str(card.get("title") or runs[0].model),
        summary=str(card.get("summary") or ""),
        facts=card_facts(card),
        runs=views,
        specs=specs,
    )


def card_facts(card: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the fields of a card as text, in their order, followed by its `extra` fields."""
    extra = card.get("extra")
    fields = {k: v for k, v in card.items() if k != "extra"} | (extra if isinstance(extra, dict) else {})
    return [
        (str(key).replace("_", " "), fact(value))
        for key, value in fields.items()
        if key not in _SHOWN_APART and value not in (None, "", [], {})
    ]


def _run_view(run: BoardRun, boards: Sequence[BoardConfig], standings: list[str], specs: dict[str, Spec]) -> RunView:
    columns = {c.name: c for board in boards_of(run.dataset, boards) for c in board.metrics}
    order = _probe_order(run)
    metrics = []
    for column in columns.values():
        found = [s for s in run.series if s.key["metric"] == column.name]
        found.sort(key=lambda s: (order[s.key["probe"]], s.variant_text))
        view = _metric_view(run, column, found, specs)
        if view.charts:
            metrics.append(view)
    shown = sorted(
        (b for b in run.best if b.key["metric"] in columns),
        key=lambda b: (order[b.key["probe"]], b.summary.variant_text),
    )
    best = [(columns[b.key["metric"]].title, b) for b in shown]
    return RunView(run, _heading(run), standings, best, metrics, provenance(run))


def _probe_order(run: BoardRun) -> dict[str, int]:
    """Probes by their highest skill, best first."""
    top: dict[str, float] = {s.key["probe"]: -math.inf for s in run.series}
    for best in run.best:
        if not math.isnan(best.summary.skill):
            top[best.key["probe"]] = max(top[best.key["probe"]], best.summary.skill)
    return {probe: i for i, probe in enumerate(sorted(top, key=lambda name: (-top[name], name)))}


def _heading(run: BoardRun) -> str:
    key: dict[str, Any] = run.series[0].key if run.series else {}
    words = [str(key.get(name) or "") for name in GROUP_KEYS[:3]]
    return " · ".join(word for word in words if word) or run.dataset


def _metric_view(run: BoardRun, column: MetricColumn, found: list[Series], specs: dict[str, Spec]) -> MetricView:
    view = MetricView(column)

    def add(charts: list[Chart], spec: Spec | None, title: str, caption: str) -> None:
        if spec is not None:
            charts.append(Chart(f"chart-{len(specs)}", title, caption))
            specs[charts[-1].id] = spec

    for s in found:
        best = run.best_of(s)
        add(view.maps, site_map(s, best), s.name, _map_caption(s, best))
        at = f" at step {best.summary.step}" if best and best.summary.step != NO_SITE else ""
        add(view.heads, head_map(s, best), f"{s.name}, single heads", f"Layer by head{at}.")
    pairs = [(s, best) for s in found if (best := run.best_of(s)) is not None]
    add(
        view.lines,
        noise_lines(pairs),
        "Skill over noise level",
        "Each probe at its best layer; bands are 95 % intervals.",
    )
    return view


def _map_caption(s: Series, best: BestSite | None) -> str:
    clips = f"Over all {len(s.clips)} clips."
    if best is None:
        return clips
    x = best.summary
    which = "" if x.head < 0 else f" Only head {x.head}."
    step = "" if x.step == NO_SITE else f", step {x.step}"
    return f"{clips}{which} The frame marks the chosen site: layer {x.layer}{step}."


def provenance(run: BoardRun) -> list[tuple[str, str]]:
    """Returns from run.json where the numbers come from; facts that it lacks are left out."""
    record = run.record
    device, clips = _mapping(record, "device"), _mapping(record, "clips")
    seeds = sorted({str(s.key["seed"]) for s in run.series})
    lines = [
        ("run", run.run_id),
        ("status", run.status),
        ("clips", _clips(run, clips)),
        ("weights", run.weights),
        ("seed", ", ".join(seeds)),
        ("device", ", ".join(str(device[key]) for key in ("name", "dtype", "machine", "os") if device.get(key))),
        ("started", record.get("started")),
        ("finished", record.get("updated")),
        ("git", record.get("git")),
        *((f"version of {name}", value) for name, value in _mapping(record, "versions").items()),
        *((str(name), value) for name, value in _mapping(record, "plugins").items()),
        *((f"fingerprint, {stage}", value) for stage, value in _mapping(record, "fingerprints").items()),
    ]
    return [(name, fact(value)) for name, value in lines if value not in (None, "", {})]


def _clips(run: BoardRun, counts: dict[str, Any]) -> str:
    parts = [f"{run.clips} scored"]
    if counts.get("total"):
        parts.append(f"{counts.get('done', 0)} of {counts['total']} run")
    parts += [f"{count} {word}" for count, word in ((run.failed, "failed"), (run.unscored, "without tracks")) if count]
    return ", ".join(parts)


def _mapping(record: dict[str, Any], key: str) -> dict[str, Any]:
    value = record.get(key)
    return value if isinstance(value, dict) else {}
