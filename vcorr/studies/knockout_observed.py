"""Reads what a run has observed without changing anything: the skill of every site, and cheap traits of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vcorr.analysis.stored_scores import load_scores
from vcorr.contract.errors import StoreError, UsageError
from vcorr.contract.head_traits import TRAITS
from vcorr.contract.metric_columns import MAIN_COLUMN
from vcorr.contract.modes import Renoise
from vcorr.contract.records import HEAD_MEAN
from vcorr.contract.variants import DEFAULT_VARIANT
from vcorr.runner.held_out import MeasuredClips
from vcorr.stats.series import Series, series
from vcorr.stats.sites import SiteId
from vcorr.store.rundir import RunDirectory
from vcorr.studies.knockout_sites import CutSite

PROBE = "qk"
"""The probe whose skill is the observation."""
DESCRIPTORS = (*(f"trait_{name}" for name in TRAITS), "attention_cross", "confidence_cross")
"""Columns that need no tracks: traits of heads, and what DiffTrack ranks layers by."""

BySite = Mapping[SiteId, float]


@dataclass(frozen=True)
class Observed:
    """What a run says about sites.

    run: its id. model, weights: of the run. spec: what its user asked for. measured: its clips, which chose.
    skills: by site, of query-key matching over moving points. descriptors: means over clips, by column and site.
    """

    run: str
    model: str
    weights: str
    spec: Mapping[str, Any]
    measured: MeasuredClips
    skills: BySite
    descriptors: Mapping[str, BySite]

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that the run has scores of."""
        return tuple(sorted({site.step for site in self.skills}))

    def best_step(self) -> int:
        """Returns the step of the layer with the highest skill."""
        layers = {site: skill for site, skill in self.skills.items() if site.head == HEAD_MEAN}
        known = {site: skill for site, skill in (layers or self.skills).items() if not math.isnan(skill)}
        if not known:
            raise UsageError(f"Run {self.run} has no skill at any site.", hint="Measure more clips: --limit 16")
        return max(known, key=lambda site: (known[site], -site.layer, -site.step)).step

    def mean_skills(self, steps: Iterable[int], *, heads: bool) -> dict[CutSite, float]:
        """Returns the mean skill over some steps of every layer, or of every single head."""
        return mean_over_steps(self.skills, steps, heads=heads)


def mean_over_steps(values: BySite, steps: Iterable[int], *, heads: bool) -> dict[CutSite, float]:
    """Returns the mean over some steps of every layer, or of every single head; NaN where a step is missing."""
    wanted = tuple(steps)
    places = sorted({(site.layer, site.head) for site in values if (site.head != HEAD_MEAN) == heads})
    return {
        CutSite(layer, head): float(np.mean([values.get(SiteId(layer, step, head), math.nan) for step in wanted]))
        for layer, head in places
    }


def read_observed(run: RunDirectory) -> Observed:
    """Returns what a run has observed.

    Raises:
        UsageError: it did not read the probe `qk`, or it generated its videos.
        StoreError: it is damaged, or has no scores yet.
    """
    record = run.record()
    resolved, context, spec = (record.get(name) for name in ("resolved", "row_context", "spec"))
    if not (isinstance(resolved, dict) and isinstance(context, dict) and isinstance(spec, dict)):
        raise StoreError(
            f"{run.place}/run.json does not say what was run.", hint="Repeat the command that made the run."
        )
    if context.get("mode") != Renoise.name:
        raise UsageError(
            f"Run {run.run_id} is of mode {context.get('mode')}; sites are observed on videos with known tracks.",
            hint="Make one: vcorr run --model M --probe qk,head-traits --set probe.heads=each --limit 16",
        )
    stored = load_scores(run, lambda name: name in (MAIN_COLUMN, *DESCRIPTORS))
    every = [s for s in series(stored.scores) if s.variant_text == DEFAULT_VARIANT.text]
    matched = next((s for s in every if (s.key["probe"], s.key["metric"]) == (PROBE, MAIN_COLUMN)), None)
    if matched is None:
        raise UsageError(
            f"Run {run.run_id} has no {MAIN_COLUMN} of the probe {PROBE}.",
            hint=f"vcorr run --model {context.get('model')} --probe qk,head-traits --set probe.heads=each --limit 16",
        )
    return Observed(
        run=run.run_id,
        model=str(context.get("model")),
        weights=str(context.get("weights")),
        spec=spec,
        measured=MeasuredClips(resolved.get("data") or {}, frozenset(stored.scores.clips)),
        skills=dict(zip(matched.site_ids, matched.skill.tolist(), strict=True)),
        descriptors={s.key["metric"]: _means(s) for s in every if s.key["metric"] in DESCRIPTORS},
    )


def _means(s: Series) -> BySite:
    """Returns the mean of each site over the clips that have a value."""
    counts = np.isfinite(s.score).sum(axis=0)
    means = np.where(counts > 0, np.nansum(s.score, axis=0) / np.maximum(counts, 1), np.nan)
    return dict(zip(s.site_ids, means.tolist(), strict=True))
