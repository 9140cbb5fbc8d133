"""Summaries of score tables: one per site, and the best site of every probe.

Everything here starts from rows of the `scores` table (docs/results-format.md), of one run or of many.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from vcorr.contract.records import NO_SITE
from vcorr.contract.variants import NamedVariant
from vcorr.stats.bootstrap import SKILL_MIN_RANGE, bootstrap_mean, bootstrap_skill
from vcorr.stats.choice import Choice, choose_and_report
from vcorr.stats.series import (
    STRATUM_MARK,
    Heads,
    Scores,
    Series,
    gather,
    heads_of,
    main_metric,
    mean_where,
    series,
)
from vcorr.stats.sites import SiteId


@dataclass(frozen=True)
class SiteSummary:
    """One site over the clips of its run. Values are means over clips, with 95 % bootstrap intervals over clips.

    clips: number of clips that count. not_scored: number of clips left out as NaN. failed: number of clips that could
    not be run. switches: the switches that differ from the variant (docs/switches.md); "" for none.
    """

    model: str
    weights: str
    probe: str
    metric: str
    variant: str
    switches: str
    layer: int
    layer_name: str
    step: int
    noise: float
    head: int
    value: float
    value_low: float
    value_high: float
    floor: float
    ceiling: float
    skill: float
    skill_low: float
    skill_high: float
    clips: int
    not_scored: int
    failed: int

    @property
    def variant_text(self) -> str:
        """The variant with its flipped switches, in the form of `--set variant=`."""
        return NamedVariant(self.variant, self.switches).text

    @property
    def site(self) -> str:
        """The site as people write it, LAYER:STEP or LAYER:STEP:HEAD; "" without a layer and a step."""
        return "" if self.layer == self.step == NO_SITE else str(SiteId(self.layer, self.step, self.head))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, with None for NaN."""
        plain = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}
        return {**plain, "site": self.site}


