"""Summaries of score tables: one per site, and the best site of every probe.

Everything here starts from rows of the `scores` table (docs/results-format.md), of one run or of many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from vcorr.contract.variants import NamedVariant
from vcorr.stats.bootstrap import SKILL_MIN_RANGE, bootstrap_mean, bootstrap_skill
from vcorr.stats.choice import Choice, choose_and_report
from vcorr.stats.series import Heads, Series, heads_of, main_metric, mean_where, series


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

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, with None for NaN."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}


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

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON."""
        return {"largest": self.largest.to_dict(), "smallest": self.smallest.to_dict(), "sites": self.sites}


@dataclass(frozen=True)
class Findings:
    """The main findings of a scores table.

    best: see `best_sites`. without_skill: see `extremes`. unranked: see `why_unranked`.
    """

    best: tuple[BestSite, ...]
    without_skill: tuple[Extremes, ...]
    unranked: str

    @classmethod
    def of(cls, scores: pa.Table) -> Findings:
        """Returns the findings of a scores table."""
        best = tuple(best_sites(scores))
        return cls(best, tuple(extremes(scores)), "" if best else why_unranked(scores))


def summarise(scores: pa.Table, *, metric: str | None = None) -> list[SiteSummary]:
    """Returns a summary of every site of a scores table, for one metric; None for the main metric."""
    shown = metric or main_metric(scores)
    return [summary for s in series(scores, metric=shown) for summary in site_summaries(s)]


def site_summaries(
    s: Series, *, sites: Sequence[int] | None = None, clips: Sequence[str] | None = None
) -> list[SiteSummary]:
    """Returns summaries of the sites (indices; None for all) of one series, over some clips (ids; None for all)."""
    columns = list(range(len(s.sites))) if sites is None else list(sites)
    rows = [i for i, clip in enumerate(s.clips) if clips is None or clip in set(clips)]
    score, floor, ceiling = (array[np.ix_(rows, columns)] for array in (s.score, s.floor, s.ceiling))
    values = bootstrap_mean(score)
    skills = bootstrap_skill(score, floor, ceiling)
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


def best_sites(scores: pa.Table, *, metric: str | None = None) -> list[BestSite]:
    """Returns the best site of every run and probe by one metric (None for the main metric).

    A site is chosen on one half of the clips and reported on the other. If single heads were recorded, the best mean
    over heads comes first and the best single head after it. The two are never mixed, since the best of hundreds of
    heads is another claim than the best of a few layers.
    """
    found = series(scores, metric=metric or main_metric(scores))
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


def why_unranked(scores: pa.Table) -> str:
    """Returns why a table has no best site by the main metric.

    Returns "" if the metric has no ceilings, and so no skill, or if there are no scores at all.
    """
    metric = main_metric(scores)
    found = series(scores, metric=metric)
    if found and all(np.isnan(s.score).all() for s in found):
        return f"{metric} could not be scored: no clip has a pair of a point and a frame that counts."
    bounds = [(x.floor, x.ceiling) for s in found for x in site_summaries(s, sites=[0]) if not math.isnan(x.ceiling)]
    if not bounds:
        return ""
    floor, ceiling = bounds[0]
    return (
        f"No site has a skill by {metric}: standing still scores {floor:.3f} and the best prediction {ceiling:.3f}, a "
        f"difference under {SKILL_MIN_RANGE:g}. The points hardly move, so no score can show whether a prediction "
        "follows a motion."
    )


def extremes(scores: pa.Table) -> list[Extremes]:
    """Returns the extremes of every series whose metric has no ceilings, without series that were never scored."""
    return [_extremes(s) for s in series(scores) if np.isnan(s.ceiling).all() and not np.isnan(s.score).all()]


def _extremes(s: Series) -> Extremes:
    means = mean_where(s.score, np.isfinite(s.score))
    largest, smallest = site_summaries(s, sites=[int(np.nanargmax(means)), int(np.nanargmin(means))])
    return Extremes(largest, smallest, len(s.sites))


def _choose_on_half(s: Series) -> BestSite | None:
    choice: Choice = choose_and_report(s.clips, s.score, floor=s.floor, ceiling=s.ceiling)
    if choice.site is None:
        return None
    summary = site_summaries(s, sites=[choice.site], clips=choice.reported_on)[0]
    return BestSite(s.key, summary, choice.regret, len(choice.chosen_on), len(s.sites))
