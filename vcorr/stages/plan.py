"""From a spec to a plan: every name looked up, every index resolved, every fingerprint known, no weights loaded."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from vcorr.capture.needs import check_sites
from vcorr.cards import load_card
from vcorr.datasets.home import IMPORTS, is_within_reach
from vcorr.datasets.notes import fit_notes
from vcorr.entries import Entry, ModelEntry, TrackerEntry
from vcorr.errors import MissingError, PluginError, UsageError, unknown_name
from vcorr.geometry import TokenGrid
from vcorr.protocols import Dataset, Probe, VideoModel
from vcorr.records import NO_SITE, Clip, Mode, ModelCard, RunSettings, Site
from vcorr.registry import Registered, Registry
from vcorr.spec import DEFAULT_STEPS, RunSpec, default_steps, make_config, parse_indices
from vcorr.stages.fit import RESIZE
from vcorr.stages.variants import Readings, readings_of, run_variants
from vcorr.store.fingerprint import fingerprint, plain
from vcorr.variants import DEFAULT_VARIANT, NamedVariant

CAPTURE_VERSION = 1
"""Raised when what the recorder hands to probes may change; part of every prediction's fingerprint."""

SCORING_VERSION = 1
"""Raised when floors, ceilings or the time map of the score stage may change."""

DEFAULT_TRACKER = "dis"
PROMPTS = "prompts"
PAPER_PROMPTS = "difftrack:cogvideox_t2v_2b/fg"
"""What models without data of their own generate from, once it is imported."""
FOLDER = "folder"
DATA_WITH_PATH = {
    "video": "video:clip.mp4",
    "prompts": "prompts:prompts.txt",
    FOLDER: "folder:built/my-dataset",
    "difftrack": "difftrack:cogvideox_t2v_2b/fg",
}
"""Datasets that `--data NAME:PATH` gives a path, with an example."""

NUMERIC_PACKAGES = ("torch", "diffusers", "transformers", "numpy")


@dataclass(frozen=True)
class Part:
    """A component with the options it was given."""

    registered: Registered[Any]
    config: Any

    @property
    def entry(self) -> Entry:
        """What the plugin said about itself."""
        entry: Entry = self.registered.entry
        return entry

    def create(self) -> Any:
        """A new instance."""
        return self.entry.create(self.config)

    def identity(self) -> dict[str, Any]:
        """What of it goes into a fingerprint."""
        return {"name": self.entry.name, "version": self.entry.version, "config": plain(self.config, self.entry.name)}


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
    dataset: Dataset
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
            "data": _data_identity(self.data, self.dataset),
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
        track = fingerprint({"predict": predict, "tracker": self.tracker_identity() or "dataset"})
        return {"predict": predict, "track": track, "score": score_fingerprint(track, self.metrics, self.variants)}


