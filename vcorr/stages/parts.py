"""From names to parts: models, probes, metrics and trackers, each with the options that the spec gives it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vcorr.bases import TrackerBase, with_defaults
from vcorr.entries import Entry
from vcorr.errors import UsageError, unknown_name
from vcorr.modes import RunMode
from vcorr.protocols import VideoModel
from vcorr.records import Clip
from vcorr.registry import Registered, Registry
from vcorr.spec import RunSpec, make_config
from vcorr.store.fingerprint import plain

DEFAULT_TRACKER = "dis"


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


def model_part(spec: RunSpec, registry: Registry) -> Part:
    """The model with its options."""
    if not spec.model:
        raise UsageError("No model was named.", hint="For example: vcorr run --model tiny --probe qk")
    registered = registry.models.get(spec.model)
    options = dict(spec.options.get("model", {}))
    for flag in ("offload", "vae_tiling"):
        if getattr(spec, flag):
            options[flag] = True
    return make_part(registered, options, "model")


def tracker_part(spec: RunSpec, registry: Registry, mode: RunMode, first: Clip | None) -> Part | None:
    """The tracker that was named; none where the videos come with tracks of their own, else the default one."""
    if spec.tracker is None and mode.has_tracks(first):
        return None
    return make_part(registry.trackers.get(spec.tracker or DEFAULT_TRACKER), spec.options.get("tracker", {}), "tracker")


def tracker_files(tracker: Part | None) -> Mapping[str, Any]:
    """What identifies the files behind a tracker; raises `MissingError` when they are not in reach."""
    return dict(plain(with_defaults(tracker.create(), TrackerBase).identity())) if tracker else {}


def metric_parts(spec: RunSpec, registry: Registry) -> tuple[Part, ...]:
    """The metrics asked for, or all that are on by default; an option reaches every metric that has it."""
    names = spec.metric_names or tuple(r.entry.name for r in registry.metrics.all() if r.entry.default)
    return _shared_options([registry.metrics.get(n) for n in names], spec.options.get("metric", {}), "metric")


def probe_parts(spec: RunSpec, registry: Registry, adapter: VideoModel) -> tuple[Part, ...]:
    """The probes a spec names, with their options; none for a model that answers directly.

    Raises:
        UsageError: none is named, or an unknown one or an option that none of them has.
    """
    found = [registry.probes.get(name) for name in spec.probes]
    if not adapter.sites():
        return ()  # answers directly: there is no attention to read
    if not found:
        names = ", ".join(registry.probes.names())
        raise UsageError("No probe was named.", hint=f"For example: --probe qk. Probes: {names}")
    return _shared_options(found, spec.options.get("probe", {}), "probe")


def make_part(registered: Registered[Any], options: Mapping[str, Any], part: str) -> Part:
    """A component with its options; `part` is what they begin with, "model" say."""
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
