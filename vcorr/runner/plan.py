"""Makes a plan of a spec: looks up every name and resolves every index, without loading weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from vcorr.contract.origins import VideoOrigin
from vcorr.contract.records import Clip, Mode, RunSettings
from vcorr.plugins.registry import Registry
from vcorr.runner.gaps import Gap, Gaps
from vcorr.runner.guided import mark_sites
from vcorr.runner.hardware import Hardware, choose_hardware
from vcorr.runner.identity import (
    Identity,
    predict_identity,
    score_fingerprint,
    track_fingerprint,
    tracker_identity,
)
from vcorr.runner.known_clip import describe_clip
from vcorr.runner.live import Live, make_live
from vcorr.runner.parts import Parts
from vcorr.runner.plan_steps import (
    check_all_words,
    check_executor_here,
    check_model,
    choose_mode_and_settings,
    find_model,
    find_tracker,
    fit_probes,
    identify,
    look_up,
    say_notes,
    select,
)
from vcorr.runner.reference import Reference
from vcorr.runner.run_tasks.run_task import RunTask
from vcorr.runner.run_tasks.task_table import find_task
from vcorr.runner.selection import Selection
from vcorr.runner.shared_passes import check_shared_passes
from vcorr.runner.spec import RunSpec
from vcorr.store.fingerprint import fingerprint


@dataclass(frozen=True)
class Plan:
    """A run in which everything is decided. It can be pickled and worked off in another process.

    Args:
        spec: what the user asked for.
        parts: model, probes, metrics, data and tracker with their options.
        selection: clips, sites, steps and variants.
        hardware: device and dtype.
        identity: what identifies weights, files and packages, for the fingerprints.
        reference: where the reference tracks come from.
        notes: sentences on what was chosen by default, and on what was asked for and does not apply.
        origin: the run that generated the videos; None if none did, or if the model adds noise to them.
        missing: what the run lacks. A plan with gaps is for a dry run only.
        first: what the plan has read of the first clip (`describe_clip`); None if it could not be read.
        planned_with: the objects of the process that made the plan; not pickled.
    """

    spec: RunSpec
    parts: Parts
    selection: Selection
    hardware: Hardware
    identity: Identity
    reference: Reference
    notes: tuple[str, ...] = ()
    missing: tuple[Gap, ...] = ()
    origin: VideoOrigin | None = None
    first: Mapping[str, Any] | None = None
    planned_with: Live | None = field(default=None, compare=False, repr=False)

    @cached_property
    def live(self) -> Live:
        """Adapter, dataset and card of this process. A process that did not make the plan makes them once.

        Raises:
            MissingError, PluginError: see `make_live`.
        """
        return self.planned_with or make_live(self.parts, self.spec.weights, self.identity, self.spec.seed)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name != "live"}
        return {**state, "planned_with": None}

    @property
    def dataset(self) -> str:
        """The dataset in the rows: of videos that a run generated, the one that it generated from."""
        return self.parts.data.entry.name if self.origin is None else self.origin.dataset

    @property
    def split(self) -> str:
        """The split of `dataset`."""
        return self.selection.split if self.origin is None else self.origin.split

    @property
    def measured_mode(self) -> Mode:
        """The mode in the rows: of videos that a run generated, the mode of that run."""
        return self.selection.settings.mode if self.origin is None else self.origin.mode

    @property
    def task(self) -> RunTask:
        """What the run measures."""
        return find_task(self.spec.task)

    def with_seed(self, seed: int) -> Plan:
        """Returns the plan with another seed, and with the same live objects."""
        settings = replace(self.selection.settings, seed=seed)
        return replace(self, selection=replace(self.selection, settings=settings), planned_with=self.live)

    def with_model_of(self, other: Plan) -> Plan:
        """Returns the plan with the model object of another plan of the same model, which may be loaded already."""
        return replace(self, planned_with=replace(self.live, adapter=other.live.adapter))

    def settings_for(self, clip_id: str) -> RunSettings:
        """Returns the settings with which the model runs on a clip, with the guidance of the run."""
        settings = self.selection.settings_for(clip_id)
        return replace(settings, guidance=self.live.guidance, keep_latents=self.spec.keep_latents)

    def lacks(self, *kinds: str) -> bool:
        """Returns whether something of one of these kinds is missing, such as "weights" or "data"."""
        return any(gap.kind in kinds for gap in self.missing)

    def predict_identity(self) -> dict[str, Any]:
        """Returns everything that can change a prediction; see `identity.predict_identity`."""
        return predict_identity(self.parts, self.selection, self.hardware, self.identity)

    def tracker_identity(self) -> dict[str, Any] | None:
        """Returns what can change the tracks in addition to the video; None if the tracks are the dataset's own."""
        return tracker_identity(self.parts.tracker, self.identity)

    def fingerprints(self) -> dict[str, str]:
        """Returns one fingerprint per stage. The one of the scores also covers predictions and tracks."""
        predict = fingerprint(self.predict_identity())
        track = track_fingerprint(predict, self.tracker_identity())
        score = score_fingerprint(track, self.parts.metrics, self.selection.variants)
        return {"predict": predict, "track": track, "score": score}


def make_plan(
    spec: RunSpec, registry: Registry, *, probing: bool = True, dry: bool = False, known: Clip | None = None
) -> Plan:
    """Makes the plan of a spec.

    Args:
        spec: what the user asked for.
        registry: the plugins in which names are looked up.
        probing: False if only videos are made: probes are then neither needed nor looked up.
        dry: True for a dry run: what is missing is kept in `Plan.missing` and is no error.
        known: the first clip, if it need not be read.

    Raises:
        UsageError: an unknown name, an option or index out of range, or something that this version cannot do.
        PluginError: a plugin breaks its contract.
        MissingError: weights, data, a package or a device are not available, and `dry` is False.
    """
    check_all_words(spec)
    gaps = Gaps(collect=dry)
    check_executor_here(spec, gaps)
    model = find_model(spec, registry, gaps)
    named = look_up(model, registry, gaps, probing=probing, known=known)
    mode, settings = choose_mode_and_settings(model, named, gaps)
    reading = fit_probes(model, named, mode, settings)
    hardware = choose_hardware(model.spec, gaps)
    check_shared_passes(hardware.ranks, model.adapter, named.sites, mode, named.clips.first, registry)
    tracker = find_tracker(model.spec, registry, named, mode, gaps)
    guided = named.guidance.choose(mark_sites(named.sites, model.card))
    check_model(model.adapter, replace(settings, guidance=named.guidance.made), hardware, gaps)
    parts = Parts(reading.model, named.probes, named.metrics, named.data, tracker, named.guidance.part)
    selection = select(model, named, reading, mode, settings, guided)
    origin = None if model.adapter.adds_noise else gaps.fill("data", named.clips.reader.origin, None)
    identity = identify(model, named, parts, mode, gaps)
    return Plan(
        spec,
        parts,
        selection,
        hardware,
        identity,
        Reference.of(tracker, identity.tracker_versions, named.clips.first),
        say_notes(model, named, parts, selection, identity, origin),
        gaps.found,
        origin,
        describe_clip(named.clips.first),
        Live(reading.acting, named.clips.reader, model.card, named.guidance.made),
    )
