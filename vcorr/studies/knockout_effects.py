"""The statistics of a knock-out study: what each cut harms beyond its controls, and which observation foresees it.

All effects are harms: positive where a cut raises the denoising loss, lowers the skill of matching, or makes a score of
a video worse. A video that moves less counts as harmed in the score that is a guard. An effect is the harm of a cut
minus the mean harm of its controls on the same clip.

Intervals are Student's t over clips, and p is of sign-flip tests, corrected jointly for all cuts of one dose and
outcome. Both are about other clips, with these controls. `beyond` is about other random sets: how many controls harm at
least as much, on the mean over clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.stats.intervals import (
    Bounded,
    Interval,
    compare_skills,
    mean_interval,
    no_interval_reason,
    skill_differences,
)
from vcorr.stats.rank_correlation import rank_correlation, spearman
from vcorr.stats.sign_flips import joint_sign_flip_test, sign_flip_test
from vcorr.studies.knockout_agreements import SKILL
from vcorr.studies.knockout_cells import COMMON, WHOLE
from vcorr.studies.knockout_observed import Observed, mean_over_steps
from vcorr.studies.knockout_passes import (
    LOSS_OUTCOME,
    MATCHING_OUTCOME,
    OUTCOMES,
    PLAIN_KEY,
    OnePass,
    Passes,
    dose_key,
    mean_known,
)
from vcorr.studies.knockout_plan import KnockoutPlan
from vcorr.studies.knockout_rows import CONTROL, CUT, LOSS, PLAIN
from vcorr.studies.knockout_sites import CutSite, SiteSet

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over clips. low, high: ends of its 95 % interval, NaN where there is none. reason: why there is none."""

    value: float
    low: float
    high: float
    reason: str = ""

    @classmethod
    def of(cls, interval: Interval) -> Estimate:
        """Returns the estimate that an interval of shape () holds."""
        reason = no_interval_reason(interval) if interval.n else "no clip has a value"
        return cls(float(interval.estimate), float(interval.low), float(interval.high), reason)


@dataclass(frozen=True)
class CutEffect:
    """What one cut does to one outcome.

    sites: of the cut. asked: the dose of the study. whole: harm of the cut at this dose. matched: its harm at the norm
    that it has in common with its controls, in dose `dose` on the mean. controls: mean harm of the controls. effect:
    matched minus controls. p, p_joint: of the effect, alone and corrected for all cuts of its table. beyond: number of
    controls that harm at least as much, of `count` controls with a value. highest_dose: of a control. readers: the
    layers that are read. clips: number of clips with a value.
    """

    sites: str
    asked: float
    outcome: str
    whole: Estimate
    matched: float
    dose: float
    controls: float
    effect: Estimate
    p: float
    p_joint: float
    beyond: int
    count: int
    highest_dose: float
    readers: tuple[int, ...]
    clips: int


@dataclass(frozen=True)
class Agreement:
    """How well an observation of sites foresees their effects.

    observation: "skill" or a column. ranks: Spearman's correlation over sites with the effect on a clip, its mean over
    clips. pooled: the correlation with the mean effects. p, p_joint: of the sign-flip test over clips, alone and
    corrected for all observations of one outcome. sites: their number.
    """

    observation: str
    outcome: str
    ranks: Estimate
    pooled: float
    p: float
    p_joint: float
    sites: int
    clips: int


@dataclass(frozen=True)
class Results:
    """All that a study says.

    norm_made: lowest and highest ratio of a control's norm to what it should be. outcomes: what was measured, in order.
    plain: mean of each score of the videos without a cut, by column; empty on real clips.
    """

    effects: tuple[CutEffect, ...]
    agreements: tuple[Agreement, ...]
    norm_made: tuple[float, float]
    outcomes: tuple[str, ...] = OUTCOMES
    plain: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, with None for NaN."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        return plain