@dataclass(frozen=True)
class BestSite:
    """The best site of one run, probe and metric.

    summary: the chosen site, on the clips that report it.
    regret: how much more skill the best choice in hindsight has on these clips.
    chosen_on: number of clips that chose the site; 0 if there were too few clips for two halves, so that the same clips
    choose and report.
    candidates: number of sites to choose from. The more there are, the more luck is in the value of the best one on the
    clips that chose.
    """

    key: dict[str, Any]
    summary: SiteSummary
    regret: float
    chosen_on: int
    candidates: int

    @property
    def heads(self) -> Heads:
        """Whether the site is the mean over heads or a single head."""
        return heads_of(self.summary.head)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, with None for NaN."""
        return {
            **self.summary.to_dict(),
            "regret": None if math.isnan(self.regret) else self.regret,
            "chosen_on": self.chosen_on,
            "candidates": self.candidates,
            "heads": self.heads,
        }


MIN_CLIPS_FOR_HALVES = 4


@dataclass(frozen=True)
class Extremes:
    """The sites where a metric without floors and ceilings is largest and smallest, by means over all clips.

    Without skill no site can be chosen, so no clips are held out. These sites describe the run; they are not a result.
    """

    largest: SiteSummary
    smallest: SiteSummary
    sites: int
    lower_is_better: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {
            "largest": self.largest.to_dict(),
            "smallest": self.smallest.to_dict(),
            "sites": self.sites,
            "lower_is_better": self.lower_is_better,
        }


@dataclass(frozen=True)
class Unranked:
    """A probe that has no best site, or a best site without skill, by one metric.

    key: as in `Series.key`. heads: the kind of sites. clips: number of clips with a score. reason: a sentence.
    """

    key: dict[str, Any]
    heads: Heads
    clips: int
    reason: str

    @property
    def variant_text(self) -> str:
        """The variant with its flipped switches, in the form of `--set variant=`."""
        return NamedVariant(self.key["variant"], self.key.get("switches") or "").text

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        names = ("model", "weights", "probe", "metric", "variant", "switches")
        told = {"heads": self.heads, "clips": self.clips, "reason": self.reason}
        return {**{name: self.key.get(name) or "" for name in names}, **told}


@dataclass(frozen=True)
class Findings:
    """The main findings of a scores table.

    metrics: the columns that sites are ranked by, in the order of the tables. best: see `best_sites`.
    without_skill: see `find_extremes`. unranked: see `find_unranked`. unscored: clips that did not fail and have no
    score, each with its reason. unread: probes of which no metric scored a prediction. absent: ranking columns without
    any row.
    """

    metrics: tuple[str, ...]
    best: tuple[BestSite, ...]
    without_skill: tuple[Extremes, ...]
    unranked: tuple[Unranked, ...]
    unscored: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        scores: pa.Table | Scores,
        metrics: Sequence[str] = (),
        lower: Collection[str] = (),
        probes: Collection[str] = (),
    ) -> Findings:
        """Returns the findings of scores by these columns; by default by the main metric alone.

        lower: the columns in which a lower value is better. probes: the probes of the run.
        """
        scores = gather([scores]) if isinstance(scores, pa.Table) else scores
        there = scores.metrics
        columns = tuple(metric for metric in metrics if metric in there) or (main_metric(scores),)
        parts = [part for s in series(scores, lower=lower) for part in s.by_heads().values()]
        ranked = [part for column in columns for part in parts if part.key["metric"] == column]
        best = [best for part in ranked if not has_no_bounds(part) and (best := best_site(part)) is not None]
        scored = {part.key["probe"] for part in parts}
        return cls(
            columns,
            tuple(best),
            tuple(find_extremes(parts)),
            tuple(find_unranked(parts, columns)),
            scores.unscored,
            tuple(probe for probe in probes if parts and probe not in scored),
            tuple(metric for metric in metrics if parts and metric not in there),
        )


def summarise(
    scores: pa.Table | Scores, *, metric: str | None = None, lower: Collection[str] = ()
) -> list[SiteSummary]:
    """Returns a summary of every site, for one metric; None for the main metric.

    lower: the columns in which a lower value is better.
    """
    shown = metric or main_metric(scores)
    return [summary for s in series(scores, metric=shown, lower=lower) for summary in site_summaries(s)]


def summarise_each(scores: pa.Table | Scores, metrics: Sequence[str], lower: Collection[str] = ()) -> list[SiteSummary]:
    """Returns a summary of every site for each of these columns, in their order; see `summarise`."""
    return [site for metric in metrics for site in summarise(scores, metric=metric, lower=lower)]


def site_summaries(
    s: Series, *, sites: Sequence[int] | None = None, clips: Sequence[str] | None = None
) -> list[SiteSummary]:
    """Returns summaries of the sites (indices; None for all) of one series, over some clips (ids; None for all)."""
    columns = list(range(len(s.sites))) if sites is None else list(sites)
    rows = [i for i, clip in enumerate(s.clips) if clips is None or clip in set(clips)]
    score, floor, ceiling = (array[np.ix_(rows, columns)] for array in (s.score, s.floor, s.ceiling))
    values = bootstrap_mean(score)
    skills = bootstrap_skill(*(array[np.ix_(rows, columns)] for array in s.rising))
    used = np.isfinite(score)
    floors, ceilings = mean_where(floor, used), mean_where(ceiling, used)
    return [
        SiteSummary(
            model=s.key["model"],
            weights=s.key["weights"],
            probe=s.key["probe"],
            metric=s.key["metric"],
            variant=s.key["variant"],
            switches=s.key.get("switches") or "",
            **{k: s.sites[site][k] for k in ("layer", "layer_name", "step", "noise", "head")},
            value=float(values.estimate[i]),
            value_low=float(values.low[i]),
            value_high=float(values.high[i]),
            floor=float(floors[i]),
            ceiling=float(ceilings[i]),
            skill=float(skills.estimate[i]),
            skill_low=float(skills.low[i]),
            skill_high=float(skills.high[i]),
            clips=int(values.n[i]),
            not_scored=int(values.left_out[i]),
            failed=s.failed,
        )
        for i, site in enumerate(columns)
    ]


def best_sites(scores: pa.Table | Scores, *, metric: str | None = None, lower: Collection[str] = ()) -> list[BestSite]:
    """Returns the best site of every run and probe by one metric (None for the main metric).

    A site is chosen on one half of the clips and reported on the other. If single heads were recorded, the best mean
    over heads comes first and the best single head after it. The two are never mixed, since the best of hundreds of
    heads is another claim than the best of a few layers.
    """
    found = series(scores, metric=metric or main_metric(scores), lower=lower)
    bests = [best_site(part) for s in found for part in s.by_heads().values()]
    return [best for best in bests if best is not None]


def best_site(s: Series) -> BestSite | None:
    """Returns the best site of one series; None if nothing was scored. A single site is reported on all clips."""
    if len(s.sites) == 1:
        return BestSite(s.key, site_summaries(s)[0], 0.0, 0, 1)
    if len(s.clips) >= MIN_CLIPS_FOR_HALVES:
        return _choose_on_half(s)
    values = s.skill
    if np.isnan(values).all():
        return None
    return BestSite(s.key, site_summaries(s, sites=[int(np.nanargmax(values))])[0], math.nan, 0, len(s.sites))


def find_unranked(parts: Sequence[Series], ranked: Sequence[str]) -> list[Unranked]:
    """Returns every series without a skill, with the reason: of the columns in `ranked`, and of all that are empty.

    parts: series of one kind of heads each. Metrics without floors and ceilings have no skill by their nature
    (`find_extremes`). Strata are left out, unless they are in `ranked`: many have no pairs.
    """
    return [
        Unranked(s.key, heads_of(s.sites[0]["head"]), count_scored(s), reason)
        for s in parts
        if s.key["metric"] in ranked or (np.isnan(s.score).all() and STRATUM_MARK not in s.key["metric"])
        if (reason := why_unranked(s))
    ]


def why_unranked(s: Series) -> str:
    """Returns why the sites of a series have no skill; "" if they have one, or if the metric has none by its nature."""
    best = best_site(s)
    if (best is not None and not math.isnan(best.summary.skill)) or has_no_bounds(s):
        return ""
    if np.isnan(s.score).all():
        return "could not be scored: no clip has a pair of a visible point and a frame that counts"
    if np.isfinite(s.skill).any():
        return "no site has a skill on both halves of the clips: one half chooses, the other reports"
    used = np.isfinite(s.score) & np.isfinite(s.ceiling)
    floor, ceiling = (float(part[used].mean()) for part in (s.floor, s.ceiling))
    return (
        f"no site has a skill: standing still scores {floor:.3f} and the best prediction {ceiling:.3f}, a difference "
        f"under {SKILL_MIN_RANGE:g}. The points hardly move, so no score can show whether a prediction follows a motion"
    )


def has_no_bounds(s: Series) -> bool:
    """Returns whether the metric of a series was scored but has no floors and ceilings, and so never a skill."""
    return bool(np.isnan(s.ceiling).all() and not np.isnan(s.score).all())


def count_scored(s: Series) -> int:
    """Counts the clips with a score at one site at least."""
    return int(np.isfinite(s.score).any(axis=1).sum())


def find_extremes(parts: Sequence[Series]) -> list[Extremes]:
    """Returns the extremes of every series whose metric has no ceilings, without series that were never scored.

    parts: series of one kind of heads each.
    """
    return [_extremes(s) for s in parts if has_no_bounds(s)]


def _extremes(s: Series) -> Extremes:
    means = mean_where(s.score, np.isfinite(s.score))
    largest, smallest = site_summaries(s, sites=[int(np.nanargmax(means)), int(np.nanargmin(means))])
    return Extremes(largest, smallest, len(s.sites), s.lower_is_better)


def _choose_on_half(s: Series) -> BestSite | None:
    score, floor, ceiling = s.rising
    choice: Choice = choose_and_report(s.clips, score, floor=floor, ceiling=ceiling)
    if choice.site is None:
        return None
    summary = site_summaries(s, sites=[choice.site], clips=choice.reported_on)[0]
    return BestSite(s.key, summary, choice.regret, len(choice.chosen_on), len(s.sites))
