"""Makes a plan of a spec: looks up every name and resolves every index, without loading weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from vcorr.contract.modes import Generate, choose_mode, mode_of
from vcorr.contract.origins import VideoOrigin
from vcorr.contract.records import Clip, Mode, ModelCard, RunSettings
from vcorr.plugins.registry import Registry
from vcorr.runner.called_model import CalledModel
from vcorr.runner.called_tracker import tracker_files
from vcorr.runner.chosen_layers import fill_layers
from vcorr.runner.executors.table import check_executor
from vcorr.runner.followed import SiteChoice, find_measured, follow
from vcorr.runner.gaps import ABSENT_DATA, Gap, Gaps
from vcorr.runner.generation import check_first_image, check_generation_words, sampling_settings
from vcorr.runner.guided import CalledGuidance, mark_sites
from vcorr.runner.hardware import Hardware, choose_hardware
from vcorr.runner.held_out import describe_overlap
from vcorr.runner.identity import (
    Identity,
    computing_versions,
    predict_identity,
    score_fingerprint,
    track_fingerprint,
    tracker_identity,
    tracker_versions,
)
from vcorr.runner.live import Live, make_live
from vcorr.runner.metric_trial import check_columns
from vcorr.runner.parts import Part, Parts, card_of, metric_parts, probe_parts, tracker_part
from vcorr.runner.plan_notes import plan_notes
from vcorr.runner.preflight import preflight
from vcorr.runner.reference import Reference
from vcorr.runner.run_data import (
    VIDEO,
    ClipReader,
    check_image,
    check_limit,
    choose_clips,
    data_identity,
    data_part,
    first_clip,
    usual_clip,
)
from vcorr.runner.scored_variants import readings_of, run_variants
from vcorr.runner.selection import Selection, choose_noise_draw, choose_settings, choose_sites
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import check_data, check_words
from vcorr.runner.tracking_site import SitedSpec, fill_site
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

    def with_seed(self, seed: int) -> Plan:
        """Returns the plan with another seed, and with the same live objects."""
        settings = replace(self.selection.settings, seed=seed)
        return replace(self, selection=replace(self.selection, settings=settings), planned_with=self.live)

    def with_model_of(self, other: Plan) -> Plan:
        """Returns the plan with the model object of another plan of the same model, which may be loaded already."""
        return replace(self, planned_with=replace(self.live, adapter=other.live.adapter))

    def settings_for(self, clip_id: str) -> RunSettings:
        """Returns the settings with which the model runs on a clip, with the guidance of the run."""
        return replace(self.selection.settings_for(clip_id), guidance=self.live.guidance)

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


def make_plan(spec: RunSpec, registry: Registry, *, probing: bool = True, dry: bool = False) -> Plan:
    """Makes the plan of a spec.

    Args:
        spec: what the user asked for.
        registry: the plugins in which names are looked up.
        probing: False if only videos are made: probes are then neither needed nor looked up.
        dry: True for a dry run: what is missing is kept in `Plan.missing` and is no error.

    Raises:
        UsageError: an unknown name, an option or index out of range, or something that this version cannot do.
        PluginError: a plugin breaks its contract.
        MissingError: weights, data, a package or a device are not available, and `dry` is False.
    """
    _check_words(spec)
    gaps = Gaps(collect=dry)
    model = find_measured(spec, registry)
    label, card, adapter = model.entry.label, card_of(model), CalledModel(model)
    weights = gaps.fill("weights", lambda: adapter.weights_id(spec.weights), "")
    needs_image = adapter.needs_image
    typed, (spec, site_notes, chosen) = spec, _fill_site(spec, adapter, card, weights)
    data = data_part(spec, model, registry, needs_image=needs_image)
    probes = probe_parts(spec, registry, adapter) if probing and not spec.is_generation else ()
    guidance = CalledGuidance.of(spec, registry)
    variants = run_variants(spec.variant)
    metrics = metric_parts(spec, registry, spec.task)
    check_columns(metrics)
    sites = choose_sites(adapter, spec.layers)
    found = _find_clips(spec, data, gaps)
    if spec.is_tracking:
        check_data(data, found.first)
    mode = choose_mode(Generate.name if spec.is_generation else spec.mode, found.first)
    settings = choose_settings(spec, adapter, mode, label)
    if spec.is_generation:
        settings = sampling_settings(settings, guidance)
        check_first_image(adapter, model, data, mode, found.first)
    if mode.makes_video and needs_image and not gaps.lack("data"):
        gaps.fill("image", lambda: check_image(model, data, found.first), None)
    names = {probe.entry.name: probe.name for probe in probes}
    with adapter.probe_changes.watch():
        asked = {probe.entry.name: probe.create() for probe in probes}
        model, tracking = follow(spec, model, asked, probes, SiteChoice(sites, settings, variants))
        acting = adapter if tracking is None else CalledModel(model)
        fitted = preflight(acting, asked, sites, mode, found.first, names=names, alone=len(found.clips) == 1)
        readings = readings_of(variants, asked, names)
    hardware = choose_hardware(spec, gaps)
    untracked = gaps.lack("data") and data.entry.name == VIDEO
    own_tracks = mode.has_tracks(found.first) and not untracked
    tracker = None if spec.is_tracking else tracker_part(spec, registry, own_tracks=own_tracks)
    guided = guidance.choose(mark_sites(sites, card))
    _check_model(adapter, replace(settings, guidance=guidance.made), hardware, gaps)
    parts = Parts(model, probes, metrics, data, tracker, guidance.part)
    applied = adapter.own_settings(settings)
    draw = choose_noise_draw(spec, mode, found.reader.noise_draw)
    selection = Selection(
        found.clips, found.reader.split, fitted, sites, settings, variants, readings, applied, draw, tracking, guided
    )
    origin = None if adapter.adds_noise else gaps.fill("data", found.reader.origin, None)
    pictures = needs_image or not mode.makes_video or found.first is None or found.first.video is not None
    identity = Identity(
        weights,
        gaps.fill("data", lambda: data_identity(data, found.reader), {}),
        gaps.fill("tracker", lambda: tracker_files(tracker), {}),
        computing_versions(model, pictures=pictures),
        tracker_versions(tracker),
    )
    notes = plan_notes(spec, parts, selection, weights, found.first, origin)
    if chosen is not None:
        overlap = describe_overlap(chosen.measured, identity.data, found.clips, chosen.run, parts.data.find_left_out())
        site_notes = (*site_notes, *([overlap] if overlap else []))
    return Plan(
        typed,
        parts,
        selection,
        hardware,
        identity,
        Reference.of(tracker, identity.tracker_versions, found.first),
        (*notes, *site_notes),
        gaps.found,
        origin,
        Live(acting, found.reader, card, guidance.made),
    )


def _fill_site(spec: RunSpec, adapter: CalledModel, card: ModelCard | None, weights: str) -> SitedSpec:
    """Returns the spec with the site of a tracking run, or the layers of a guidance; else the spec itself."""
    if spec.is_generation:
        return SitedSpec(*fill_layers(spec, adapter.sites(), card))
    return fill_site(spec, adapter.sites(), adapter.steps, card, weights) if spec.is_tracking else SitedSpec(spec)


@dataclass(frozen=True)
class _FoundClips:
    """reader: reads the clips. clips: the chosen ids. first: see `first_clip`."""

    reader: ClipReader
    clips: tuple[str, ...]
    first: Clip | None


def _find_clips(spec: RunSpec, data: Part, gaps: Gaps) -> _FoundClips:
    check_limit(spec.limit)
    reader = gaps.fill("data", lambda: ClipReader(data), ClipReader(ABSENT_DATA))
    clips = () if gaps.lack("data") else choose_clips(reader, spec.limit, data.entry.label)
    first = gaps.fill("data", lambda: first_clip(reader, clips), None)
    return _FoundClips(reader, clips, usual_clip(data) if gaps.lack("data") else first)


def _check_model(adapter: CalledModel, settings: RunSettings, hardware: Hardware, gaps: Gaps) -> None:
    """Checks what can be known about the model before its weights are read; raises as the model's own checks."""
    adapter.check_settings(settings)
    gaps.fill("package", lambda: adapter.check_loading(hardware.device, hardware.dtype), None)


def _check_words(spec: RunSpec) -> None:
    """Refuses words that cannot be meant before anything is looked up or imported."""
    check_words(spec)
    if spec.is_generation:
        check_generation_words(spec)
    if spec.mode is not None:
        mode_of(spec.mode)
    check_executor(spec.executor)