def find_results(study: KnockoutPlan, rows: Sequence[Mapping[str, Any]]) -> Results:
    """Returns the effects of all cuts, and the agreement of observations with them."""
    passes = Passes(study, rows)
    make = _CutData if study.videos is None else _VideoData
    effects: list[CutEffect] = []
    agreements: list[Agreement] = []
    outcomes = OUTCOMES if study.videos is None else (*passes.directions, MATCHING_OUTCOME)
    for dose in study.options.doses:
        parts = [make(study, passes, one, dose) for one in study.sets]
        for outcome in outcomes:
            effects += _correct([part for part in parts if outcome in part.outcomes], outcome)
        if dose == max(study.options.doses):
            agreements = [found for outcome in outcomes for found in _agree(study, parts, outcome)]
    return Results(tuple(effects), tuple(agreements), passes.norm_made, outcomes, passes.mean_plain())


def _correct(parts: Sequence[_CutData], outcome: str) -> list[CutEffect]:
    """Returns the effects of all cuts on an outcome, with p corrected for all of them."""
    if not parts:
        return []
    corrected = joint_sign_flip_test(np.stack([part.per_clip(outcome) for part in parts], axis=1))
    return [replace(part.effect(outcome), p_joint=float(p)) for part, p in zip(parts, corrected, strict=True)]


class _CutData:
    """The numbers of one cut in one dose, on every clip."""

    def __init__(self, study: KnockoutPlan, passes: Passes, one: SiteSet, dose: float) -> None:
        self.set, self._dose, self._readers = one, dose, study.readers_after(one)
        self._passes = passes
        steps = [step for step in passes.steps if one.step in (-1, step)]
        controls = study.controls_of(one)
        own = study.options.own
        size, key = len(one.units(study.heads)), dose_key(dose)
        self._plain = passes.read(steps, PLAIN, PLAIN_KEY)
        self._whole = passes.read(steps, CUT, (-1, WHOLE, one.name, key, 0))
        self._matched = self._whole if own else passes.read(steps, CUT, (-1, COMMON, one.name, key, 0))
        label = one.name if own else COMMON
        self._controls = [passes.read(steps, CONTROL, (i, label, "", key, size)) for i in range(len(controls))]

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The outcomes that the cut can change: matching only where a layer is read after it."""
        return OUTCOMES if self._readers else (LOSS_OUTCOME,)

    def per_clip(self, outcome: str) -> Floats:
        """Returns the effect on every clip, (clips,)."""
        if outcome != MATCHING_OUTCOME:
            controls = mean_known([self._harms(each, outcome) for each in self._controls])
            return np.asarray(self._harms(self._matched, outcome) - controls, dtype=np.float64)
        return skill_differences(self._mean_control(), self._bounds(self._matched))

    def effect(self, outcome: str) -> CutEffect:
        """Returns the effect on an outcome; p_joint is not corrected yet."""
        per_clip = self.per_clip(outcome)
        is_matching = outcome == MATCHING_OUTCOME
        interval = self._skill_interval() if is_matching else mean_interval(per_clip)
        whole = self._against_plain() if is_matching else mean_interval(self._harms(self._whole, outcome))
        harms = [self._harm(each, outcome) for each in self._controls]
        controls = [harm for harm in harms if math.isfinite(harm)]
        matched = self._harm(self._matched, outcome)
        p = float(sign_flip_test(per_clip))
        return CutEffect(
            sites=self.set.name,
            asked=self._dose,
            outcome=outcome,
            whole=Estimate.of(whole),
            matched=matched,
            dose=float(np.mean([one.dose for clip in self._matched for one in clip])),
            controls=float(mean_known(controls)),
            effect=Estimate.of(interval),
            p=p,
            p_joint=p,
            beyond=sum(each >= matched for each in controls),
            count=len(controls),
            highest_dose=max(one.dose for control in self._controls for clip in control for one in clip),
            readers=self._readers if is_matching else (),
            clips=int(np.isfinite(per_clip).sum()),
        )

    def _harm(self, passes: list[list[OnePass]], outcome: str) -> float:
        """Returns the mean harm of some passes over clips."""
        if outcome != MATCHING_OUTCOME:
            return float(mean_known(self._harms(passes, outcome)))
        return float(compare_skills(self._bounds(self._plain), self._bounds(passes)).estimate)

    def _harms(self, passes: list[list[OnePass]], outcome: str) -> Floats:
        """Returns the increase of the loss as a share of the loss without a cut, (clips,), a mean over steps."""
        pairs = zip(passes, self._plain, strict=True)
        rises = [[a.values[LOSS] / b.values[LOSS] - 1 for a, b in zip(*pair, strict=True)] for pair in pairs]
        return np.array([np.mean(each) for each in rises])

    def _bounds(self, passes: list[list[OnePass]]) -> Bounded:
        """Returns accuracy, floor and ceiling of every clip: means over steps and layers that are read."""
        found = np.array(
            [[[each.scores[layer] for layer in self._readers] for each in clip] for clip in passes], dtype=np.float64
        )
        return Bounded(*found.mean(axis=(1, 2)).T)

    def _mean_control(self) -> Bounded:
        """Returns accuracy, floor and ceiling of every clip: means over the controls that have a skill there."""
        found = np.stack([np.stack(self._bounds(each)) for each in self._controls])
        known = np.isfinite(found).all(axis=1, keepdims=True)
        return Bounded(*mean_known(np.where(known, found, np.nan)))

    def _skill_interval(self) -> Interval:
        return compare_skills(self._mean_control(), self._bounds(self._matched))

    def _against_plain(self) -> Interval:
        return compare_skills(self._bounds(self._plain), self._bounds(self._whole))


class _VideoData(_CutData):
    """The numbers of one cut in one dose, on every generated video."""

    @property
    def outcomes(self) -> tuple[str, ...]:
        """All scores, and matching where a layer is read after the cut."""
        return (*self._passes.directions, *((MATCHING_OUTCOME,) if self._readers else ()))

    def _harms(self, passes: list[list[OnePass]], outcome: str) -> Floats:
        """Returns how much worse a score is than without a cut, (clips,), in the score's own unit."""
        sign = self._passes.directions[outcome]
        pairs = zip(passes, self._plain, strict=True)
        return np.array([sign * (a[0].values[outcome] - b[0].values[outcome]) for a, b in pairs])


