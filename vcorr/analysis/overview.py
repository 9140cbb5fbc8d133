"""Summarises a finished run: its settings, its best sites, and how much their ranking depends on the clips."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np

from vcorr.analysis.harmonic_sites import PARTS, HarmonicSite, rank_harmonic_sites
from vcorr.analysis.stored_scores import RunFacts, StoredScores, load_scores
from vcorr.contract.errors import unknown_name
from vcorr.contract.metric_columns import STRATUM_MARK, all_points_of, lower_is_better, primary_of, ranking_columns
from vcorr.contract.records import NO_SITE
from vcorr.metrics.tapvid_metric import JACCARD
from vcorr.runner.stored_tracks import StoredThresholds, find_thresholds
from vcorr.stats.series import Series, main_metric, natural, series
from vcorr.stats.stability import Stability, rank_stability
from vcorr.stats.summary import BestSite, Findings, SiteSummary
from vcorr.store.record import probe_names
from vcorr.store.rundir import RunDirectory

Ranked = Literal["sites", "layers"]


@dataclass(frozen=True)
class Ranking:
    """How stable one ranking is. Only means over heads are ranked.

    ranked: "sites" for every layer at every step, or "layers" for the layers at `step`, the step of the best site.
    sites: the ranked sites, in the order of the arrays of `stability`.
    """

    probe: str
    variant: str
    metric: str
    ranked: Ranked
    step: int
    sites: tuple[dict[str, Any], ...]
    stability: Stability

    @property
    def best(self) -> dict[str, Any]:
        """The best site over all clips."""
        return self.sites[self.stability.best]

    def winners(self) -> list[tuple[dict[str, Any], float]]:
        """Returns the sites that are best in some resample, each with its share of resamples; most frequent first."""
        wins = np.nan_to_num(self.stability.wins)
        return [(self.sites[i], float(wins[i])) for i in np.argsort(-wins, kind="stable") if wins[i] > 0]


@dataclass(frozen=True)
class StrataOf:
    """The strata of a metric at the best site of one probe, each clip at the site that it did not choose.

    best: the site, chosen by the ranking column. whole: the metric over all points, or over moving points. strata: its
    strata, by the part of the column name after the mark.
    """

    variant: str
    best: BestSite
    whole: SiteSummary
    strata: dict[str, SiteSummary]


@dataclass(frozen=True)
class Overview:
    """A run. record: its run.json. metrics: all its metric columns. findings: its best sites by the shown columns.

    thresholds: what other thresholds of visibility give; None for a run without such thresholds, or if the user asked
    for columns that do not depend on them. harmonic: sites by the harmonic mean of accuracy, confidence and attention;
    empty for a run without these scores, or if the user asked for other columns.
    """

    facts: RunFacts
    record: Mapping[str, Any]
    metrics: tuple[str, ...]
    findings: Findings
    rankings: tuple[Ranking, ...]
    strata: tuple[StrataOf, ...]
    thresholds: StoredThresholds | None = None
    harmonic: tuple[HarmonicSite, ...] = ()


def overview(run: RunDirectory, metrics: Sequence[str] = ()) -> Overview:
    """Reads a run and summarises it.

    metrics: columns, or names of metrics, that rank the sites; by default those that the user named for the run, or
    else the main one. The name of a stratum, or a pattern of such names, chooses which strata are shown. The column
    that they divide, over moving points, ranks the sites.

    Raises:
        StoreError: it is damaged or has no scores.
        UsageError: it was not scored by one of `metrics`.
    """
    record = run.record()
    asked = tuple(metrics)
    ranked = tuple(dict.fromkeys(_ranking_column(name, record) for name in asked)) or ranking_columns(record)
    stored = load_scores(run, _select_needed(ranked))
    if not asked and not set(ranked) & stored.metrics:
        ranked = ()
        stored = load_scores(run, lambda name: True)
    _check_stored(asked, ranked, stored)
    lower = lower_is_better(record)
    columns = ranked or (main_metric(stored.scores),)
    parts = [part for s in series(stored.scores, lower=lower) for part in s.by_heads().values()]
    findings = Findings.of(stored.scores, columns, lower, probe_names(record))
    return Overview(
        facts=stored.facts,
        record=record,
        metrics=tuple(sorted(stored.metrics)),
        findings=findings,
        rankings=tuple(_rankings(parts, findings.best)),
        strata=tuple(_strata(series(stored.scores, lower=lower), findings.best, list(filter(_is_stratum, asked)))),
        thresholds=find_thresholds(run) if not asked or JACCARD in asked else None,
        harmonic=rank_harmonic_sites(run) if not asked and stored.metrics.issuperset(PARTS) else (),
    )


def _is_stratum(name: str) -> bool:
    return STRATUM_MARK in name


def _ranking_column(asked: str, record: Mapping[str, Any]) -> str:
    """Returns the column that ranks sites if the user asks for a metric, a column or strata of a column."""
    if not _is_stratum(asked):
        return primary_of(asked, record)
    divided = asked.partition(STRATUM_MARK)[0]
    columns = ((name, all_points_of(name)) for name in ranking_columns(record))
    return next((pair[0] for pair in columns if any(fnmatchcase(name, divided) for name in pair)), divided)


def _select_needed(ranked: Sequence[str]) -> Callable[[str], bool]:
    """Returns a test for the columns to read: the ones that rank sites, all points, and strata; all if none rank."""
    needed = {*ranked, *map(all_points_of, ranked)}
    return lambda name: not ranked or name.split(STRATUM_MARK)[0] in needed


def _pattern_of(column: str) -> str:
    """Returns the pattern that stands for all strata of a column's dimension; the column itself if it is no stratum."""
    return f"{column.rpartition(':')[0]}:*" if _is_stratum(column) else column


