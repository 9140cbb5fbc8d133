"""The plan of a knock-out study: what is cut, where it is read, and on which clips; all of it before anything runs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vcorr.contract.errors import UsageError
from vcorr.contract.modes import Generate
from vcorr.contract.noun_counts import say_count
from vcorr.contract.records import NO_SITE, Clip, Site
from vcorr.interventions.knockout_cuts import CutKind, check_cut
from vcorr.plugins.registry import Registry
from vcorr.runner.called_model import CalledModel
from vcorr.runner.held_out import shares_videos
from vcorr.runner.index_lists import resolve_steps
from vcorr.runner.plan import Plan, make_plan
from vcorr.store.fingerprint import fingerprint
from vcorr.studies.knockout_observed import Observed
from vcorr.studies.knockout_options import KnockoutOptions, make_specs
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

if TYPE_CHECKING:
    from vcorr.diffusion.adapter import DiffusersVideoModel

MATCHING = 0.5
"""A layer is read if its skill is at least this share of the best layer's skill."""


@dataclass(frozen=True)
class KnockoutPlan:
    """A study in which everything is decided.

    plan: of the model, the data and the clips. observed: the run that chose. sets: what is cut. controls: the random
    sets, by the number of heads in a set. readers: the layers that are read. chosen: whether the run chose the sites.

    In mode generate, `plan` reads matching at one step of the sampler. videos: how the videos are scored, as an
    ordinary run of the task generation. cut_steps: the steps that are cut. observed_steps: the steps of the run whose
    observations count. In mode renoise these are None and empty: the measured steps are cut and were observed.
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
    videos: Plan | None = None
    cut_steps: tuple[int, ...] = ()
    observed_steps: tuple[int, ...] = ()

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that are cut."""
        return self.cut_steps or self.plan.selection.settings.steps

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
        study: dict[str, Any] = {
            "kind": self.kind,
            "sets": [one.name for one in self.sets],
            "doses": list(asked.doses),
            "own": asked.own,
            "controls": controls,
            "readers": list(self.readers),
            "rows": TABLE.version,
        }
        if self.videos is not None:
            study |= {"steps": list(self.cut_steps), "videos": self.videos.fingerprints()["score"]}
        return fingerprint({"predict": self.plan.predict_identity(), "knockout": study})


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
    spec, videos_spec = make_specs(observed, options, registry, flags, assignments)
    plan = make_plan(spec, registry)
    adapter = adapter_of(plan)
    _check_same(observed, plan)
    cut, looked_at = _choose_steps(observed, options, plan)
    plan = replace(plan, selection=replace(plan.selection, clips=_choose_clips(observed, options, plan)))
    sites = _sites_to_cut(kind, plan, adapter)
    heads = count_heads(sites)
    chosen = options.sites in (AUTO, AUTO_HEADS)
    sets = _choose_sets(observed, options, heads, looked_at) if chosen else _read_sets(options, heads, cut)
    readers = _choose_readers(observed, looked_at)
    controls = _draw(options, sets, heads, readers, spec.seed)
    found = KnockoutPlan(options, kind, plan, observed, sets, controls, readers, heads, chosen)
    if videos_spec is None:
        return found
    videos = make_plan(videos_spec, registry).with_model_of(plan)
    return replace(found, videos=videos, cut_steps=cut, observed_steps=looked_at)


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


def _choose_steps(observed: Observed, options: KnockoutOptions, plan: Plan) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the steps that are cut, and the steps of the run whose observations count."""
    settings = plan.selection.settings
    if options.generates:
        return resolve_steps(options.steps or "all", settings.num_steps), (observed.best_step(),)
    if missing := sorted(set(settings.steps) - set(observed.steps)):
        raise UsageError(
            f"Run {observed.run} has no scores of step {missing[0]}.",
            hint=f"It has steps {', '.join(map(str, observed.steps))}.",
        )
    return settings.steps, settings.steps


def _read_sets(options: KnockoutOptions, heads: Mapping[int, int], steps: Collection[int]) -> tuple[SiteSet, ...]:
    """Returns the sets that the user names; a video is cut at all chosen steps."""
    sets = parse_sets(options.sites, heads, steps)
    if options.generates and (of_step := [one for one in sets if one.step >= 0]):
        raise UsageError(
            f"--sites: {of_step[0].name} names a step, and in mode {Generate.name} all cuts have the same steps.",
            hint=f"Name them for all: --steps {of_step[0].step}",
        )
    return sets


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
