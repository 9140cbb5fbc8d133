"""The steps in which a plan is made: each looks up or chooses something, and raises for what cannot be."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.modes import RunMode, choose_mode, mode_of
from vcorr.contract.origins import VideoOrigin
from vcorr.contract.records import Clip, ModelCard, RunSettings, Site
from vcorr.contract.variants import NamedVariant
from vcorr.plugins.registry import Registry
from vcorr.runner.called_model import CalledModel
from vcorr.runner.called_tracker import tracker_files
from vcorr.runner.executors.table import PART, check_executor, find_lack, read_options
from vcorr.runner.followed import SiteChoice
from vcorr.runner.gaps import ABSENT_DATA, Gaps
from vcorr.runner.generation import check_first_image, sampling_settings
from vcorr.runner.guided import CalledGuidance, Guided
from vcorr.runner.hardware import Hardware
from vcorr.runner.held_out import describe_overlap
from vcorr.runner.identity import Identity, computing_versions, tracker_versions
from vcorr.runner.metric_trial import check_columns
from vcorr.runner.parts import Part, Parts, card_of, metric_parts, probe_parts, tracker_part
from vcorr.runner.plan_notes import plan_notes
from vcorr.runner.preflight import preflight
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
from vcorr.runner.run_tasks.run_task import RunTask
from vcorr.runner.run_tasks.task_table import find_task
from vcorr.runner.scored_variants import Readings, readings_of, run_variants
from vcorr.runner.selection import Selection, choose_noise_draw, choose_settings, choose_sites
from vcorr.runner.shared_passes import check_parallel_words
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import Propagation, Tracking, check_data
from vcorr.runner.tracking_site import SitedSpec


def check_all_words(spec: RunSpec) -> None:
    """Refuses words that cannot be meant before anything is looked up or imported."""
    find_task(spec.task).check_words(spec)
    if spec.mode is not None:
        mode_of(spec.mode)
    check_executor(spec.executor)
    check_parallel_words(spec)
    read_options(spec.executor, spec.options.get(PART, {}))


def check_executor_here(spec: RunSpec, gaps: Gaps) -> None:
    """Checks that the executor has what it needs on this machine, before anything is written."""
    if lack := find_lack(spec.executor, spec.options.get(PART, {})):
        gaps.add("executor", lack)


@dataclass(frozen=True)
class FoundModel:
    """The model of a plan. weights: what identifies them. sited: what the user asked for, with its site filled in."""

    part: Part
    card: ModelCard | None
    adapter: CalledModel
    weights: str
    needs_image: bool
    sited: SitedSpec

    @property
    def spec(self) -> RunSpec:
        """What the user asked for, with its site filled in."""
        return self.sited.spec

    @property
    def task(self) -> RunTask:
        """What the run measures."""
        return find_task(self.spec.task)


def find_model(spec: RunSpec, registry: Registry, gaps: Gaps) -> FoundModel:
    """Looks up the model and its weights, and fills in the site of a run that needs one."""
    task = find_task(spec.task)
    part = task.find_measured(spec, registry)
    card, adapter = card_of(part), CalledModel(part)
    weights = gaps.fill("weights", lambda: adapter.weights_id(spec.weights), "")
    needs_image = adapter.needs_image
    return FoundModel(part, card, adapter, weights, needs_image, task.fill_site(spec, adapter, card, weights))


@dataclass(frozen=True)
class FoundClips:
    """reader: reads the clips. ids: of the chosen clips. first: see `first_clip`."""

    reader: ClipReader
    ids: tuple[str, ...]
    first: Clip | None


@dataclass(frozen=True)
class NamedParts:
    """Everything else that the user named, and the clips."""

    data: Part
    probes: tuple[Part, ...]
    guidance: CalledGuidance
    variants: tuple[NamedVariant, ...]
    metrics: tuple[Part, ...]
    sites: tuple[Site, ...]
    clips: FoundClips


def look_up(model: FoundModel, registry: Registry, gaps: Gaps, *, probing: bool, known: Clip | None) -> NamedParts:
    """Looks up data, probes, guidance, variants, metrics, sites and clips. probing, known: as of `make_plan`."""
    spec, task = model.spec, model.task
    data = data_part(spec, model.part, registry, needs_image=model.needs_image)
    probes = probe_parts(spec, registry, model.adapter) if probing and not task.makes_videos else ()
    guidance = CalledGuidance.of(spec, registry)
    variants = run_variants(spec.variant)
    metrics = metric_parts(spec, registry, spec.task)
    check_columns(metrics)
    sites = choose_sites(model.adapter, spec.layers)
    clips = _find_clips(spec, data, gaps, known)
    if task.needs_tracks:
        check_data(data, clips.first)
    return NamedParts(data, probes, guidance, variants, metrics, sites, clips)


def choose_mode_and_settings(model: FoundModel, named: NamedParts, gaps: Gaps) -> tuple[RunMode, RunSettings]:
    """Chooses mode and settings, and checks that there is an image where sampling starts from one."""
    spec, task, first = model.spec, model.task, named.clips.first
    mode = choose_mode(task.choose_mode_word(spec), first)
    settings = choose_settings(spec, model.adapter, mode, model.part.entry.label)
    if task.makes_videos:
        settings = sampling_settings(settings, named.guidance)
        check_first_image(model.adapter, model.part, named.data, mode, first)
    if mode.makes_video and model.needs_image and not gaps.lack("data"):
        gaps.fill("image", lambda: check_image(model.part, named.data, first), None)
    return mode, settings


@dataclass(frozen=True)
class FittedProbes:
    """How the model is read. model: the part that runs. acting: the object that runs. fitted: see `preflight`."""

    model: Part
    acting: CalledModel
    tracking: Tracking | Propagation | None
    fitted: str
    readings: Readings


def fit_probes(model: FoundModel, named: NamedParts, mode: RunMode, settings: RunSettings) -> FittedProbes:
    """Makes the probes, and checks that they can read the sites and that the model takes the first clip."""
    names = {probe.entry.name: probe.name for probe in named.probes}
    with model.adapter.probe_changes.watch():
        asked = {probe.entry.name: probe.create() for probe in named.probes}
        choice = SiteChoice(named.sites, settings, named.variants)
        running, tracking = model.task.choose_acting(model.spec, model.part, asked, named.probes, choice)
        acting = model.adapter if tracking is None else CalledModel(running)
        alone = len(named.clips.ids) == 1
        fitted = preflight(acting, asked, named.sites, mode, named.clips.first, names=names, alone=alone)
        return FittedProbes(running, acting, tracking, fitted, readings_of(named.variants, asked, names))


def find_tracker(spec: RunSpec, registry: Registry, named: NamedParts, mode: RunMode, gaps: Gaps) -> Part | None:
    """Looks up the tracker that makes the reference tracks; None if a run needs none."""
    untracked = gaps.lack("data") and named.data.entry.name == VIDEO
    own_tracks = mode.has_tracks(named.clips.first) and not untracked
    return None if find_task(spec.task).at_one_site else tracker_part(spec, registry, own_tracks=own_tracks)


def check_model(adapter: CalledModel, settings: RunSettings, hardware: Hardware, gaps: Gaps) -> None:
    """Checks what can be known about the model before its weights are read; raises as the model's own checks."""
    adapter.check_settings(settings)
    gaps.fill("package", lambda: adapter.check_loading(hardware.device, hardware.dtype), None)


