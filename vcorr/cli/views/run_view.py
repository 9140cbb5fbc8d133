"""Builds what `vcorr show run` prints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.text import Text

from vcorr.analysis.comparable import earlier_scoring_note
from vcorr.cli.views import listing_view, render, terminal
from vcorr.cli.views.site_tables import say_findings, say_unscored
from vcorr.cli.views.table_notes import Remark, gather_remarks, interval_text, say_no_interval
from vcorr.cli.views.table_width import Column, Row, fit_table
from vcorr.cli.views.terminal import cell, number
from vcorr.contract.metric_columns import all_points_of, read_columns
from vcorr.contract.modes import Generate
from vcorr.contract.noun_counts import say_count
from vcorr.contract.records import NO_SITE
from vcorr.contract.seeds import noise_draw_of
from vcorr.contract.tasks import AT_ONE_SITE, MAKING_VIDEOS
from vcorr.contract.visible_text import join_words
from vcorr.metrics.tapvid_metric import JACCARD, OCCLUSION
from vcorr.runner.reference import Reference
from vcorr.runner.repeat import words_of_rescoring, words_to_repeat
from vcorr.stats.intervals import MIN_CLIPS_FOR_INTERVAL
from vcorr.stats.series import PRIMARY_METRIC
from vcorr.tracking.thresholds import mean_over_clips

if TYPE_CHECKING:
    from vcorr.analysis.harmonic_sites import HarmonicSite
    from vcorr.analysis.overview import Overview, Ranking, StrataOf
    from vcorr.runner.stored_tracks import StoredThresholds

_WINNERS_SHOWN = 3
_GUIDED_BY = ("guidance_scale", "guidance_layers", "guidance_steps", "cfg")
_THRESHOLDS_SHOWN = 9


def overview(found: Overview) -> None:
    """Prints the settings of a run, its best sites, how stable their ranking is, and scores by strata."""
    out = terminal.console()
    out.print(listing_view.facts({name: value for name, value in _facts(found).items() if value not in ([], "")}))
    out.print()
    say_findings(out, found.findings)
    say_unscored(out, found.findings.unscored, len(found.facts.clips) + len(found.facts.untracked))
    if found.rankings:
        _say_rankings(out, found)
    if found.harmonic:
        out.print()
        out.print(_harmonic_table(found.harmonic))
        out.print(cell(_HARMONIC_EXPLAINED, style="dim"))
    for strata in found.strata:
        out.print()
        out.print(_strata_table(strata))
        for line in gather_remarks(list(_strata_remarks(strata)), len(strata.strata) + 1):
            out.print(cell(line, style="dim"))
        empty = [name.replace(":", " ") for name, x in strata.strata.items() if not x.clips]
        if empty:
            out.print(cell(f"Strata without any pair to score: {', '.join(empty)}.", style="dim"))
    if found.thresholds is not None:
        out.print()
        out.print(_thresholds_table(found.thresholds))
        for line in _threshold_notes(found.thresholds, found.facts.path):
            out.print(cell(line, style="dim"), soft_wrap=True)
    if not found.strata and any(name.startswith(PRIMARY_METRIC) for name in found.findings.metrics):
        metrics = ",".join(dict.fromkeys([*_metrics_with_scores(found), "strata"]))
        how = join_words(["vcorr", "score", found.facts.path, "--set", f"metrics={metrics}"])
        out.print(cell(f"Scores by displacement, time and occlusion: {how}", style="dim"), soft_wrap=True)


_RANKINGS_EXPLAINED = (
    "Over 1000 resamples of the clips. stays best: share of resamples whose best site is the best over all clips. "
    "tau: Kendall's tau between the ranking over all clips and a resample's; range: 95 % of the resamples. "
    "tau, halves: the same between two halves of the clips."
)


_HARMONIC_EXPLAINED = (
    "harmonic: of matching_accuracy, confidence_cross and attention_cross, each scaled to 0 … 1 over all sites. It "
    "ranks the sites of one model, and says nothing about another model."
)


def _say_rankings(out: Console, found: Overview) -> None:
    """Prints how stable the rankings are. Resamples of few clips are nearly the same, and would look stable."""
    clips = len(found.facts.clips)
    if clips < MIN_CLIPS_FOR_INTERVAL:
        enough = f"{say_count(clips, 'clip')}, and resamples need {MIN_CLIPS_FOR_INTERVAL}"
        out.print(cell(f"How stable the rankings are is not known: {enough}.", style="dim"))
        return
    out.print(_rankings_table(found.rankings))
    out.print(cell(_RANKINGS_EXPLAINED, style="dim"))


def _metrics_with_scores(found: Overview) -> list[str]:
    """Returns the metrics of a run that scored something: others do not apply to what its probes predict."""
    columns = {one.metric: one.columns for one in read_columns(found.record)}
    names = [metric["name"] for metric in found.record.get("metrics") or []]
    return [name for name in names if not columns.get(name) or set(columns[name]) & set(found.metrics)]


def overview_dict(found: Overview) -> dict[str, Any]:
    """Returns what `vcorr show run --json` prints."""
    return {
        **_facts(found),
        "reference": Reference.of_record(found.record).to_dict(),
        "metrics": list(found.metrics),
        **render.scores_dict(found.findings),
        "rankings": [_ranking_dict(ranking) for ranking in found.rankings],
        "strata": [_strata_dict(strata) for strata in found.strata],
        **({"harmonic": [asdict(site) for site in found.harmonic]} if found.harmonic else {}),
        **({"thresholds": _thresholds_dict(found.thresholds)} if found.thresholds is not None else {}),
    }


def _facts(found: Overview) -> dict[str, Any]:
    record, facts = found.record, found.facts
    context = record.get("row_context") or {}
    return {
        "run": facts.run,
        "path": facts.path,
        "status": facts.status,
        "model": facts.model,
        "weights": facts.weights,
        "data": f"{context.get('dataset', '')}, split {context.get('split', '')}",
        "mode": context.get("mode", ""),
        **_tracking(record),
        **_generation(context),
        "noise": _noise(record, context),
        "reference": Reference.of_record(record).text,
        "clips": len(facts.clips),
        "failed": list(facts.failed),
        "without tracks": list(facts.untracked),
        "notes": [*(record.get("notes") or ()), *earlier_scoring_note(facts.path, record)],
        "started": record.get("started", ""),
        "command": join_words(words_to_repeat(record)),
        "scored by": join_words(words_of_rescoring(record)),
        "last command": join_words(_list(record.get("command"))),
    }


def _tracking(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how points were followed or masks carried, and what it cost, in words; nothing for another task."""
    resolved, cost = record.get("resolved") or {}, record.get("cost")
    task = resolved.get("task")
    if task not in AT_ONE_SITE:
        return {}
    options = [
        f"{part}.{key}={value}" for part in ("propagate", "track") for key, value in resolved.get(part, {}).items()
    ]
    return {"task": task, str(task): " ".join(options), "cost": render.say_cost(cost) if cost else ""}


