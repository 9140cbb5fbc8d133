"""Compares two series on the same clips: chooses sites for each and tests their difference (docs/statistics.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from vcorr.contract.errors import UsageError
from vcorr.contract.noun_counts import say_count
from vcorr.contract.records import HEAD_MEAN
from vcorr.stats.choice import MIN_CLIPS_FOR_HALVES, CrossFit, cross_fit
from vcorr.stats.halves import Halves, split_clips
from vcorr.stats.intervals import (
    Bounded,
    Floats,
    Interval,
    compare_gains,
    compare_means,
    compare_skills,
    gain,
    gain_differences,
    no_interval_reason,
    skill,
    skill_differences,
)
from vcorr.stats.series import Series, heads_of, join_clip_facts
from vcorr.stats.sign_flips import SIGNIFICANT, holm, sign_flip_test, smallest_p
from vcorr.stats.sites import SiteId
from vcorr.stats.summary import ReportedSite, list_sites

MIN_CLIPS = 2
"""Least number of clips for a comparison; fewer say nothing about other clips."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    sites: the sites with the clips that are reported at them; two if the halves of the clips chose different ones.
    value, gain, skill: of the means over the clips of the comparison; NaN where the metric has no floor, or no skill.
    chosen_by: the column that chose the sites, "" if the site was given or is the only one.
    chosen_on: number of clips of the smaller half that chose; 0 if nothing was chosen.
    candidates: number of sites to choose from.
    regret: how much skill the cross-fitted choice gives away (`CrossFit.regret`), in the column that chose; 0 for a
    site that is the only one, NaN for a given site.
    all_tied: whether all candidates are equally good, so that the first one is shown without being better.
    """

    run: str
    model: str
    weights: str
    probe: str
    sites: tuple[ReportedSite, ...]
    value: float
    gain: float
    skill: float
    chosen_by: str
    chosen_on: int
    candidates: int
    regret: float
    all_tied: bool


@dataclass(frozen=True)
class Difference:
    """A difference A - B over clips.

    estimate: the difference; NaN if one side has no number.
    low, high: ends of its 95 % interval, which describes; NaN where there is none. no_interval: why, in words.
    p: p-value of the sign-flip test, which decides; NaN if there is no difference. p_holm: p corrected for the family.
    """

    estimate: float
    low: float
    high: float
    no_interval: str
    p: float
    p_holm: float

    @property
    def is_significant(self) -> bool:
        """Whether the test says that A and B differ."""
        return self.p_holm <= SIGNIFICANT

    @classmethod
    def of(cls, interval: Interval, per_clip: Floats) -> Difference:
        """Returns the difference that an interval of shape () holds, tested by differences per clip, (clips,)."""
        estimate = float(interval.estimate)
        p = math.nan if math.isnan(estimate) else float(sign_flip_test(per_clip))
        reason = no_interval_reason(interval) if interval.n else "the metric has no floor and no ceiling"
        return cls(estimate, float(interval.low), float(interval.high), reason, p, p)


@dataclass(frozen=True)
class PairedRow:
    """A and B compared by one metric and variant, on the same clips.

    variant: the variant with its flipped switches, if any.
    heads: the kind of sites to choose from, "mean" or "single", or "given".
    difference, gain_difference, skill_difference: differences of values, gains and skills.
    clips: number of clips where both sides have a score. not_scored: number of other clips.
    ties: number of clips where both values are equal.
    smallest_p: smallest p of the difference of values that these clips allow; clips with equal values allow none.
    passed_over: why a column that comes before `chosen_by` could not choose the sites, in words; "" if none was tried.
    family: number of rows that p_holm is corrected for: the rows of the comparison with this metric and variant.
    """

    metric: str
    variant: str
    heads: str
    a: Side
    b: Side
    difference: Difference
    gain_difference: Difference
    skill_difference: Difference
    clips: int
    not_scored: int
    ties: int
    smallest_p: float
    passed_over: str = ""
    family: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, with None for NaN."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        for name, side in (("a", self.a), ("b", self.b)):
            plain[name]["sites"] = [site.to_dict() for site in side.sites]
        return plain


@dataclass(frozen=True)
class Candidates:
    """The input of one side: the series to report, the series that may choose its sites, and the site if it was given.

    chosen_by: in the order of preference. The first one by which both sides can be chosen is used, so that all columns
    of a run are reported at the same sites.
    """

    reported: Series
    chosen_by: tuple[Series, ...]
    given: SiteId | None = None

    @property
    def is_open(self) -> bool:
        """Whether a site must be chosen."""
        return self.given is None and len(self.reported.sites) > 1


@dataclass(frozen=True)
class _Pick:
    """The sites of one side. by: the series that chose, on the clips of the comparison. is_open: whether it had to."""

    by: Series
    fit: CrossFit
    is_open: bool

    @property
    def column(self) -> str:
        return str(self.by.key["metric"])


class NothingToChooseBy(Exception):  # noqa: N818  # a signal to the caller, never shown as an error
    """No site has skill on the clips that choose; the message says why."""


class NothingScored(Exception):  # noqa: N818  # a signal to the caller, never shown as an error
    """No clip has a score on both sides; the message says so."""


def pair(a: Candidates, b: Candidates, clips: Sequence[str], heads: str) -> PairedRow:
    """Compares two series on the clips that both have.

    If sites must be chosen, the choice is cross-fitted, on the same halves for both sides: each half of the clips is
    reported at the site that the other half chose. So all clips count, and none at a site that it chose.

    Args:
        a: one side.
        b: the other side.
        clips: ids of the clips that both series have.
        heads: kind of the sites, for the row.

    Raises:
        UsageError: there are too few clips, or a given site was not recorded.
        NothingToChooseBy: no site has skill to be chosen by.
        NothingScored: no clip has a score on both sides.
    """
    ids = sorted(clips)
    _check_enough(len(ids), name_site_flags(a, b))
    picks, passed_over = _pick_sites(a, b, ids)
    left, right = (np.stack(pick.fit.report(side.reported)) for side, pick in zip((a, b), picks, strict=True))
    both = np.asarray(np.isfinite(left[0] + right[0]))
    if not both.any():
        raise NothingScored(f"none of the {len(ids)} clips has a score on both sides")
    left, right = (np.where(both, part, np.nan) for part in (left, right))
    value, gains, skills = _differences(left, right, a.reported.lower_is_better)
    clips_scored, ties = int(both.sum()), int((left[0] == right[0]).sum())
    return PairedRow(
        metric=a.reported.key["metric"],
        variant=a.reported.variant_text,
        heads=heads,
        a=_side(a, picks[0], left),
        b=_side(b, picks[1], right),
        difference=value,
        gain_difference=gains,
        skill_difference=skills,
        clips=clips_scored,
        not_scored=len(ids) - clips_scored,
        ties=ties,
        smallest_p=smallest_p(clips_scored - ties),
        passed_over=passed_over,
    )


def correct_families(rows: Sequence[PairedRow]) -> list[PairedRow]:
    """Corrects p by Holm within each family: the rows with one metric and one variant."""
    families: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        families.setdefault((row.metric, row.variant), []).append(i)
    corrected = list(rows)
    for members in families.values():
        for i in members:
            corrected[i] = replace(corrected[i], family=len(members))
        for name in ("difference", "gain_difference", "skill_difference"):
            adjusted = holm([getattr(rows[i], name).p for i in members])
            for i, p in zip(members, adjusted.tolist(), strict=True):
                corrected[i] = replace(corrected[i], **{name: replace(getattr(rows[i], name), p_holm=p)})
    return corrected


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


# --------------------------------------------------------------------------------------------------------------- sites


def name_site_flags(a: Candidates, b: Candidates) -> str:
    """Returns the flags that give a site to each side that has to choose one; "" if none has to."""
    return " ".join(f"--site-{name} LAYER:STEP[:HEAD]" for name, side in (("a", a), ("b", b)) if side.is_open)


def _check_enough(clips: int, flags: str) -> None:
    """Raises UsageError if there are too few clips. flags: what gives the sites that have to be chosen; "" for none."""
    if flags and clips < MIN_CLIPS_FOR_HALVES:
        raise UsageError(
            f"Only {say_count(clips, 'clip')} in common, too few to choose sites on one half and compare on the other: "
            f"at least {MIN_CLIPS_FOR_HALVES} are needed.",
            hint=f"Run both on more clips (--limit), or give what has to be chosen: {flags}",
        )
    if clips < MIN_CLIPS:
        raise UsageError(
            f"Only {say_count(clips, 'clip')} in common: too few to say anything about other clips.",
            hint="Run both on more clips (--limit).",
        )


def _pick_sites(a: Candidates, b: Candidates, clips: Sequence[str]) -> tuple[list[_Pick], str]:
    """Returns the sites of both sides, chosen by the first column that can choose for both, and why not by another."""
    halves = _halves(a.reported, b.reported, clips)
    reasons: list[str] = []
    for column in _columns_of_both(a, b):
        picks = [_pick(side, column, halves, clips) for side in (a, b)]
        reason = next((why for pick in picks if (why := _why_not(pick))), "")
        if not reason:
            return picks, "; ".join(reasons)
        reasons.append(reason)
    raise NothingToChooseBy("; ".join(reasons) or "no metric of both sides can choose a site")


def _columns_of_both(a: Candidates, b: Candidates) -> list[str]:
    """Returns the columns that may choose for all sides without a site, in order; "" if nothing has to be chosen."""
    names = [[s.key["metric"] for s in side.chosen_by] for side in (a, b) if side.is_open]
    return [name for name in names[0] if name in names[-1]] if names else [""]


def _pick(side: Candidates, column: str, halves: Halves, clips: Sequence[str]) -> _Pick:
    by = side.reported
    if side.given is not None:
        by = by.select_sites([_column(by, side.given)])  # a single site needs no choice
    elif side.is_open:
        by = next(s for s in side.chosen_by if s.key["metric"] == column)
    score, floor, ceiling = _values_on(by, clips)
    rises = not by.lower_is_better
    fit = cross_fit(score, floor, ceiling, halves, rises, clips=clips, sites=by.site_ids)
    return _Pick(by.select_clips([clip for clip in clips if clip in set(by.clips)]), fit, side.is_open)


def _why_not(pick: _Pick) -> str:
    """Returns why a cross-fitted choice is of no use; "" if it is of use, or if nothing was chosen."""
    if not pick.is_open:
        return ""
    if np.isnan(pick.by.score).all():
        return f"no clip has a score by {pick.column}"
    if pick.fit.is_empty:
        return f"no skill to choose a site by: {pick.column} has no floor and ceiling, or they are too close"
    if not pick.fit.held_out:
        return f"fewer than {MIN_CLIPS_FOR_HALVES} clips have a score by {pick.column}, too few to choose a site"
    one_sided = f"one half of the clips has no skill by {pick.column}, so it cannot choose a site"
    return one_sided if None in pick.fit.chosen else ""


def _halves(a: Series, b: Series, clips: Sequence[str]) -> Halves:
    """Returns the halves of the clips for both sides. A fact that one side does not know is taken from the other."""
    return split_clips(clips, *join_clip_facts(clips, (a, b)), mode=a.key.get("mode") or "")


# -------------------------------------------------------------------------------------------------------------- values


def _values_on(s: Series, clips: Sequence[str]) -> Floats:
    """Returns score, floor and ceiling, (3, clips, sites), NaN for clips that the series does not have."""
    line = {clip: i for i, clip in enumerate(s.clips)}
    there = [i for i, clip in enumerate(clips) if clip in line]
    found = np.full((3, len(clips), len(s.sites)), np.nan)
    for values, array in zip(found, (s.score, s.floor, s.ceiling), strict=True):
        values[there] = array[[line[clips[i]] for i in there]]
    return found


def _differences(a: Floats, b: Floats, lower_is_better: bool) -> Iterator[Difference]:
    """Yields the differences of values, of gains and of skills; a and b are (3, clips)."""
    yield Difference.of(compare_means(a[0], b[0]), a[0] - b[0])
    # gain has no meaning for errors: its best value is 1
    left, right = (Bounded(*(np.full_like(part, np.nan) if lower_is_better else part)) for part in (a, b))
    yield Difference.of(compare_gains(left, right), gain_differences(left, right))
    left, right = (Bounded(*(-part if lower_is_better else part)) for part in (a, b))
    yield Difference.of(compare_skills(left, right), skill_differences(left, right))


def _side(side: Candidates, pick: _Pick, scores: Floats) -> Side:
    s, fit = side.reported, pick.fit
    value, floor, ceiling = scores[:, np.isfinite(scores[0])].mean(axis=1).tolist()
    sign = -1.0 if s.lower_is_better else 1.0
    return Side(
        **{name: s.key[name] for name in ("run", "model", "weights", "probe")},
        sites=tuple(list_sites(pick.by, fit)),
        value=value,
        gain=math.nan if s.lower_is_better else float(gain(value, floor)),
        skill=float(skill(sign * value, sign * floor, sign * ceiling)),
        chosen_by=pick.column if pick.is_open else "",
        chosen_on=fit.chosen_on,
        candidates=fit.candidates if pick.is_open else 1,
        regret=math.nan if side.given is not None else fit.regret,
        all_tied=fit.all_tied,
    )


def _column(s: Series, wanted: SiteId) -> int:
    column = s.column_of(wanted)
    if column is None:
        raise UsageError(
            f"Run {s.key['run']} has no site {wanted} of probe {s.key['probe']}.",
            hint=f"It recorded {_describe(s.site_ids)}.",
        )
    return column


def _describe(sites: Sequence[SiteId]) -> str:
    if all(site.layer < 0 for site in sites):
        return "no sites: it predicts without attention, and nothing has to be chosen"
    axes = {name: sorted({getattr(site, name) for site in sites}) for name in SiteId._fields}
    heads = ["mean" if head == HEAD_MEAN else str(head) for head in axes["head"]]
    return f"layers {_join(axes['layer'])}, steps {_join(axes['step'])}, heads {', '.join(heads)}"


def _join(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
