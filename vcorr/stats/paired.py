"""Compares two series on the same clips: chooses a site for each and measures their difference (docs/statistics.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.records import HEAD_MEAN
from vcorr.stats.choice import MIN_CLIPS_FOR_HALVES, choose_sites
from vcorr.stats.intervals import Bounded, Floats, Interval, compare_means, compare_skills, skill
from vcorr.stats.series import Series, heads_of
from vcorr.stats.sites import SiteId

MIN_CLIPS = 2
"""Least number of clips for a comparison; fewer say nothing about other clips."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    layer, step, head: the site; -1 where they do not apply.
    value, skill: means over the clips of the comparison.
    chosen_on: number of clips that chose the site; 0 if the site was given or is the only one.
    candidates: number of sites to choose from.
    regret: how much better the best choice in hindsight would be on the other half of the clips; 0 for a site that is
    the only one, NaN for a given site.
    """

    run: str
    model: str
    weights: str
    probe: str
    layer: int
    layer_name: str
    step: int
    noise: float
    head: int
    value: float
    skill: float
    chosen_on: int
    candidates: int
    regret: float

    @property
    def site(self) -> SiteId:
        """The site of this side."""
        return SiteId(self.layer, self.step, self.head)


@dataclass(frozen=True)
class Difference:
    """The difference A - B with its 95 % interval over clips; NaN where there is none."""

    estimate: float
    low: float
    high: float

    @classmethod
    def of(cls, interval: Interval) -> Difference:
        """Returns the difference that an interval of shape () holds."""
        return cls(float(interval.estimate), float(interval.low), float(interval.high))


@dataclass(frozen=True)
class PairedRow:
    """A and B compared by one metric and variant, on the same clips.

    variant: the variant with its flipped switches, if any.
    heads: the kind of sites to choose from, "mean" or "single", or "given".
    difference: difference of the values. skill_difference: difference of the skills.
    clips: number of clips where both sides have a score. not_scored: number of other clips.
    """

    metric: str
    variant: str
    heads: str
    a: Side
    b: Side
    difference: Difference
    skill_difference: Difference
    clips: int
    not_scored: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, with None for NaN."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        return plain


@dataclass(frozen=True)
class Candidates:
    """The input of one side: the series to report, the series that chooses its site, and the site if it was given.

    The two series differ only for strata: a metric in one stratum is reported at the site that is best over all pairs.
    """

    reported: Series
    chosen_by: Series
    given: SiteId | None = None

    @property
    def is_open(self) -> bool:
        """Whether a site must be chosen."""
        return self.given is None and len(self.chosen_by.sites) > 1


@dataclass(frozen=True)
class _Pick:
    site: SiteId
    chosen_on: int
    candidates: int
    regret: float


class NothingToChooseBy(Exception):  # noqa: N818  # a signal to the caller, never shown as an error
    """No site has skill on the clips that choose; the message says why."""


def pair(a: Candidates, b: Candidates, clips: Sequence[str], heads: str) -> PairedRow:
    """Compares two series on the clips that both have.

    If a site must be chosen, every other clip chooses and the remaining clips report. Else all clips report.

    Args:
        a: one side.
        b: the other side.
        clips: ids of the clips that both series have.
        heads: kind of the sites, for the row.

    Raises:
        UsageError: there are too few clips, or a given site was not recorded.
        NothingToChooseBy: no site has skill to be chosen by.
    """
    ids = sorted(clips)
    choosing = a.is_open or b.is_open
    _check_enough(len(ids), choosing)
    picks = [_pick(side, ids) for side in (a, b)]
    reporting = [ids[i] for i in a.reported.select_clips(ids).halves().second] if choosing else ids
    scores = [_at(side.reported, pick.site, reporting) for side, pick in zip((a, b), picks, strict=True)]
    difference = compare_means(scores[0].score, scores[1].score)
    rising = [_rising(x, a.reported.lower_is_better) for x in scores]
    used = np.isfinite(np.asarray(scores[0].score) + np.asarray(scores[1].score))
    return PairedRow(
        metric=a.reported.key["metric"],
        variant=a.reported.variant_text,
        heads=heads,
        a=_side(a.reported, picks[0], scores[0], used),
        b=_side(b.reported, picks[1], scores[1], used),
        difference=Difference.of(difference),
        skill_difference=Difference.of(compare_skills(rising[0], rising[1])),
        clips=int(difference.n),
        not_scored=int(difference.left_out),
    )


def sides_by_heads(
    a: Series, b: Series, site_a: SiteId | None = None, site_b: SiteId | None = None
) -> dict[str, tuple[Series, Series]]:
    """Groups the two sides by kind of site: means over heads with means over heads, single heads with single heads.

    A side with a single site, such as a baseline, is paired with either kind of the other side. Two given sites are
    paired whatever they are. Returns an empty mapping if the sides have no kind in common.
    """
    if site_a is not None and site_b is not None:
        return {"given": (a, b)}
    lone = len(a.sites) == 1, len(b.sites) == 1
    parts = _kinds(a, site_a), _kinds(b, site_b)
    found: dict[str, tuple[Series, Series]] = {}
    for kind in ("mean",) if all(lone) else ("mean", "single"):
        left, right = (s if alone else part.get(kind) for s, alone, part in zip((a, b), lone, parts, strict=True))
        if left is not None and right is not None:
            found[kind] = (left, right)
    return found


def _kinds(s: Series, given: SiteId | None) -> dict[str, Series]:
    return s.by_heads() if given is None else {heads_of(given.head): s}


def _check_enough(clips: int, choosing: bool) -> None:
    if choosing and clips < MIN_CLIPS_FOR_HALVES:
        raise UsageError(
            f"{_count(clips)} in common, too few to choose sites on one half and compare on the other: at least "
            f"{MIN_CLIPS_FOR_HALVES} are needed.",
            hint="Give the sites, --site-a LAYER:STEP --site-b LAYER:STEP, or run both on more clips (--limit).",
        )
    if clips < MIN_CLIPS:
        raise UsageError(
            f"{_count(clips)} in common: too few to say anything about other clips.",
            hint="Run both on more clips (--limit).",
        )


def _count(clips: int) -> str:
    return f"Only {clips} clip{'' if clips == 1 else 's'}"


def _pick(side: Candidates, clips: Sequence[str]) -> _Pick:
    if side.given is not None:
        _column(side.reported, side.given)
        return _Pick(side.given, 0, 1, math.nan)
    sites = [_site_id(site) for site in side.chosen_by.sites]
    if len(sites) == 1:
        return _Pick(sites[0], 0, 1, 0.0)
    by = side.chosen_by
    choice = choose_sites(by.select_clips(clips))
    site = choice.chosen[0]
    if site is None:
        raise NothingToChooseBy(
            f"no skill to choose a site by: {by.key['metric']} has no floor and ceiling, or they are too close"
        )
    return _Pick(sites[site], choice.chosen_on, len(sites), choice.regret)


def _side(s: Series, pick: _Pick, scores: Bounded, used: NDArray[np.bool_]) -> Side:
    site = s.sites[_column(s, pick.site)]
    value, floor, ceiling = (_mean(np.asarray(part)[used]) for part in scores)
    sign = -1.0 if s.lower_is_better else 1.0
    return Side(
        **{name: s.key[name] for name in ("run", "model", "weights", "probe")},
        **{name: site[name] for name in ("layer", "layer_name", "step", "noise", "head")},
        value=value,
        skill=float(skill(sign * value, sign * floor, sign * ceiling)),
        chosen_on=pick.chosen_on,
        candidates=pick.candidates,
        regret=pick.regret,
    )


def _at(s: Series, site: SiteId, clips: Sequence[str]) -> Bounded:
    rows, column = _lines(s, clips), _column(s, site)
    return Bounded(s.score[rows, column], s.floor[rows, column], s.ceiling[rows, column])


def _rising(scores: Bounded, lower_is_better: bool) -> Bounded:
    return Bounded(*(-np.asarray(part) for part in scores)) if lower_is_better else scores


def _lines(s: Series, clips: Sequence[str]) -> list[int]:
    line = {clip: i for i, clip in enumerate(s.clips)}
    return [line[clip] for clip in clips]


def _column(s: Series, wanted: SiteId) -> int:
    known = [_site_id(site) for site in s.sites]
    if wanted in known:
        return known.index(wanted)
    raise UsageError(
        f"Run {s.key['run']} has no site {wanted} of probe {s.key['probe']}.", hint=f"It recorded {_describe(known)}."
    )


def _describe(sites: Sequence[SiteId]) -> str:
    if all(site.layer < 0 for site in sites):
        return "no sites: it predicts without attention, and nothing has to be chosen"
    axes = {name: sorted({getattr(site, name) for site in sites}) for name in SiteId._fields}
    heads = ["mean" if head == HEAD_MEAN else str(head) for head in axes["head"]]
    return f"layers {_join(axes['layer'])}, steps {_join(axes['step'])}, heads {', '.join(heads)}"


def _join(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _site_id(site: dict[str, Any]) -> SiteId:
    return SiteId(site["layer"], site["step"], site["head"])


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
