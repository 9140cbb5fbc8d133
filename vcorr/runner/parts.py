"""Looks up the model, the probes, the metrics and the tracker of a run, each with its options from the spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vcorr.contract.cards import load_card
from vcorr.contract.entries import Entry, ModelEntry, TrackerEntry
from vcorr.contract.errors import PluginError, UsageError, unknown_name
from vcorr.contract.option_notes import find_later
from vcorr.contract.part_calls import PartName
from vcorr.contract.protocols import VideoModel
from vcorr.contract.records import ModelCard
from vcorr.contract.tasks import CORRESPONDENCE
from vcorr.plugins.model_names import find_model, lacks_text
from vcorr.plugins.option_places import find_option_places, say_places
from vcorr.plugins.part_options import make_config
from vcorr.plugins.registry import Registered, Registry
from vcorr.plugins.suggestions import typical_probe
from vcorr.runner.spec import RunSpec
from vcorr.store.fingerprint import plain, plain_options
from vcorr.testing.members import missing_members

DEFAULT_TRACKER = "dis"


@dataclass(frozen=True)
class Part:
    """A component with its options, as plain data.

    entry: the entry that the plugin returned. plugin: the distribution that the entry comes from, with its version.
    """

    entry: Entry
    plugin: str
    config: Any

    @property
    def name(self) -> PartName:
        """What messages call the component."""
        return PartName(self.entry.label, self.plugin)

    def create(self) -> Any:
        """Makes a new instance; the first call imports the code of the component.

        Raises:
            PluginError: its code raises, or makes an object without the members of its kind.
        """
        with self.name.calling(f"its factory {self.entry.factory}"):
            made = self.entry.create(self.config)
            missing = missing_members(made, self.entry.kind)
            if missing:
                raise PluginError(
                    f"{self.name} is no {self.entry.kind}: its object of type {type(made).__name__} lacks "
                    f"{', '.join(missing)}.",
                    hint="docs/plugins.md has the members of every kind.",
                )
        return made

    def identity(self) -> dict[str, Any]:
        """Returns what a fingerprint covers: name, version and options.

        Options that came later are left out at their defaults, so that earlier runs keep their fingerprints.
        """
        config = plain_options(self.config, self.entry.name)
        return {"name": self.entry.name, "version": self.entry.version, "config": config}

    def find_left_out(self) -> dict[str, Any]:
        """Returns the options that `identity` leaves out, which records and tables still show."""
        return {name: plain(getattr(self.config, name), name) for name in sorted(find_later(self.config))}


@dataclass(frozen=True)
class Parts:
    """The components of a run.

    probes: none for a model that predicts without attention. tracker: None if the dataset's own tracks are the
    reference. guidance: None for none.
    """

    model: Part
    probes: tuple[Part, ...]
    metrics: tuple[Part, ...]
    data: Part
    tracker: Part | None
    guidance: Part | None = None

    @property
    def licence(self) -> str:
        """Licence of the tracker, which applies to its tracks; "" for the dataset's own tracks."""
        entry = self.tracker.entry if self.tracker else None
        return entry.licence if isinstance(entry, TrackerEntry) else ""

    @property
    def notice(self) -> str:
        """Notice that the tracker's plugin shows in every run; "" for none. In tracking, the tracker is the model."""
        entries = (part.entry for part in (self.tracker, self.model) if part is not None)
        return next((entry.notice for entry in entries if isinstance(entry, TrackerEntry)), "")

    def plugins(self) -> dict[str, str]:
        """Returns the distribution that each part comes from, by the label of the part."""
        others = [part for part in (self.tracker, self.guidance) if part is not None]
        parts = [self.model, self.data, *self.probes, *self.metrics, *others]
        return {part.entry.label: part.plugin for part in parts}


def model_part(spec: RunSpec, registry: Registry) -> Part:
    """Returns the model with its options.

    Raises:
        UsageError: no model is named, or an unknown one, or an option that it does not have.
    """
    if not spec.model:
        raise UsageError("No model was named.", hint="For example: vcorr run --model tiny --probe qk")
    registered = find_model(spec.model, registry)
    entry, options = registered.entry, dict(spec.options.get("model", {}))
    if entry.takes and not entry.options:
        raise lacks_text(entry)
    if entry.takes in options:
        raise UsageError(
            f"model.{entry.takes} is the text after the colon in --model {entry.name}.",
            hint=f"Leave out --set model.{entry.takes}={options[entry.takes]}.",
        )
    options |= entry.options
    for flag in ("offload", "vae_tiling"):
        if getattr(spec, flag):
            options[flag] = True
    return make_part(registered, options, "model")


