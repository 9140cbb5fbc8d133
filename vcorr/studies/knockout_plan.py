"""The plan of a knock-out study: what is cut, where it is read, and on which clips; all of it before anything runs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vcorr.contract.errors import UsageError
from vcorr.contract.metric_columns import MAIN_METRIC
from vcorr.contract.modes import Renoise
from vcorr.contract.noun_counts import say_count
from vcorr.contract.records import NO_SITE, Clip, Site
from vcorr.interventions.knockout_cuts import CutKind, check_cut, check_kind
from vcorr.plugins.option_values import Written
from vcorr.plugins.registry import Registry
from vcorr.runner.called_model import CalledModel
from vcorr.runner.held_out import shares_videos
from vcorr.runner.plan import Plan, make_plan
from vcorr.runner.spec import RunSpec, build_spec
from vcorr.store.fingerprint import fingerprint
from vcorr.studies.knockout_observed import PROBE, Observed
from vcorr.studies.knockout_rows import TABLE
from vcorr.studies.knockout_sites import (
    AUTO,
    AUTO_HEADS,
    SiteSet,
    Unit,
    choose_auto,
    count_heads,
    count_sets,
    draw_controls,
    parse_sets,
)
from vcorr.studies.study_options import check_assignments

if TYPE_CHECKING:
    from vcorr.diffusion.adapter import DiffusersVideoModel

_OF_RUN = ("model", "data", "weights", "num_steps", "seed")
"""What a study takes from the spec of the run, unless the user names another."""
LEAST_CONTROLS = 20
"""Fewer random sets cannot show that a cut is unusual: of 20, p is at best 1/21."""
DEFAULT_CLIPS = 8
MATCHING = 0.5
"""A layer is read if its skill is at least this share of the best layer's skill."""


@dataclass(frozen=True)
class KnockoutOptions:
    """What the user asks a study for.

    kind: what is cut. sites: as `--sites` has them. doses: shares of the cut, in (0, 1]. controls: number of random
    sets. limit: number of clips. steps: as `--steps` has them; None for the best step of the run. own: whether controls
    have the norm of each cut. If not, cuts and controls are all scaled to the smallest norm among the cuts.
    """

    kind: str = "cross-frame"
    sites: str = AUTO
    doses: tuple[float, ...] = (1.0,)
    controls: int = LEAST_CONTROLS
    limit: int = DEFAULT_CLIPS
    steps: str | None = None
    own: bool = False

    def check(self) -> CutKind:
        """Returns the kind; raises UsageError for a value out of range."""
        kind = check_kind(self.kind)
        wrong = [dose for dose in self.doses if not (math.isfinite(dose) and 0 < dose <= 1)]
        if wrong or not self.doses:
            raise UsageError(
                f"--dose {wrong[0] if wrong else ''}: a dose is a number above 0 and up to 1.",
                hint="1 is the whole cut; 0 is the model as it is, which every study measures.",
            )
        if self.controls < LEAST_CONTROLS:
            raise UsageError(
                f"--controls {self.controls} are too few random sets to compare with.",
                hint=f"At least {LEAST_CONTROLS}.",
            )
        if self.limit < 1:
            raise UsageError(f"--limit {self.limit}: a study needs clips.", hint="Intervals need 6 or more.")
        return kind