def _check_stored(asked: Sequence[str], ranked: Sequence[str], stored: StoredScores) -> None:
    strata = [name for name in asked if _is_stratum(name)]
    missing = [name for name in strata if not any(_is_shown(known, [name]) for known in stored.metrics)]
    missing += [name for name in ranked if name not in stored.metrics]
    for name in missing if asked else ():
        listing = ", ".join(sorted(set(map(_pattern_of, stored.metrics)), key=natural))
        hint = f"It has: {listing}. To add others: vcorr score {shlex.quote(stored.facts.path)} --set metrics=…"
        raise unknown_name("metric of this run", name, stored.metrics, hint=hint)


def _rankings(parts: Sequence[Series], best: Sequence[BestSite]) -> Iterator[Ranking]:
    for found in best:
        if found.heads == "mean":
            part = next(p for p in parts if p.key == found.key and p.sites[0]["head"] < 0)
            yield from _rankings_of(part, found)


def _strata(found: Sequence[Series], best: Sequence[BestSite], shown: Sequence[str]) -> Iterator[StrataOf]:
    """Yields the strata whose columns match a pattern in `shown`; all of them if there is no pattern."""
    for chosen in best:
        of_probe = {s.key["metric"]: s for s in found if {**s.key, "metric": chosen.summary.metric} == chosen.key}
        wholes = [whole for whole in (chosen.all_points, chosen.summary) if whole is not None]
        for whole in wholes if chosen.heads == "mean" else ():
            mark = whole.metric + STRATUM_MARK
            names = [name for name in of_probe if name.startswith(mark) and _is_shown(name, shown)]
            if names:
                at_site = {
                    name.removeprefix(mark): chosen.report(of_probe[name]) for name in sorted(names, key=natural)
                }
                yield StrataOf(chosen.summary.variant_text, chosen, whole, at_site)


def _is_shown(name: str, shown: Sequence[str]) -> bool:
    return not shown or any(fnmatchcase(name, pattern) for pattern in shown)


def _rankings_of(s: Series, best: BestSite) -> Iterator[Ranking]:
    if best.summary.layer == NO_SITE or np.isnan(s.skill).all():
        return
    at_step = [i for i, site in enumerate(s.sites) if site["step"] == best.summary.step]
    ranked: list[tuple[Ranked, Series]] = [("layers", s.select_sites(at_step))]
    if len(at_step) < len(s.sites):
        ranked.append(("sites", s))
    for name, part in ranked:
        if np.isfinite(part.skill).sum() > 1:
            stability = rank_stability(part.halves(), *part.rising)
            key = {column: part.key[column] for column in ("probe", "metric")}
            yield Ranking(
                **key,
                variant=part.variant_text,
                ranked=name,
                step=best.summary.step,
                sites=part.sites,
                stability=stability,
            )