def _agree(study: KnockoutPlan, parts: Sequence[_CutData], outcome: str) -> list[Agreement]:
    """Returns the agreement of every observation with the effects on an outcome, over cuts of one site."""
    usable = [part for part in parts if len(part.set.sites) == 1 and outcome in part.outcomes]
    if not usable:
        return []
    effects = np.stack([part.per_clip(outcome) for part in usable], axis=1)
    sites = [replace(part.set.sites[0], step=-1) for part in usable]
    values = {
        name: np.array([by_site.get(site, math.nan) for site in sites])
        for name, by_site in _observations(study.observed, study.observed_steps or study.steps).items()
    }
    found = [_agreement(name, outcome, each, effects) for name, each in values.items()]
    correlations = np.stack([_per_clip(each, effects) for each in values.values()], axis=1)
    corrected = joint_sign_flip_test(correlations)
    return [replace(one, p_joint=float(p)) for one, p in zip(found, corrected, strict=True)]


def _per_clip(values: Floats, effects: Floats) -> Floats:
    """Returns the rank correlation of values (sites,) with the effects on each clip, (clips,)."""
    return spearman(np.broadcast_to(values, effects.shape), effects)


def _observations(observed: Observed, steps: Sequence[int]) -> dict[str, dict[CutSite, float]]:
    """Returns what was observed of every layer and head, by the name of the observation."""
    named = {SKILL: observed.skills, **observed.descriptors}
    return {
        name: {**mean_over_steps(values, steps, heads=False), **mean_over_steps(values, steps, heads=True)}
        for name, values in named.items()
    }


def _agreement(name: str, outcome: str, values: Floats, effects: Floats) -> Agreement:
    """Returns the agreement of values (sites,) with effects (clips, sites)."""
    each = np.broadcast_to(values, effects.shape)
    per_clip = _per_clip(values, effects)
    p = math.nan if np.isnan(per_clip).all() else float(sign_flip_test(per_clip))
    return Agreement(
        observation=name,
        outcome=outcome,
        ranks=Estimate.of(rank_correlation(each, effects)),
        pooled=float(spearman(values, mean_known(effects))),
        p=p,
        p_joint=p,
        sites=int((np.isfinite(values) & np.isfinite(effects).any(axis=0)).sum()),
        clips=int(np.isfinite(per_clip).sum()),
    )


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