@dataclass(frozen=True)
class KnockoutPlan:
    """A study in which everything is decided.

    plan: of the model, the data and the clips. observed: the run that chose. sets: what is cut. controls: the random
    sets, by the number of heads in a set. readers: the layers that are read. chosen: whether the run chose the sites.
    """

    options: KnockoutOptions
    kind: CutKind
    plan: Plan
    observed: Observed
    sets: tuple[SiteSet, ...]
    controls: Mapping[int, Sequence[frozenset[Unit]]]
    readers: tuple[int, ...]
    heads: Mapping[int, int]
    chosen: bool

    @property
    def steps(self) -> tuple[int, ...]:
        """The measured steps."""
        return self.plan.selection.settings.steps

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites where this kind can be cut."""
        return tuple(site for site in self.plan.selection.sites if site.layer in self.heads)

    def readers_after(self, one: SiteSet) -> tuple[int, ...]:
        """Returns the layers that are read and come after a cut; a cut cannot change what is read before."""
        return tuple(layer for layer in self.readers if layer > one.last_layer)

    def controls_of(self, one: SiteSet) -> Sequence[frozenset[Unit]]:
        """Returns the random sets that a cut is compared with."""
        return self.controls[len(one.units(self.heads))]

    def fingerprint(self) -> str:
        """Returns the fingerprint of the study: of everything that can change a number of it, without the clips."""
        asked = self.options
        controls = {str(size): [sorted(map(list, one)) for one in sets] for size, sets in self.controls.items()}
        study = {
            "kind": self.kind,
            "sets": [one.name for one in self.sets],
            "doses": list(asked.doses),
            "own": asked.own,
            "controls": controls,
            "readers": list(self.readers),
            "rows": TABLE.version,
        }
        return fingerprint({"predict": self.plan.predict_identity(), "knockout": study})


def check_mode(mode: str) -> None:
    """Raises UsageError for a mode in which knock-outs are not studied."""
    if mode != Renoise.name:
        raise UsageError(
            f"--mode {mode}: knock-outs are studied in mode {Renoise.name}, on data with known tracks.",
            hint="Leave --mode out.",
        )


def read_doses(text: str) -> tuple[float, ...]:
    """Reads `--dose`: numbers with commas between them, each once, in ascending order."""
    try:
        return tuple(sorted({float(part) for part in text.split(",") if part.strip()}))
    except ValueError as error:
        raise UsageError(f"--dose {text!r} is no list of numbers.", hint="For example: --dose 0.5,1") from error


def plan_study(
    observed: Observed,
    options: KnockoutOptions,
    registry: Registry,
    flags: Mapping[str, Any],
    assignments: Sequence[str] = (),
) -> KnockoutPlan:
    """Makes the plan of a study.

    Args:
        observed: the run that observed the sites. Its clips are left out.
        options: of the study.
        registry: the plugins.
        flags: values of flags as `vcorr run` has them, in place of the run's own; None for what is not given.
        assignments: as `--set` has them.

    Raises:
        UsageError: a name, a site or an option cannot be used, or no clips are left.
        MissingError: weights or data are not there.
    """
    kind = options.check()
    if NO_SITE in observed.steps:
        raise UsageError(
            f"Run {observed.run} is of {observed.model}, which adds no noise: knock-outs are studied in models that "
            "denoise.",
            hint="Video diffusion models: vcorr list models",
        )
    if flags.get("model") not in (None, observed.model):
        raise UsageError(
            f"Run {observed.run} is of {observed.model}, and the study is of {flags['model']}.",
            hint="Name a run of the same model: vcorr list runs",
        )
    spec = _make_spec(observed, options, flags, assignments)
    plan = make_plan(spec, registry)
    adapter = adapter_of(plan)
    _check_same(observed, plan)
    steps = plan.selection.settings.steps
    if missing := sorted(set(steps) - set(observed.steps)):
        raise UsageError(
            f"Run {observed.run} has no scores of step {missing[0]}.",
            hint=f"It has steps {', '.join(map(str, observed.steps))}.",
        )
    plan = replace(plan, selection=replace(plan.selection, clips=_choose_clips(observed, options, plan)))
    sites = _sites_to_cut(kind, plan, adapter)
    heads = count_heads(sites)
    chosen = options.sites in (AUTO, AUTO_HEADS)
    sets = _choose_sets(observed, options, heads, steps) if chosen else parse_sets(options.sites, heads, steps)
    readers = _choose_readers(observed, steps)
    controls = _draw(options, sets, heads, readers, spec.seed)
    return KnockoutPlan(options, kind, plan, observed, sets, controls, readers, heads, chosen)


def adapter_of(plan: Plan) -> DiffusersVideoModel[Any]:
    """Returns the adapter of a plan; raises UsageError unless its model is a denoiser of diffusers."""
    from vcorr.diffusion.adapter import DiffusersVideoModel

    made = plan.live.adapter.made
    if not isinstance(made, DiffusersVideoModel):
        raise UsageError(
            f"{plan.parts.model.entry.label} denoises no latents, so attention cannot be knocked out in it.",
            hint="Studies of knock-outs take video diffusion models: vcorr list models",
        )
    return made


def _make_spec(
    observed: Observed, options: KnockoutOptions, flags: Mapping[str, Any], assignments: Sequence[str]
) -> RunSpec:
    """Returns the spec of the passes: the run's own, with what the user asks for now."""
    own = {name: observed.spec[name] for name in _OF_RUN if observed.spec.get(name) is not None}
    steps = options.steps or str(observed.best_step())
    given = {name: value for name, value in flags.items() if value is not None}
    fixed = {"probe": PROBE, "mode": Renoise.name, "metrics": MAIN_METRIC, "steps": steps}
    spec = build_spec({**own, **given, **fixed}, assignments=assignments)
    check_assignments(assignments, ("model", "data"), (*_OF_RUN, "device", "dtype", "noise_draw"))
    stored = observed.spec.get("options") or {}
    kept = ("model", *(() if "data" in given else ("data",)))
    # what the run was given as text is still to be read as the type of its option
    written = {part: {k: Written(v) if isinstance(v, str) else v for k, v in stored[part].items()} for part in stored}
    merged = {part: {**written[part], **spec.options.get(part, {})} for part in kept if part in written}
    return replace(spec, limit=None, options={**spec.options, **merged})