def select(
    model: FoundModel,
    named: NamedParts,
    reading: FittedProbes,
    mode: RunMode,
    settings: RunSettings,
    guided: Guided | None,
) -> Selection:
    """Returns what was chosen: clips, sites, steps and variants."""
    return Selection(
        clips=named.clips.ids,
        split=named.clips.reader.split,
        fitted=reading.fitted,
        sites=named.sites,
        settings=settings,
        variants=named.variants,
        readings=reading.readings,
        applied=model.adapter.own_settings(settings),
        noise_draw=choose_noise_draw(model.spec, mode, named.clips.reader.noise_draw),
        tracking=reading.tracking,
        guided=guided,
    )


def identify(model: FoundModel, named: NamedParts, parts: Parts, mode: RunMode, gaps: Gaps) -> Identity:
    """Returns what identifies weights, files and packages, for the fingerprints."""
    first = named.clips.first
    pictures = model.needs_image or not mode.makes_video or first is None or first.video is not None
    return Identity(
        model.weights,
        gaps.fill("data", lambda: data_identity(named.data, named.clips.reader), {}),
        gaps.fill("tracker", lambda: tracker_files(parts.tracker), {}),
        computing_versions(parts.model, pictures=pictures),
        tracker_versions(parts.tracker),
    )


def say_notes(
    model: FoundModel,
    named: NamedParts,
    parts: Parts,
    selection: Selection,
    identity: Identity,
    origin: VideoOrigin | None,
) -> tuple[str, ...]:
    """Returns sentences on what was chosen by default, and on what was asked for and does not apply."""
    clips, chosen = named.clips, model.sited.chosen
    notes = (
        *plan_notes(model.spec, parts, selection, model.weights, clips.first, origin),
        *model.sited.notes,
        *named.guidance.say_unguided(selection.settings.num_steps),
    )
    if chosen is None:
        return notes
    overlap = describe_overlap(chosen.measured, identity.data, clips.ids, chosen.run, parts.data.find_left_out())
    return (*notes, overlap) if overlap else notes


def _find_clips(spec: RunSpec, data: Part, gaps: Gaps, known: Clip | None) -> FoundClips:
    check_limit(spec.limit)
    reader = gaps.fill("data", lambda: ClipReader(data), ClipReader(ABSENT_DATA))
    ids = () if gaps.lack("data") else choose_clips(reader, spec.limit, data.entry.label)
    first = gaps.fill("data", lambda: first_clip(reader, ids, known), None)
    return FoundClips(reader, ids, usual_clip(data) if gaps.lack("data") else first)
