"""From a spec to a plan: every name looked up, every index resolved, every fingerprint known, no weights loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from vcorr.bases import ProbeBase, VideoModelBase, with_defaults
from vcorr.capture.needs import check_sites
from vcorr.cards import load_card
from vcorr.datasets.notes import fit_notes
from vcorr.entries import ModelEntry, TrackerEntry
from vcorr.errors import PluginError, UsageError, unknown_name
from vcorr.geometry import TokenGrid
from vcorr.modes import Renoise, RunMode, chosen_mode, mode_of
from vcorr.protocols import Probe, VideoModel
from vcorr.records import NO_SITE, Clip, ModelCard, RunSettings, Site
from vcorr.registry import Registry
from vcorr.spec import RunSpec, chosen_layers, chosen_steps
from vcorr.stages.data import ClipReader, check_image, chosen_clips, data_identity, data_part, first_clip
from vcorr.stages.fit import RESIZE, check_queries_kept
from vcorr.stages.parts import Part, metric_parts, model_part, probe_parts, tracker_files, tracker_part
from vcorr.stages.variants import Readings, readings_of, run_variants
from vcorr.store.fingerprint import fingerprint, plain
from vcorr.store.schema import SCHEMA_VERSION
from vcorr.variants import DEFAULT_VARIANT, NamedVariant

CAPTURE_VERSION = 1
"""Raised when what the recorder hands to probes may change; part of every prediction's fingerprint."""

SCORING_VERSION = 1
"""Raised when floors, ceilings or the time map of the score stage may change."""

_OTHER_DATA = "The data holds prompts or images only: name data with videos, --data NAME (vcorr list datasets)."

NUMERIC_PACKAGES = ("torch", "diffusers", "transformers", "numpy")


@dataclass(frozen=True)
class Plan:
    """A run with nothing left to decide.

    fitted: how clips are brought to the model's size, empty when they have it. tracker: None where the dataset's own
    tracks are the reference. tracker_files: what identifies the files behind the tracker. variants: what is scored.
    readings: by probe, the variants it is asked under.
    """

    spec: RunSpec
    model: Part
    card: ModelCard | None
    adapter: VideoModel
    probes: tuple[Part, ...]
    metrics: tuple[Part, ...]
    variants: tuple[NamedVariant, ...]
    readings: Readings
    data: Part
    dataset: ClipReader
    tracker: Part | None
    tracker_files: Mapping[str, Any]
    clips: tuple[str, ...]
    sites: tuple[Site, ...]
    fitted: str
    settings: RunSettings
    device: str
    device_name: str
    dtype: str
    weights_id: str
    versions: Mapping[str, str]

    @property
    def mode(self) -> RunMode:
        """What the model does with a clip."""
        return mode_of(self.settings.mode)

    @property
    def attention(self) -> str:
        """What the model's tokens can see, for rows that have no site."""
        return self.card.attention if self.card else (self.sites[0].attention if self.sites else "none")

    @property
    def licence(self) -> str:
        """That of the tracker, which its tracks come under; "" for the dataset's own."""
        entry = self.tracker.entry if self.tracker else None
        return entry.licence if isinstance(entry, TrackerEntry) else ""

    @property
    def notice(self) -> str:
        """What the tracker has to say in every run."""
        entry = self.tracker.entry if self.tracker else None
        return entry.notice if isinstance(entry, TrackerEntry) else ""

    @property
    def unused(self) -> str:
        """What was asked for and does not apply to a model that answers directly."""
        if self.sites:
            return ""
        spec = self.spec
        asked = {f"--probe {spec.probe}": spec.probe, f"--layers {spec.layers}": spec.layers != "all"}
        given = [flag for flag, given in asked.items() if given]
        if not given:
            return ""
        verb = "does" if len(given) == 1 else "do"
        return f"{self.model.entry.label} has no layers and answers directly; {' and '.join(given)} {verb} not apply."

    @property
    def layers(self) -> frozenset[int]:
        """The chosen layers."""
        return frozenset(site.layer for site in self.sites)

    def predict_identity(self) -> dict[str, Any]:
        """Everything that can change a prediction. Which clips are run is not part of it: more clips extend a run."""
        return {
            "capture": CAPTURE_VERSION,
            "model": self.model.identity(),
            "weights": self.weights_id,
            "probes": [self._probe_identity(probe) for probe in self.probes],
            "data": data_identity(self.data, self.dataset),
            "resize": RESIZE,
            "sites": [[site.layer, site.name] for site in self.sites],
            "settings": plain(self.settings),
            "device": self.device_name,
            "dtype": self.dtype,
            "versions": dict(self.versions),
        }

    def tracker_identity(self) -> dict[str, Any] | None:
        """What can change the tracks beside the video; None where they are the dataset's own."""
        if self.tracker is None:
            return None
        values = self.tracker.identity()
        return {**values, "config": {**(values["config"] or {}), **self.tracker_files}}

    def _probe_identity(self, probe: Part) -> dict[str, Any]:
        """A probe that is asked under `corrected` alone is what it was before there were others."""
        readings = self.readings[probe.entry.name]
        if readings == (DEFAULT_VARIANT,):
            return probe.identity()
        return {**probe.identity(), "variants": [reading.text for reading in readings]}

    def fingerprints(self) -> dict[str, str]:
        """One a stage. That of the scores covers the predictions' and the tracks'."""
        predict = fingerprint(self.predict_identity())
        track = fingerprint(
            {"predict": predict, "tracker": self.tracker_identity() or "dataset", "layout": SCHEMA_VERSION}
        )
        return {"predict": predict, "track": track, "score": score_fingerprint(track, self.metrics, self.variants)}