def _check_same(observed: Observed, plan: Plan) -> None:
    if (observed.model, observed.weights) != (plan.spec.model, plan.identity.weights):
        raise UsageError(
            f"Run {observed.run} is of {observed.model} with weights {observed.weights}; the study is of "
            f"{plan.spec.model} with {plan.identity.weights}.",
            hint="Name a run of the same model and weights: vcorr list runs",
        )


def _choose_clips(observed: Observed, options: KnockoutOptions, plan: Plan) -> tuple[str, ...]:
    """Returns the first clips that the run did not measure, so that no clip reports a site that it chose."""
    same = shares_videos(observed.measured.data, plan.identity.data, plan.parts.data.find_left_out())
    taken = observed.measured.clips if same else frozenset()
    left = [clip for clip in plan.selection.clips if clip not in taken]
    if not left:
        raise UsageError(
            f"All {say_count(len(plan.selection.clips), 'clip')} of the data were measured in run {observed.run}. "
            "A study needs others, so that no clip reports a site that it chose.",
            hint="Make the run with fewer clips (--limit), or name other data with --data.",
        )
    return tuple(left[: options.limit])


def _sites_to_cut(kind: CutKind, plan: Plan, adapter: DiffusersVideoModel[Any]) -> tuple[Site, ...]:
    """Returns the sites where the cut removes something; raises UsageError with the first reason if there are none."""
    clip, layout = _first_clip(plan), adapter.layout()
    found, reasons = [], []
    for site in plan.selection.sites:
        try:
            check_cut(kind, site, adapter.grid(clip, site), layout)
            found.append(site)
        except UsageError as error:
            reasons.append(error)
    if not found:
        raise reasons[0] if reasons else UsageError(f"{plan.spec.model} has no attention to knock out.")
    return tuple(found)


def _first_clip(plan: Plan) -> Clip:
    live = plan.live
    adapter: CalledModel = live.adapter
    return plan.selection.mode.input_of(live.dataset.clip(plan.selection.clips[0]), needs_image=adapter.needs_image)


def _choose_sets(
    observed: Observed, options: KnockoutOptions, heads: Mapping[int, int], steps: Collection[int]
) -> tuple[SiteSet, ...]:
    single = options.sites == AUTO_HEADS
    skills = observed.mean_skills(steps, heads=single)
    if not skills:
        what, option = ("single heads", "each") if single else ("layers", "mean")
        raise UsageError(
            f"Run {observed.run} has no scores of {what}.", hint=f"Make one with --set probe.heads={option}"
        )
    return choose_auto({site: skill for site, skill in skills.items() if site.layer in heads})


def _choose_readers(observed: Observed, steps: Collection[int]) -> tuple[int, ...]:
    """Returns the layers that match: those with at least half of the skill of the best layer of the run."""
    skills = {site.layer: skill for site, skill in observed.mean_skills(steps, heads=False).items() if skill > 0}
    best = max(skills.values(), default=math.nan)
    return tuple(sorted(layer for layer, skill in skills.items() if skill >= MATCHING * best))


def _draw(
    options: KnockoutOptions, sets: Sequence[SiteSet], heads: Mapping[int, int], readers: Sequence[int], seed: int
) -> dict[int, list[frozenset[Unit]]]:
    """Returns the random sets by their size, from the layers before the first one that is read.

    A later control could not change what is read there. Where these layers have too few heads, all layers count.
    """
    units = [Unit(layer, head) for layer, count in heads.items() for head in range(count)]
    early = [unit for unit in units if not readers or unit.layer < readers[0]]
    cut = [one.units(heads) for one in sets]
    found = {}
    for size in sorted({len(one) for one in cut}):
        enough = count_sets(early, size, cut) >= options.controls
        found[size] = draw_controls(early if enough else units, size, options.controls, seed, cut)
    return found
