"""Makes a plan of a spec: looks up every name and resolves every index, without loading weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from vcorr.contract.bases import VideoModelBase, with_defaults
from vcorr.contract.modes import choose_mode, mode_of
from vcorr.plugins.registry import Registry
from vcorr.runner.executors.table import check_executor
from vcorr.runner.hardware import Hardware, choose_hardware
from vcorr.runner.identity import (
    Identity,
    numeric_versions,
    predict_identity,
    score_fingerprint,
    track_fingerprint,
    tracker_identity,
    tracker_versions,
)
from vcorr.runner.live import Live, make_live, weights_id
from vcorr.runner.parts import Parts, card_of, metric_parts, model_part, probe_parts, tracker_files, tracker_part
from vcorr.runner.preflight import preflight
from vcorr.runner.run_data import ClipReader, check_image, choose_clips, data_identity, data_part, first_clip
from vcorr.runner.scored_variants import readings_of, run_variants
from vcorr.runner.selection import Selection, choose_settings, choose_sites
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
        planned_with: the objects of the process that made the plan; not pickled.
    """

    spec: RunSpec
    parts: Parts
    selection: Selection
    hardware: Hardware
    identity: Identity
    planned_with: Live | None = field(default=None, compare=False, repr=False)

    @cached_property
    def live(self) -> Live:
        """Adapter, dataset and card of this process. A process that did not make the plan makes them once.

        Raises:
            MissingError, PluginError: see `make_live`.
        """
        return self.planned_with or make_live(self.parts, self.spec.weights, self.identity)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name != "live"}
        return {**state, "planned_with": None}

    def with_seed(self, seed: int) -> Plan:
        """Returns the plan with another seed, and with the same live objects."""
        settings = replace(self.selection.settings, seed=seed)
        return replace(self, selection=replace(self.selection, settings=settings), planned_with=self.live)

    @property
    def unused(self) -> str:
        """Note about options that do not apply to a model without layers; "" if there are none."""
        if self.selection.sites:
            return ""
        spec = self.spec
        asked = {f"--probe {spec.probe}": spec.probe, f"--layers {spec.layers}": spec.layers != "all"}
        given = [flag for flag, given in asked.items() if given]
        if not given:
            return ""
        label, verb = self.parts.model.entry.label, "does" if len(given) == 1 else "do"
        return f"{label} has no layers and predicts directly; {' and '.join(given)} {verb} not apply."

    @property
    def beyond_limit(self) -> str:
        """A note if `--limit` is larger than the number of clips; else empty."""
        limit, count = self.spec.limit, len(self.selection.clips)
        if limit is None or limit <= count:
            return ""
        name = self.parts.data.entry.name
        return f"--limit {limit} takes all clips: split {self.selection.split} of {name} has {count}."

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


def make_plan(spec: RunSpec, registry: Registry, *, probing: bool = True) -> Plan:
    """Makes the plan of a spec.

    Args:
        spec: what the user asked for.
        registry: the plugins in which names are looked up.
        probing: False if only videos are made: probes are then neither needed nor looked up.

    Raises:
        UsageError: an unknown name, an option or index out of range, or something that this version cannot do.
        PluginError: a plugin breaks its contract.
        MissingError: weights or data are not available.
    """
    _check_words(spec)
    model = model_part(spec, registry)
    label, card, adapter = model.entry.label, card_of(model), model.create()
    weights = weights_id(adapter, spec.weights)
    needs_image = bool(with_defaults(adapter, VideoModelBase).needs_image)
    data = data_part(spec, model, registry, needs_image=needs_image)
    probes = probe_parts(spec, registry, adapter) if probing else ()
    variants = run_variants(spec.variant)
    metrics = metric_parts(spec, registry)
    dataset = ClipReader(data.create())
    sites = choose_sites(adapter, spec.layers, label)
    clips = choose_clips(dataset, spec.limit, data.entry.label)
    first = first_clip(dataset, clips)
    mode = choose_mode(spec.mode, first)
    settings = choose_settings(spec, adapter, mode, label)
    if mode.makes_video and needs_image:
        check_image(model, data, first)
    asked = {probe.entry.name: probe.create() for probe in probes}
    fitted = preflight(adapter, asked, sites, mode, first, alone=len(clips) == 1)
    readings = readings_of(variants, asked)
    hardware = choose_hardware(spec)
    tracker = tracker_part(spec, registry, mode, first)
    pictures = needs_image or not mode.makes_video or first is None or first.video is not None
    with_defaults(adapter, VideoModelBase).check_settings(settings)
    return Plan(
        spec,
        Parts(model, probes, metrics, data, tracker),
        Selection(clips, dataset.split, fitted, sites, settings, variants, readings),
        hardware,
        Identity(
            weights,
            data_identity(data, dataset),
            tracker_files(tracker),
            numeric_versions(pictures=pictures),
            tracker_versions(tracker),
        ),
        Live(adapter, dataset, card),
    )


def _check_words(spec: RunSpec) -> None:
    """Refuses an unknown mode or executor before anything is looked up or imported."""
    if spec.mode is not None:
        mode_of(spec.mode)
    check_executor(spec.executor)