def score_fingerprint(track: str, metrics: Sequence[Part], variants: Sequence[NamedVariant]) -> str:
    """The fingerprint of the score stage over tracks and predictions of fingerprint `track`.

    The layout of the tables is part of it: a run never holds rows that lack what its other rows say.
    """
    return fingerprint(
        {
            "track": track,
            "scoring": SCORING_VERSION,
            "layout": SCHEMA_VERSION,
            "metrics": [metric.identity() for metric in metrics],
            "variant": ",".join(variant.text for variant in variants),
        }
    )


def make_plan(spec: RunSpec, registry: Registry, *, probing: bool = True) -> Plan:
    """Resolves a spec.

    Args:
        spec: what was asked for.
        registry: where the names are looked up.
        probing: False for videos alone: no probe is needed then, and those named are not looked at.

    Raises:
        UsageError: an unknown name, an option or index out of range, or something this version cannot do.
        PluginError: a plugin breaks its contract.
        MissingError: weights or data are not in reach.
    """
    _refuse_unavailable(spec)
    model = model_part(spec, registry)
    card = (
        load_card(model.entry.card, model.entry.label)
        if isinstance(model.entry, ModelEntry) and model.entry.card
        else None
    )
    adapter: VideoModel = model.create()
    weights_id = _weights_id(adapter, spec)
    needs_image = bool(with_defaults(adapter, VideoModelBase).needs_image)
    data = data_part(spec, model, registry, needs_image=needs_image)
    probes = probe_parts(spec, registry, adapter) if probing else ()
    variants = run_variants(spec.variant)
    metrics = metric_parts(spec, registry)
    dataset = ClipReader(data.create())
    sites = _sites(adapter, spec.layers, model.entry.label)
    clips = chosen_clips(dataset, spec.limit, data.entry.label)
    first = first_clip(dataset, clips)
    mode = chosen_mode(spec.mode, first)
    steps, num_steps = _chosen_steps(spec, adapter, mode, model.entry.label)
    _check_mode(spec, adapter, mode, model.entry.label)
    if mode.makes_video and needs_image:
        check_image(model, data, first)
    sized = mode.sized(first) if first else None
    made = {part.entry.name: part.create() for part in probes}
    fitted = _preflight(adapter, made, sites, sized, alone=len(clips) == 1)
    if mode.makes_video:
        _check_makes(adapter, sites, sized)
    device, device_name, dtype = chosen_device(spec)
    tracker = tracker_part(spec, registry, mode, first)
    settings = RunSettings(mode.name, steps, num_steps, spec.seed, spec.cfg)
    with_defaults(adapter, VideoModelBase).check_settings(settings)
    return Plan(
        spec=spec,
        model=model,
        card=card,
        adapter=adapter,
        probes=probes,
        metrics=metrics,
        variants=variants,
        readings=readings_of(variants, made),
        data=data,
        dataset=dataset,
        tracker=tracker,
        tracker_files=tracker_files(tracker),
        clips=clips,
        sites=sites,
        fitted=fitted,
        settings=settings,
        device=device,
        device_name=device_name,
        dtype=dtype,
        weights_id=weights_id,
        versions=_versions(),
    )


def _refuse_unavailable(spec: RunSpec) -> None:
    if spec.mode is not None:
        mode_of(spec.mode)  # an unknown word is said before anything is looked up
    if spec.executor != "local":
        raise UsageError(
            f"--executor {spec.executor} is not available in this version.", hint="docs/protocol.md lists what is."
        )


def _preflight(
    adapter: VideoModel,
    made: Mapping[str, Probe],
    sites: Sequence[Site],
    clip: Clip | None,
    *,
    alone: bool,
) -> str:
    """Tries on the first clip what every clip needs, so that a wrong option is one error and not a failure a clip.

    A clip that is itself the reason will fail as a clip, unless it is all there is.

    Returns:
        How the clip is brought to the model's size, for the user; empty when it has that size.
    """
    needs = {name: frozenset(probe.needs) for name, probe in made.items()}
    check_sites(needs, sites, type(adapter).__name__)
    for probe in made.values():
        with_defaults(probe, ProbeBase).check_sites(sites)
    try:
        return "" if clip is None else _fit_of(clip, _common_grid(adapter, sites, clip))
    except UsageError:
        if alone or not _takes_without_video(adapter, sites, clip):
            raise
        return ""


