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

from vcorr.contract.metric_columns import (
    CONFIDENCE_COLUMNS,
    REDETECTION_COLUMN,
    STRATUM_MARK,
    TRACKING_COLUMNS,
    all_points_of,
)
from vcorr.contract.records import NO_SITE
from vcorr.contract.variants import NamedVariant
from vcorr.stats.choice import CrossFit, choose_sites
from vcorr.stats.intervals import (
    SKILL_MIN_RANGE,
    Bounded,
    Interval,
    gain_interval,
    mean_interval,
    no_interval_reason,
    skill_interval,
)
from vcorr.stats.series import (
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
    """One site over the clips of its run, or a cross-fitted choice of sites (`BestSite.summary`).

    value, floor, ceiling: means over clips. skill, gain: ratios of these means; NaN without floor and ceiling, and
    where their denominator is under 0.02. gain = (value - floor) / (1 - floor), for accuracies alone.
    *_low, *_high: ends of the 95 % intervals by Student's t over clips; NaN where there is no interval.
    no_interval, no_skill_interval, no_gain_interval: why there is none, in words; "" if there is one.
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
    gain: float
    gain_low: float
    gain_high: float
    clips: int
    not_scored: int
    failed: int
    no_interval: str = ""
    no_skill_interval: str = ""
    no_gain_interval: str = ""

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
class ReportedSite:
    """A chosen site, and the clips that are reported at it. They did not choose it, unless no clips are held out.

    clips: ids of the clips, scored or not.
    """

    layer: int
    layer_name: str
    step: int
    noise: float
    head: int
    clips: tuple[str, ...]

    @property
    def site(self) -> str:
        """The site as people write it, LAYER:STEP or LAYER:STEP:HEAD; "" without a layer and a step."""
        return "" if self.layer == self.step == NO_SITE else str(SiteId(self.layer, self.step, self.head))

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, with None for NaN and the number of clips in place of their ids."""
        plain = {**asdict(self), "noise": None if math.isnan(self.noise) else self.noise, "clips": len(self.clips)}
        return {"site": self.site, **plain}


@dataclass(frozen=True)
class BestSite:
    """The best site of one run, probe and metric, by a cross-fitted choice (`CrossFit`).

    summary: all clips together, each at the site that it did not choose. Its layer, step and head are the first of
    `sites`.
    regret: how much more skill the clips have at the sites that all other clips choose (`CrossFit.regret`). It can be
    slightly negative by luck. 0 for a single site; NaN if no clips are held out.
    chosen_on: number of clips of the smaller half; 0 if there were too few clips for two halves, so that the same clips
    choose and report.
    candidates: number of sites to choose from. The more there are, the more luck is in the value of the best one on the
    clips that chose.
    sites: the chosen site, or both if the halves chose different ones; the better one over all clips comes first.
    all_points: for a metric of moving points, its column of all points at the same sites; None if there is none.
    notes: sentences on the choice that a reader must know, such as ties, too few clips, or sites left out.
    fit: the choice itself.
    """

    key: dict[str, Any]
    summary: SiteSummary
    regret: float
    chosen_on: int
    candidates: int
    sites: tuple[ReportedSite, ...]
    fit: CrossFit = field(repr=False, compare=False)
    all_points: SiteSummary | None = None
    notes: tuple[str, ...] = ()

    @property
    def heads(self) -> Heads:
        """Whether the site is the mean over heads or a single head."""
        return heads_of(self.summary.head)

    @property
    def site(self) -> str:
        """The site, or both sites, as people write them; "" without a layer and a step."""
        return ", ".join(site.site for site in self.sites)

    def report(self, s: Series) -> SiteSummary:
        """Returns another series of the same run at the same sites, each clip at the site that it did not choose.

        Nothing is chosen again, so all columns of a row belong to one choice. Clips and sites that the series lacks
        are NaN.

        Args:
            s: another metric, threshold or stratum of the same run.
        """
        return _summarise_pooled(s, self.fit, self.sites[0])

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, with None for NaN."""
        return {
            **self.summary.to_dict(),
            "regret": None if math.isnan(self.regret) else self.regret,
            "chosen_on": self.chosen_on,
            "candidates": self.candidates,
            "heads": self.heads,
            "sites": [site.to_dict() for site in self.sites],
            "all_points": None if self.all_points is None else self.all_points.to_dict(),
            "notes": list(self.notes),
        }


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
    any row. notes: sentences on the columns, such as a column of moving points that all points replace.
    """

    metrics: tuple[str, ...]
    best: tuple[BestSite, ...]
    without_skill: tuple[Extremes, ...]
    unranked: tuple[Unranked, ...]
    unscored: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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
        still = {metric: all_points_of(metric) for metric in columns if _has_no_motion(parts, metric)}
        shown = tuple(dict.fromkeys(still.get(metric, metric) for metric in columns))
        ranked = [part for column in shown for part in parts if part.key["metric"] == column]
        best = [best_site(part, find_all_points(part, parts)) for part in ranked if not has_no_bounds(part)]
        scored = {part.key["probe"] for part in parts} | scores.probes
        return cls(
            metrics=shown,
            best=tuple(found for found in best if found is not None),
            without_skill=tuple(find_extremes(parts)),
            unranked=tuple(find_unranked([part for part in parts if part.key["metric"] not in still], shown)),
            unscored=scores.unscored,
            unread=tuple(probe for probe in probes if parts and probe not in scored),
            absent=tuple(metric for metric in metrics if parts and metric not in there),
            notes=tuple(
                f"No clip has a point that moves, so {everything} stands in place of {moving}."
                for moving, everything in still.items()
            ),
        )


def _has_no_motion(parts: Sequence[Series], metric: str) -> bool:
    """Returns whether a column of moving points has no score anywhere, and its column of all points has one."""
    scored = dict.fromkeys((metric, all_points_of(metric)), False)
    for part in parts:
        if part.key["metric"] in scored:
            scored[part.key["metric"]] |= count_scored(part) > 0
    return not scored[metric] and scored[all_points_of(metric)]


def find_all_points(s: Series, parts: Sequence[Series]) -> Series | None:
    """Returns the series of all points that belongs to a series of moving points; None if `parts` has none.

    s: a series of one kind of heads. parts: series of one kind of heads each.
    """
    wanted = {**s.key, "metric": all_points_of(s.key["metric"])}
    same = (part for part in parts if part.key == wanted)
    return next((part for part in same if heads_of(part.sites[0]["head"]) == heads_of(s.sites[0]["head"])), None)


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
    chosen = set(s.clips if clips is None else clips)
    rows = [i for i, clip in enumerate(s.clips) if clip in chosen]
    scores = Bounded(*(array[np.ix_(rows, columns)] for array in (s.score, s.floor, s.ceiling)))
    return _summaries(s, scores, [s.sites[column] for column in columns])


def _summaries(s: Series, scores: Bounded, sites: Sequence[Mapping[str, Any]]) -> list[SiteSummary]:
    """Returns a summary per column of `scores`, (clips, sites) each."""
    score, floor, ceiling = (np.asarray(part, dtype=np.float64) for part in scores)
    sign = -1.0 if s.lower_is_better else 1.0
    values = mean_interval(score)
    skills = skill_interval(sign * score, sign * floor, sign * ceiling)
    gains = gain_interval(score, np.full_like(floor, np.nan) if s.lower_is_better else floor)
    used = np.isfinite(score)
    floors, ceilings = mean_where(floor, used), mean_where(ceiling, used)
    return [
        SiteSummary(
            **{name: s.key[name] for name in ("model", "weights", "probe", "metric", "variant")},
            switches=s.key.get("switches") or "",
            **{name: site[name] for name in _SITE_FIELDS},
            **_ends("value", values, i),
            floor=float(floors[i]),
            ceiling=float(ceilings[i]),
            **_ends("skill", skills, i),
            **_ends("gain", gains, i),
            clips=int(values.n[i]),
            not_scored=int(values.left_out[i]),
            failed=s.failed,
            no_interval=no_interval_reason(values, i),
            no_skill_interval=_why_none(skills, values, i),
            no_gain_interval=_why_none(gains, values, i),
        )
        for i, site in enumerate(sites)
    ]


_SITE_FIELDS = ("layer", "layer_name", "step", "noise", "head")


def _ends(name: str, interval: Interval, i: int) -> dict[str, Any]:
    fields = {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return {field: float(values[i]) for field, values in fields.items()}


def _why_none(ratio: Interval, values: Interval, i: int) -> str:
    """Returns why a ratio has no interval; "" if it has one."""
    if values.n[i] and not ratio.n[i]:
        return "the metric has no floor and ceiling"
    return no_interval_reason(ratio, i)


def _summarise_pooled(s: Series, fit: CrossFit, site: ReportedSite) -> SiteSummary:
    pooled = Bounded(*(np.asarray(part)[:, None] for part in fit.report(s)))
    return _summaries(s, pooled, [{name: getattr(site, name) for name in _SITE_FIELDS}])[0]


def best_sites(scores: pa.Table | Scores, *, metric: str | None = None, lower: Collection[str] = ()) -> list[BestSite]:
    """Returns the best site of every run and probe by one metric (None for the main metric).

    Sites are chosen on each half of the clips and reported on the other. If single heads were recorded, the best mean
    over heads comes first and the best single head after it. The two are never mixed, since the best of hundreds of
    heads is another claim than the best of a few layers.
    """
    shown = metric or main_metric(scores)
    needed = [s for name in (shown, all_points_of(shown)) if name for s in series(scores, metric=name, lower=lower)]
    parts = [part for s in needed for part in s.by_heads().values()]
    bests = [best_site(part, find_all_points(part, parts)) for part in parts if part.key["metric"] == shown]
    return [best for best in bests if best is not None]


def best_site(s: Series, all_points: Series | None = None) -> BestSite | None:
    """Returns the best site of one series; None if no half can choose one. A single site is reported on all clips.

    all_points: for a metric of moving points, the series of all points, which is reported at the same sites.
    """
    fit = choose_sites(s)
    if fit.is_empty:
        return None
    sites = tuple(list_sites(s, fit))
    return BestSite(
        key=s.key,
        summary=_summarise_pooled(s, fit, sites[0]),
        regret=fit.regret,
        chosen_on=fit.chosen_on,
        candidates=fit.candidates,
        sites=sites,
        fit=fit,
        all_points=None if all_points is None else _summarise_pooled(all_points, fit, sites[0]),
        notes=fit.notes,
    )


def list_sites(s: Series, fit: CrossFit) -> list[ReportedSite]:
    """Returns the chosen sites, the better one over all clips first."""
    chosen = sorted({site for site in fit.chosen if site is not None})
    skills = np.nan_to_num(s.select_sites(chosen).skill, nan=-np.inf)
    return [
        ReportedSite(
            **{name: s.sites[chosen[i]][name] for name in _SITE_FIELDS},
            clips=tuple(clip for clip, site in zip(fit.clips, fit.reports, strict=True) if site == chosen[i]),
        )
        for i in np.argsort(-skills, kind="stable")
    ]


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
        if s.key["metric"] in CONFIDENCE_COLUMNS:
            return "could not be scored: the tracks have no confidence, or no clip has a pair that counts"
        if s.key["metric"] == REDETECTION_COLUMN:
            return "could not be scored: no point of any clip is visible again after an occlusion"
        moving = " that moves" if all_points_of(s.key["metric"]) else ""
        return f"could not be scored: no clip has a pair of a visible point{moving} and a frame that counts"
    if np.isfinite(s.skill).any():
        return "no site has a skill on both halves of the clips: each half chooses, and the other reports"
    used = np.isfinite(s.score) & np.isfinite(s.ceiling)
    floor, ceiling = (float(part[used].mean()) for part in (s.floor, s.ceiling))
    still = "The points hardly move, so no score can show whether a prediction follows a motion"
    if s.key["metric"] == TRACKING_COLUMNS[-1]:
        still = "The points are hardly ever hidden, so no score can show whether a prediction knows it"
    return (
        f"no site has a skill: standing still scores {floor:.3f} and the best prediction {ceiling:.3f}, a difference "
        f"under {SKILL_MIN_RANGE:g}. {still}"
    )


def has_no_bounds(s: Series) -> bool:
    """Returns whether the metric of a series was scored but has no floors and ceilings, and so never a skill."""
    return bool(np.isnan(s.ceiling).all() and not np.isnan(s.score).all())


def count_scored(s: Series) -> int:
    """Counts the clips with a score at one site at least."""
    return int(np.isfinite(s.score).any(axis=1).sum())


def find_extremes(parts: Sequence[Series]) -> list[Extremes]:
    """Returns the extremes of every series whose metric has no ceilings, without series that were never scored.

    Strata are left out: they are shown with the other strata. parts: series of one kind of heads each.
    """
    return [_extremes(s) for s in parts if has_no_bounds(s) and STRATUM_MARK not in s.key["metric"]]


def _extremes(s: Series) -> Extremes:
    means = mean_where(s.score, np.isfinite(s.score))
    largest, smallest = site_summaries(s, sites=[int(np.nanargmax(means)), int(np.nanargmin(means))])
    return Extremes(largest, smallest, len(s.sites), s.lower_is_better)