def score_fingerprint(track: str, metrics: Sequence[Part], variants: Sequence[NamedVariant]) -> str:
    """The fingerprint of the score stage over tracks and predictions of fingerprint `track`."""
    return fingerprint(
        {
            "track": track,
            "scoring": SCORING_VERSION,
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
    data = data_part(spec, model, registry)
    probes = probe_parts(spec, registry, adapter) if probing else ()
    variants = run_variants(spec.variant)
    metrics = metric_parts(spec, registry)
    dataset: Dataset = data.create()
    sites = _sites(adapter, spec.layers, model.entry.label)
    clips = _clips(dataset, spec.limit, data.entry.label)
    first = _first_clip(dataset, clips[0])
    mode = _mode(spec, first)
    steps, num_steps = _chosen_steps(spec, adapter, mode, model.entry.label)
    if mode == "generate":
        _check_image(adapter, model, data, first)
    sized = replace(first, video=None, tracks=None) if first and mode == "generate" else first
    made = {part.entry.name: part.create() for part in probes}
    fitted = _preflight(adapter, probes, made, sites, sized, alone=len(clips) == 1)
    device, device_name, dtype = chosen_device(spec)
    tracker = _tracker_part(spec, registry, mode, first)
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
        tracker_files=_tracker_files(tracker),
        clips=clips,
        sites=sites,
        fitted=fitted,
        settings=RunSettings(mode, steps, num_steps, spec.seed, spec.guidance),
        device=device,
        device_name=device_name,
        dtype=dtype,
        weights_id=weights_id,
        versions=_versions(),
    )


def model_part(spec: RunSpec, registry: Registry) -> Part:
    """The model with its options."""
    if not spec.model:
        raise UsageError("No model was named.", hint="For example: vcorr run --model tiny --probe qk")
    registered = registry.models.get(spec.model)
    options = dict(spec.options.get("model", {}))
    for flag in ("offload", "vae_tiling"):
        if getattr(spec, flag):
            options[flag] = True
    return _part(registered, options, "model")


def data_part(spec: RunSpec, model: Part, registry: Registry) -> Part:
    """The dataset with its options: the one asked for, or the model's own."""
    assert isinstance(model.entry, ModelEntry)
    name, options = _data_name(spec, model.entry), dict(spec.options.get("data", {}))
    if name not in registry.datasets.names() and _is_path(name):
        name = f"{FOLDER}:{name}"
    kind, colon, path = name.partition(":")
    if colon and kind in DATA_WITH_PATH:
        if not path:
            raise UsageError(f"--data {name} names no file.", hint=f"For example: --data {DATA_WITH_PATH[kind]}")
        name, options = kind, {"path": path, **options}
    if spec.prompt is not None:
        options = {"text": spec.prompt, **options}
    return _part(registry.datasets.get(name), options, "data")


def _data_name(spec: RunSpec, entry: ModelEntry) -> str:
    if spec.prompt is not None:
        if spec.data is not None:
            raise UsageError("--prompt and --data exclude each other.", hint="A prompt is a dataset of one clip.")
        return PROMPTS
    if spec.data:
        return spec.data
    return next(name for name in (entry.data, PAPER_PROMPTS, PROMPTS) if name and is_within_reach(name))


def _is_path(name: str) -> bool:
    """Whether `--data` means a folder: names of datasets hold no slash, and what comes after a colon is no folder."""
    return ":" not in name and ("/" in name or os.sep in name or Path(name).is_dir())


def _tracker_part(spec: RunSpec, registry: Registry, mode: Mode, first: Clip | None) -> Part | None:
    """The tracker that was named; none where the videos come with tracks of their own, else the default one."""
    own = mode == "renoise" and (first is None or first.tracks is not None)
    if spec.tracker is None and own:
        return None
    return _part(registry.trackers.get(spec.tracker or DEFAULT_TRACKER), spec.options.get("tracker", {}), "tracker")


def _tracker_files(tracker: Part | None) -> Mapping[str, Any]:
    identify = getattr(tracker.create(), "identity", None) if tracker else None
    return dict(plain(identify())) if identify else {}


def metric_parts(spec: RunSpec, registry: Registry) -> tuple[Part, ...]:
    """The metrics asked for, or all that are on by default; an option reaches every metric that has it."""
    names = spec.metric_names or tuple(r.entry.name for r in registry.metrics.all() if r.entry.default)
    return _shared_options([registry.metrics.get(n) for n in names], spec.options.get("metric", {}), "metric")


def probe_parts(spec: RunSpec, registry: Registry, adapter: VideoModel) -> tuple[Part, ...]:
    """The probes a spec names, with their options; none for a model that answers directly.

    Raises:
        UsageError: none is named, or an unknown one or an option that none of them has.
    """
    if not adapter.sites():
        return ()  # answers directly: there is no attention to read
    if not spec.probes:
        names = ", ".join(registry.probes.names())
        raise UsageError("No probe was named.", hint=f"For example: --probe qk. Probes: {names}")
    return _shared_options([registry.probes.get(n) for n in spec.probes], spec.options.get("probe", {}), "probe")


def _part(registered: Registered[Any], options: Mapping[str, Any], part: str) -> Part:
    return Part(registered, make_config(registered.entry.config_type(), options, part))


def _shared_options(found: Sequence[Registered[Any]], options: Mapping[str, Any], part: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    used: set[str] = set()
    for registered in found:
        config_type = registered.entry.config_type()
        names = {f.name for f in dataclasses.fields(config_type)} if config_type else set()
        own = {k: v for k, v in options.items() if k.split(".")[0] in names}
        used |= own.keys()
        parts.append(Part(registered, make_config(config_type, own, part)))
    for key in options:
        if key not in used:
            known = sorted(
                {f"{part}.{f.name}" for p in parts if p.config is not None for f in dataclasses.fields(p.config)}
            )
            hint = f"Options here: {', '.join(known) or 'none'}."
            raise unknown_name("option", f"{part}.{key}", known, hint=hint)
    return tuple(parts)


def _refuse_unavailable(spec: RunSpec) -> None:
    if spec.mode not in (None, "renoise", "generate"):
        raise unknown_name("mode", str(spec.mode), ["renoise", "generate"])
    if spec.executor != "local":
        raise UsageError(
            f"--executor {spec.executor} is not available in this version.", hint="docs/protocol.md lists what is."
        )


def _first_clip(dataset: Dataset, clip_id: str) -> Clip | None:
    """The first clip, or None when it cannot be loaded: then it will fail as a clip, and the others may not."""
    try:
        return dataset.clip(clip_id)
    except (PluginError, MissingError):
        raise
    except Exception:
        return None


def _preflight(
    adapter: VideoModel,
    probes: Sequence[Part],
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
    for part in probes:
        check = getattr(part.config, "check_sites", None)
        if check is not None:
            check(sites)
    try:
        return "" if clip is None else " ".join(fit_notes(clip, _common_grid(adapter, sites, clip)))
    except UsageError:
        if alone or not _takes_without_video(adapter, sites, clip):
            raise
        return ""


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
    identify = getattr(adapter, "weights_id", None)
    return str(identify(spec.weights)) if identify else spec.weights


def _mode(spec: RunSpec, first: Clip | None) -> Mode:
    """The mode that was named, else renoise where there is a video to add noise to; one frame is an image."""
    has_video = first is None or (first.video is not None and len(first.video) > 1)
    mode = spec.mode or ("renoise" if has_video else "generate")
    if mode == "renoise" and not has_video:
        raise UsageError(
            "--mode renoise needs videos, and this data has prompts or images only.", hint="Leave --mode out."
        )
    return "generate" if mode == "generate" else "renoise"


def _chosen_steps(spec: RunSpec, adapter: VideoModel, mode: Mode, label: str) -> tuple[tuple[int, ...], int]:
    """The steps to read and how many there are; for a model without noise "no step", and none."""
    usual = int(getattr(adapter, "steps", 1))
    if usual:
        total = spec.num_steps or usual
        text = default_steps(total) if spec.steps == DEFAULT_STEPS else spec.steps
        return parse_indices(text, total, "steps"), total
    asked = {
        "--steps": spec.steps != DEFAULT_STEPS,
        "--num-steps": spec.num_steps,
        "--mode generate": mode == "generate",
    }
    for flag, given in asked.items():
        if given:
            raise UsageError(
                f"{label} adds no noise to a video and removes none: it has no steps and generates nothing.",
                hint=f"Leave out {flag}.",
            )
    return (NO_SITE,), 0


def _check_image(adapter: VideoModel, model: Part, data: Part, first: Clip | None) -> None:
    """What an image-to-video model cannot start from is one error, not a failure a clip."""
    if getattr(adapter, "needs_image", False) and first is not None and first.video is None:
        raise MissingError(
            f"{model.entry.label} starts from an image, and {data.entry.label} has none.",
            hint=f"Choose data with images or videos. {IMPORTS['difftrack']}",
        )


def _sites(adapter: VideoModel, layers: str, label: str) -> tuple[Site, ...]:
    sites = tuple(adapter.sites())
    numbers = [site.layer for site in sites]
    if numbers != list(range(len(numbers))):
        raise PluginError(f"{label}: its sites have layers {numbers}; they must count up from 0.")
    if not sites:
        return ()
    if layers.strip() in ("last",) or layers.endswith("-spread"):
        raise UsageError(
            f"--layers {layers!r} cannot be read.", hint="Write indices and ranges such as '1,5-9', or 'all'."
        )
    return tuple(sites[i] for i in parse_indices(layers, len(sites), "layers"))


def _clips(dataset: Dataset, limit: int | None, label: str) -> tuple[str, ...]:
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, got {limit}.")
    ids = tuple(dataset.ids())
    if not ids:
        raise UsageError(f"{label} has no clips.")
    if len(set(ids)) != len(ids):
        raise PluginError(f"{label} names a clip twice.")
    return ids[:limit]


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


def _data_identity(data: Part, dataset: Dataset) -> dict[str, Any]:
    """A dataset's part of the fingerprint. Files are known by their contents, wherever they lie."""
    values = {**data.identity(), "split": dataset.split}
    identify = getattr(dataset, "identity", None)
    if identify is not None:
        values["content"] = plain(identify())
        values["config"] = {k: v for k, v in values["config"].items() if k != "path"}
    return values


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in NUMERIC_PACKAGES}