def _fit_of(clip: Clip, grid: TokenGrid) -> str:
    """How the clip is brought to the grid's size.

    Raises:
        UsageError: a query is in a frame that would be cut off.
    """
    if clip.video is not None:
        check_queries_kept(clip, grid.video_frames)
    return " ".join(fit_notes(clip, grid))


def _check_makes(adapter: VideoModel, sites: Sequence[Site], clip: Clip | None) -> None:
    """A size the model cannot make is one error, not a failure a clip."""
    if clip is not None:
        with_defaults(adapter, VideoModelBase).check_makes(_common_grid(adapter, sites, clip))


def _takes_without_video(adapter: VideoModel, sites: Sequence[Site], clip: Clip | None) -> bool:
    """Whether a clip's video is why the model does not take it: its options fit, or it would refuse any clip."""
    if clip is None or clip.video is None:
        return False
    try:
        _common_grid(adapter, sites, replace(clip, video=None, tracks=None))
    except UsageError:
        return False
    return True


def _common_grid(adapter: VideoModel, sites: Sequence[Site], clip: Clip) -> TokenGrid:
    """The grid of the first site, after checking that those of all cover the same pixels and frames."""
    first, *others = [adapter.grid(clip, site) for site in sites] or [adapter.grid(clip, None)]
    for site, grid in zip(sites[1:], others, strict=True):
        if (grid.height, grid.width, grid.video_frames) != (first.height, first.width, first.video_frames):
            raise PluginError(
                f"{type(adapter).__name__}: the grid of {site.name} covers {grid.video_frames} frames of "
                f"{grid.height:g}x{grid.width:g} pixels, that of {sites[0].name} {first.video_frames} of "
                f"{first.height:g}x{first.width:g}.",
                hint="Grids may differ in tokens and stride; a clip has one size.",
            )
    return first


def _weights_id(adapter: VideoModel, spec: RunSpec) -> str:
    return str(with_defaults(adapter, VideoModelBase).weights_id(spec.weights))


def _check_mode(spec: RunSpec, adapter: VideoModel, mode: RunMode, label: str) -> None:
    known = with_defaults(adapter, VideoModelBase).modes
    if mode.name in known:
        return
    others = " or ".join(f"--mode {name}" for name in known)
    raise UsageError(
        f"{label} cannot run in {mode.name} mode.",
        hint=f"It runs with {others}." if spec.mode else _OTHER_DATA,
    )


def _chosen_steps(spec: RunSpec, adapter: VideoModel, mode: RunMode, label: str) -> tuple[tuple[int, ...], int]:
    """The steps to read and how many there are; for a model without noise "no step", and none."""
    usual = int(with_defaults(adapter, VideoModelBase).steps)
    if usual:
        total = usual if spec.num_steps is None else spec.num_steps
        if total < 1:
            raise UsageError(f"num_steps must be at least 1, got {total}.", hint=f"{label} takes {usual} by default.")
        return chosen_steps(spec.steps, total), total
    asked = {
        "--steps": spec.steps is not None,
        "--set num_steps": spec.num_steps is not None,
        f"--mode {mode.name}": not isinstance(mode, Renoise),
    }
    for flag, given in asked.items():
        if given:
            raise UsageError(
                f"{label} adds no noise to a video and removes none: it has no steps and generates nothing.",
                hint=_way_out(flag, spec),
            )
    return (NO_SITE,), 0


def _way_out(flag: str, spec: RunSpec) -> str:
    """How to run a model without noise after all; data without videos asks for generation unasked."""
    if flag.startswith("--mode") and spec.mode is None:
        return _OTHER_DATA
    return f"Leave out {flag}."


def _sites(adapter: VideoModel, layers: str, label: str) -> tuple[Site, ...]:
    sites = tuple(adapter.sites())
    numbers = [site.layer for site in sites]
    if numbers != list(range(len(numbers))):
        raise PluginError(f"{label}: its sites have layers {numbers}; they must count up from 0.")
    if not sites:
        return ()
    return tuple(sites[i] for i in chosen_layers(layers, len(sites)))


def chosen_device(spec: RunSpec) -> tuple[str, str, str]:
    """Device to use, its name for the record and the fingerprint, and the dtype.

    Raises:
        UsageError: there is no such device or dtype.
    """
    import torch

    device = spec.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UsageError(f"--device {device!r} is not a device.", hint="For example: cpu, cuda, cuda:1") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"--device {device}: no CUDA device is available here.", hint="Try --device cpu, or: vcorr doctor"
        )
    name = torch.cuda.get_device_name(device) if kind == "cuda" else kind
    dtype = {"cuda": "bfloat16"}.get(kind, "float32") if spec.dtype == "auto" else spec.dtype
    if dtype not in ("float32", "bfloat16", "float16"):
        raise unknown_name("dtype", dtype, ["auto", "float32", "bfloat16", "float16"])
    return device, name, dtype


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in NUMERIC_PACKAGES}