def card_of(model: Part) -> ModelCard | None:
    """Reads the model's card; None for a model without one.

    Raises:
        PluginError: the card cannot be read or is not valid.
    """
    entry = model.entry
    if not isinstance(entry, ModelEntry) or not entry.card:
        return None
    with model.name.calling("its card"):
        return load_card(entry.card, entry.label)


def tracker_part(spec: RunSpec, registry: Registry, *, own_tracks: bool) -> Part | None:
    """Returns the tracker that the spec names.

    Without a name: None if the clips have tracks of their own in this mode (`own_tracks`), or the default tracker.

    Raises:
        UsageError: an unknown name or option, or options of a tracker where none is used.
    """
    options = spec.options.get("tracker", {})
    if spec.tracker is None and own_tracks:
        if options:
            raise UsageError(
                f"tracker.{next(iter(options))} is set, but no tracker is used: the data has its own tracks.",
                hint="Leave it out, or name a tracker: --set tracker=dis",
            )
        return None
    return make_part(registry.trackers.get(spec.tracker or DEFAULT_TRACKER), options, "tracker")


def metric_parts(spec: RunSpec, registry: Registry, task: str = CORRESPONDENCE) -> tuple[Part, ...]:
    """Returns the metrics that the spec names, or all default ones of the task.

    An option reaches every metric that has it.

    Raises:
        UsageError: an unknown name or option, or a metric of another task.
    """
    own = [r.entry for r in registry.metrics.all() if r.entry.task == task]
    names = tuple(dict.fromkeys(spec.metric_names)) or tuple(entry.name for entry in own if entry.default)
    found = [registry.metrics.get(name) for name in names]
    for other in (registered.entry for registered in found if registered.entry.task != task):
        raise UsageError(
            f"Metric {other.name!r} is for runs of the task {other.task}; this run is of the task {task}.",
            hint=f"Metrics of this task: {', '.join(entry.name for entry in own)}",
        )
    return _share_options(found, spec.options.get("metric", {}), "metric")


def probe_parts(spec: RunSpec, registry: Registry, adapter: VideoModel) -> tuple[Part, ...]:
    """Returns the probes that a spec names, with their options; none for a model that predicts without attention.

    Raises:
        UsageError: no probe is named, or an unknown one, or an option that none of the probes has.
    """
    found = [registry.probes.get(name) for name in spec.probes]
    sites = adapter.sites()
    if not sites:
        return ()  # the model predicts by itself: there is no attention to read
    if not found:
        names = ", ".join(registry.probes.names())
        example = typical_probe(sites)
        raise UsageError("No probe was named.", hint=f"For example: --probe {example}. Probes: {names}")
    return _share_options(found, spec.options.get("probe", {}), "probe")


def make_part(registered: Registered[Any], options: Mapping[str, Any], part: str) -> Part:
    """Returns a component with its options. part: the first word of the option names, e.g. "model"."""
    with registered.part_name.calling("its options"):
        config = make_config(registered.entry.config_type(), options, part)
    return Part(registered.entry, registered.source.label, config)


def _share_options(found: Sequence[Registered[Any]], options: Mapping[str, Any], part: str) -> tuple[Part, ...]:
    parts: list[Part] = []
    used: set[str] = set()
    for registered in found:
        with registered.part_name.calling("its options"):
            config_type = registered.entry.config_type()
        names = {f.name for f in dataclasses.fields(config_type)} if config_type else set()
        own = {k: v for k, v in options.items() if k.split(".")[0] in names}
        used |= own.keys()
        parts.append(make_part(registered, own, part))
    for key in options:
        if key not in used:
            known = sorted(
                {f"{part}.{f.name}" for p in parts if p.config is not None for f in dataclasses.fields(p.config)}
            )
            hint = f"Options here: {', '.join(known) or 'none'}."
            if places := find_option_places(key):
                raise UsageError(f"Unknown option {f'{part}.{key}'!r}.{say_places(places)}", hint=hint)
            raise unknown_name("option", f"{part}.{key}", known, hint=hint)
    return tuple(parts)
