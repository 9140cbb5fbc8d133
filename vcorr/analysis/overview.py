"""Summarises a finished run: its settings, its best sites, and how much their ranking depends on the clips."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from vcorr.analysis.stored_scores import RunFacts, load_scores
from vcorr.contract.records import NO_SITE
from vcorr.stats.choice import halves
from vcorr.stats.series import PRIMARY_METRIC, STRATUM_MARK, Series, main_metric, natural, series
from vcorr.stats.stability import Stability, rank_stability
from vcorr.stats.summary import BestSite, Extremes, SiteSummary, best_site, extremes, site_summaries, why_unranked
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
    """The strata of a metric at the best site of one probe, on the clips that were not used to choose the site.

    best: the site, chosen over all pairs. whole: the metric itself. strata: its strata, by the part of the column name
    after the mark.
    """

    variant: str
    best: BestSite
    whole: SiteSummary
    strata: dict[str, SiteSummary]


@dataclass(frozen=True)
class Overview:
    """A run. record: its run.json. metrics: all its metric columns. metric: the column that ranks the sites.
    without_skill: metrics that cannot rank sites, if the run has no others. unranked: why there is no best site.
    """

    facts: RunFacts
    record: Mapping[str, Any]
    metrics: tuple[str, ...]
    metric: str
    best: tuple[BestSite, ...]
    rankings: tuple[Ranking, ...]
    strata: tuple[StrataOf, ...]
    without_skill: tuple[Extremes, ...] = ()
    unranked: str = ""


def overview(run: RunDirectory) -> Overview:
    """Reads a run and summarises it.

    Raises:
        StoreError: it is damaged or has no scores.
    """
    stored = load_scores(run, lambda name: name.split(STRATUM_MARK)[0] == PRIMARY_METRIC)
    if PRIMARY_METRIC not in stored.metrics:
        stored = load_scores(run, lambda name: True)
    metric = main_metric(stored.scores)
    parts = [part for s in series(stored.scores, metric=metric) for part in s.by_heads().values()]
    best = [found for part in parts if (found := best_site(part)) is not None]
    return Overview(
        facts=stored.facts,
        record=run.record(),
        metrics=tuple(sorted(stored.metrics)),
        metric=metric,
        best=tuple(best),
        rankings=tuple(_rankings(parts, best)),
        strata=tuple(_strata(series(stored.scores), best)),
        without_skill=tuple(extremes(stored.scores)) if not best else (),
        unranked="" if best else why_unranked(stored.scores),
    )


def _rankings(parts: Sequence[Series], best: Sequence[BestSite]) -> Iterator[Ranking]:
    for found in best:
        if found.heads == "mean":
            part = next(p for p in parts if p.key == found.key and p.sites[0]["head"] < 0)
            yield from _rankings_of(part, found)


def _strata(found: Sequence[Series], best: Sequence[BestSite]) -> Iterator[StrataOf]:
    for chosen in best:
        mark = chosen.summary.metric + STRATUM_MARK
        of_probe = [s for s in found if {**s.key, "metric": chosen.summary.metric} == chosen.key]
        strata = {s.key["metric"].removeprefix(mark): s for s in of_probe if s.key["metric"].startswith(mark)}
        if chosen.heads == "mean" and strata:
            at_site = {name: _at_site(strata[name], chosen) for name in sorted(strata, key=natural)}
            yield StrataOf(chosen.summary.variant_text, chosen, chosen.summary, at_site)


def _at_site(s: Series, best: BestSite) -> SiteSummary:
    wanted = (best.summary.layer, best.summary.step, best.summary.head)
    site = next(i for i, x in enumerate(s.sites) if (x["layer"], x["step"], x["head"]) == wanted)
    clips = [s.clips[i] for i in halves(s.clips)[1]] if best.chosen_on else None
    return site_summaries(s, sites=[site], clips=clips)[0]


def _rankings_of(s: Series, best: BestSite) -> Iterator[Ranking]:
    if best.summary.layer == NO_SITE or np.isnan(s.skill).all():
        return
    at_step = [i for i, site in enumerate(s.sites) if site["step"] == best.summary.step]
    ranked: list[tuple[Ranked, Series]] = [("layers", s.select_sites(at_step))]
    if len(at_step) < len(s.sites):
        ranked.append(("sites", s))
    for name, part in ranked:
        if np.isfinite(part.skill).sum() > 1:
            stability = rank_stability(part.clips, part.score, part.floor, part.ceiling)
            key = {column: part.key[column] for column in ("probe", "metric")}
            yield Ranking(
                **key,
                variant=part.variant_text,
                ranked=name,
                step=best.summary.step,
                sites=part.sites,
                stability=stability,
            )
