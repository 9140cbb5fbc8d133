"""Collects what a model's page shows of each run: best sites, charts per metric, provenance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vcorr.board.site.charts import Spec, head_map, noise_lines, site_map
from vcorr.board.tables.definitions import BoardConfig, MetricColumn, boards_of
from vcorr.board.tables.board_runs import BoardRun
from vcorr.board.site.html import fact
from vcorr.board.tables.row_candidates import own_rows
from vcorr.board.tables.ranking import rank_value
from vcorr.board.tables.site_rows import SiteRow
from vcorr.stats.summary import SiteSummary
from vcorr.contract.records import NO_SITE
from vcorr.stats.series import Series
from vcorr.store.fingerprint import find_differences

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


@dataclass(frozen=True)
class SiteView:
    """One probe of a run at its chosen sites. cells: its metrics with the titles of their columns."""

    title: str
    at: SiteRow
    cells: list[tuple[MetricColumn, SiteSummary]]


@dataclass
class RunView:
    """One run on its model's page. standings: rank of each probe on each board, in words. chosen_by: the metric that
    chooses its sites, as a title."""

    run: BoardRun
    heading: str
    standings: list[str]
    chosen_by: str
    rows: list[SiteView]
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
    views = [_run_view(run, _heading(run, runs), boards, standings.get(run.run_id, []), specs) for run in runs]
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


def _run_view(
    run: BoardRun, heading: str, boards: Sequence[BoardConfig], standings: list[str], specs: dict[str, Spec]
) -> RunView:
    chosen = boards_of(run.dataset, boards, run.task)
    columns = {c.name: c for board in chosen for c in board.metrics}
    rows = _site_views(run, chosen[0], columns) if chosen else []
    metrics = []
    for column in columns.values():
        view = _metric_view(run, column, rows, specs)
        if view.charts:
            metrics.append(view)
    by = columns[chosen[0].chosen_by].title if chosen else ""
    return RunView(run, heading, standings, by, rows, metrics, provenance(run))


def _site_views(run: BoardRun, board: BoardConfig, columns: Mapping[str, MetricColumn]) -> list[SiteView]:
    """Returns the probes of a run at the sites that the board's metric chose on all clips of the run, best first."""
    views = [
        SiteView(name, at, [(column, at.cells[c]) for c, column in columns.items() if c in at.cells])
        for name, at in own_rows(run, board)
    ]
    return sorted(views, key=lambda view: -_best(view, board))


def _best(view: SiteView, board: BoardConfig) -> float:
    cell = view.at.cells.get(board.primary) or view.cells[0][1]
    value = rank_value(cell, board.by)
    return -math.inf if math.isnan(value) else value


def _heading(run: BoardRun, runs: Iterable[BoardRun]) -> str:
    """Returns what a run measured, with the options of the dataset in which runs of the model differ."""
    key: dict[str, Any] = run.series[0].key if run.series else {}
    words = [str(key.get(name) or "") for name in ("dataset", "split", "mode")]
    own = _options(run)
    others = [_options(other) for other in runs if other.dataset == run.dataset]
    names = sorted({name for options in others for name in find_differences(own, options)} & own.keys())
    words[1:1] = [f"{name} {fact(own[name])}" for name in names] if words[0] else []
    return " · ".join(word for word in words if word) or run.dataset


def _options(run: BoardRun) -> Mapping[str, Any]:
    return run.measured.options if run.measured else {}


def _metric_view(run: BoardRun, column: MetricColumn, rows: Sequence[SiteView], specs: dict[str, Spec]) -> MetricView:
    view = MetricView(column)

    def add(charts: list[Chart], spec: Spec | None, title: str, caption: str) -> None:
        if spec is not None:
            charts.append(Chart(f"chart-{len(specs)}", title, caption))
            specs[charts[-1].id] = spec

    pairs = []
    for s in _in_order([s for s in run.series if s.key["metric"] == column.name], rows):
        at = {row.at.best.heads: row.at for row in rows if _is_of(row.at, s)}
        main = at.get("mean") or at.get("single")
        add(view.maps, site_map(s, main), s.name, _map_caption(s, main))
        single = at.get("single")
        step = f" at step {single.sites[0].step}" if single and single.sites[0].step != NO_SITE else ""
        add(view.heads, head_map(s, single), f"{s.name}, single heads", f"Layer by head{step}.")
        pairs += [(s, main)] if main else []
    add(
        view.lines,
        noise_lines(pairs),
        "Skill over noise level",
        "Each probe at its chosen layer, the better one if the halves chose two; bands are 95 % intervals.",
    )
    return view


def _is_of(at: SiteRow, s: Series) -> bool:
    """Returns whether a row is of the probe and variant of a series."""
    return all(at.best.key.get(name) == s.key.get(name) for name in ("probe", "variant", "switches"))


def _in_order(found: list[Series], rows: Sequence[SiteView]) -> list[Series]:
    """Returns the series in the order of the rows of their probes."""
    places = [next((i for i, row in enumerate(rows) if _is_of(row.at, s)), len(rows)) for s in found]
    return [s for _, _, s in sorted(zip(places, [s.name for s in found], found, strict=True), key=lambda x: x[:2])]


def _map_caption(s: Series, at: SiteRow | None) -> str:
    clips = f"Over all {len(s.clips)} clips."
    if at is None:
        return clips
    head = at.sites[0].head
    which = "" if head < 0 else f" Only head {head}."
    frame = "The frame marks the chosen site" if len(at.sites) == 1 else "Frames mark the sites that the halves chose"
    return f"{clips}{which} {frame}: {' and '.join(at.site_texts)}."


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
        ("kernels", ", ".join(map(str, record.get("kernels") or ()))),
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