def _generation(context: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how videos were guided, in words; nothing for a run of another task."""
    if context.get("task") not in MAKING_VIDEOS:
        return {}
    named = {"guidance": "none", **{name: value for name, value in context.items() if value not in (None, "")}}
    words = [f"{name.removeprefix('guidance_')} {named[name]}" for name in _GUIDED_BY if name in named]
    return {"task": context["task"], "guidance": ", ".join([str(named["guidance"]), *words])}


def _noise(record: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    """Returns how the noise of generated videos was drawn, in words; "" for videos of the data."""
    if context.get("mode") != Generate.name:
        return ""
    how = {"clip": "a draw of its own for every clip", "shared": "one draw for all clips"}
    draw = noise_draw_of(record)
    return f"{how.get(draw, draw)}, seed {context.get('seed')} (--set noise_draw={draw})"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _harmonic_table(sites: Sequence[HarmonicSite]) -> RenderableType:
    names = ("harmonic", "accuracy", "confidence", "attention")
    columns = (Column("probe", is_name=True), Column("site", is_name=True), Column("noise", gives_way=0))
    by_probe: dict[str, list[HarmonicSite]] = {}
    for site in sites:
        by_probe.setdefault(_name(site.probe, site.variant), []).append(site)
    rows: list[Row] = [
        (cell(name), site.site, number(site.noise, 2), *map(number, _values_of(site)))
        for name, ranked in by_probe.items()
        for site in ranked[:_WINNERS_SHOWN]
    ]
    return fit_table(terminal.console(), "Sites by harmonic mean", (*columns, *map(Column, names)), rows)


def _values_of(site: HarmonicSite) -> tuple[float, ...]:
    return site.value, site.accuracy, site.confidence, site.attention


def _rankings_table(rankings: Sequence[Ranking]) -> RenderableType:
    several = len({ranking.metric for ranking in rankings}) > 1
    columns = (
        *([Column("metric", is_name=True)] if several else []),
        Column("probe", is_name=True),
        Column("ranked", is_name=True),
        Column("best", is_name=True),
        Column("stays best"),
        Column("next", is_name=True, gives_way=0),
        Column("tau"),
        Column("range", gives_way=2),
        Column("tau, halves", gives_way=1),
    )
    rows = [_ranking_cells(ranking)[not several :] for ranking in rankings]
    return fit_table(terminal.console(), "How stable the rankings are", columns, rows)


def _ranking_cells(ranking: Ranking) -> tuple[Text | str, ...]:
    s = ranking.stability
    return (
        cell(ranking.metric),
        cell(_name(ranking.probe, ranking.variant)),
        _describe_ranked(ranking),
        _site(ranking, ranking.best),
        cell(_share(s.stays_best), style="bold"),
        _others(ranking),
        number(s.tau, 2),
        interval_text(s.tau_low, s.tau_high, 2),
        number(s.tau_halves, 2),
    )


def _strata_table(found: StrataOf) -> RenderableType:
    s = found.best.summary
    sites = f", {'sites' if len(found.best.sites) > 1 else 'site'} {found.best.site}" if found.best.site else ""
    where = f"{_name(s.probe, found.variant)}{sites}"
    columns = (
        Column("stratum", is_name=True),
        Column("value"),
        Column("floor", gives_way=0),
        Column("ceiling", gives_way=0),
        Column("skill"),
        Column("95 % interval", gives_way=2),
        Column("clips"),
    )
    return fit_table(
        terminal.console(), f"{found.whole.metric} by stratum: {where}", columns, list(_strata_rows(found))
    )


def _thresholds_table(found: StoredThresholds) -> RenderableType:
    """Returns some thresholds of visibility, the chosen one among them, with AJ and OA."""
    best = found.chosen.threshold
    rows: list[Row] = [
        (cell(f"{threshold:.3g}{' (best)' if threshold == best else ''}"), number(jaccard), number(accuracy))
        for threshold, jaccard, accuracy in found.pick(_THRESHOLDS_SHOWN)
    ]
    own = mean_over_clips(found.curve.own)
    columns = (Column("visible above", is_name=True), Column(JACCARD), Column(OCCLUSION))
    now = (cell("as now"), number(own[0]), number(own[1]))
    return fit_table(terminal.console(), "Threshold of visibility", columns, [now, None, *rows])


def _threshold_notes(found: StoredThresholds, path: str) -> Iterator[str]:
    chosen = found.chosen
    yield f"The best threshold maximises {chosen.maximised}, on the same clips that report it."
    if found.crossed is not None:
        jaccard, accuracy = found.crossed
        yield (
            f"Each clip at the threshold that the other half of the clips chooses: {JACCARD} {jaccard:.3f}, "
            f"{OCCLUSION} {accuracy:.3f}."
        )
    how = join_words(["vcorr", "score", path, "--set", f"metric.visible_above={chosen.threshold:.6g}"])
    yield f"Scores with another threshold, without the model: {how}"


def _thresholds_dict(found: StoredThresholds) -> dict[str, Any]:
    names = ("visible_above", JACCARD, OCCLUSION)
    return {
        "maximised": found.chosen.maximised,
        "best": found.chosen.threshold,
        "cross_fitted": None if found.crossed is None else dict(zip(names[1:], found.crossed, strict=True)),
        "as_now": dict(zip(names[1:], map(float, mean_over_clips(found.curve.own)), strict=True)),
        "curve": [dict(zip(names, row, strict=True)) for row in found.pick(len(found.curve.thresholds))],
    }


def _whole_name(found: StrataOf) -> str:
    return "moving pairs" if all_points_of(found.whole.metric) else "all pairs"


def _strata_rows(found: StrataOf) -> Iterator[Row]:
    dimension = ""
    for name, x in {_whole_name(found): found.whole, **found.strata}.items():
        if not x.clips:
            continue
        if name.split(":")[0] != dimension:
            dimension = name.split(":")[0]
            yield None
        yield (
            cell(name.replace(":", " ")),
            *(number(value) for value in (x.value, x.floor, x.ceiling)),
            cell(number(x.skill), style="bold"),
            interval_text(x.skill_low, x.skill_high),
            str(x.clips),
        )


def _strata_remarks(found: StrataOf) -> Iterator[Remark]:
    for name, x in {_whole_name(found): found.whole, **found.strata}.items():
        if x.no_skill_interval and not math.isnan(x.skill):
            yield Remark(name.replace(":", " "), say_no_interval(x.no_skill_interval))


def _strata_dict(found: StrataOf) -> dict[str, Any]:
    strata = {name: x.to_dict() for name, x in found.strata.items()}
    return {
        "variant": found.variant,
        "metric": found.whole.metric,
        "best": found.best.to_dict(),
        "strata": strata,
    }


def _name(probe: str, variant: str) -> str:
    return probe if variant == "corrected" else f"{probe} ({variant})"


def _describe_ranked(ranking: Ranking) -> str:
    if ranking.ranked == "layers":
        where = "" if ranking.step == NO_SITE else f" at step {ranking.step}"
        return f"{len(ranking.sites)} layers{where}"
    return f"{len(ranking.sites)} layers and steps"


def _site(ranking: Ranking, site: dict[str, Any]) -> str:
    return str(site["layer"]) if ranking.ranked == "layers" else f"{site['layer']}:{site['step']}"


def _others(ranking: Ranking) -> str:
    others = [(site, share) for site, share in ranking.winners() if site is not ranking.best]
    shown = [f"{_site(ranking, site)} {_share(share)}" for site, share in others[:_WINNERS_SHOWN]]
    return ", ".join(shown) + (" …" if len(others) > _WINNERS_SHOWN else "") or "–"


def _share(value: float) -> str:
    if math.isnan(value):
        return "–"
    if 0 < value < 1 and round(100 * value) in (0, 100):
        return "< 1 %" if value < 0.5 else "> 99 %"  # 0 % would read as never, 100 % as always
    return f"{100 * value:.0f} %"


def _ranking_dict(ranking: Ranking) -> dict[str, Any]:
    s = ranking.stability
    numbers = {name: getattr(s, name) for name in ("tau", "tau_low", "tau_high", "tau_halves", "stays_best")}
    return {
        "probe": ranking.probe,
        "variant": ranking.variant,
        "metric": ranking.metric,
        "ranked": ranking.ranked,
        "step": ranking.step,
        "count": len(ranking.sites),
        "best": _site_dict(ranking.best),
        **{name: None if math.isnan(value) else value for name, value in numbers.items()},
        "winners": [{**_site_dict(site), "share": share} for site, share in ranking.winners()],
        "resamples_left_out": s.left_out,
    }


def _site_dict(site: dict[str, Any]) -> dict[str, Any]:
    return {name: site[name] for name in ("layer", "step")}
