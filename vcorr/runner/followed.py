"""What a tracking run follows points with: a tracker, a model that predicts directly, or a model at attention sites.

Each is a part whose object is a `TrackerModel`, so that the stages of a run need not know which one it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from vcorr.contract.bases import ProbeBase, with_defaults
from vcorr.contract.errors import UsageError
from vcorr.contract.protocols import Probe
from vcorr.contract.records import RunSettings, Site
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant
from vcorr.plugins.part_options import make_config
from vcorr.plugins.registry import Registry
from vcorr.runner.called_model import CalledModel
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.parts import Part, make_part, model_part
from vcorr.runner.scored_variants import readings_of
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import Tracking, check_one_named
from vcorr.runner.unread_words import refuse_options
from vcorr.store.fingerprint import LENGTH, fingerprint, plain_options
from vcorr.tracking.track_options import TrackOptions
from vcorr.tracking.tracker_model import DirectModel, Follower, PlainTracker, TrackerModel

_NO_DATA = "For example: --data sprites. Data with tracks: vcorr list datasets"


@dataclass(frozen=True)
class FollowedTracker(Part):
    """A tracker that takes the place of a model."""

    def create(self) -> TrackerModel:
        """Makes the tracker; raises as `Part.create`."""
        tracker = CalledTracker(Part(self.entry, self.plugin, self.config))
        return TrackerModel({DEFAULT_VARIANT: PlainTracker(tracker)}, identity=lambda: name_files(tracker))


@dataclass(frozen=True)
class FollowedModel(Part):
    """A model without attention sites, such as a baseline, that predicts where points are."""

    def create(self) -> TrackerModel:
        """Makes the model; raises as `Part.create`."""
        model = CalledModel(Part(self.entry, self.plugin, self.config))
        return TrackerModel({DEFAULT_VARIANT: DirectModel(model)}, loaded=model)


@dataclass(frozen=True)
class FollowedSites(Part):
    """A model that follows points by what its tokens match.

    probe: says what matches. layers: whose correlations are averaged; none for a probe of the latents. settings: mode
    and the one step. options: chunks and visibility. readings: the variants under which the correlation is read.
    """

    probe: Part
    layers: tuple[int, ...]
    settings: RunSettings
    options: TrackOptions
    readings: tuple[NamedVariant, ...] = (DEFAULT_VARIANT,)

    def create(self) -> TrackerModel:
        """Makes the model and its probe; raises as `Part.create`, and UsageError as `CorrespondenceTracker`."""
        model = CalledModel(Part(self.entry, self.plugin, self.config))
        return TrackerModel({each: self._make(model, each) for each in self.readings}, self.probe.entry.name, model)

    def _make(self, model: CalledModel, reading: NamedVariant) -> Follower:
        """Makes the tracker for one variant. The sampled field of the published code says nothing about visibility."""
        from vcorr.tracking.correspondence import CorrespondenceTracker

        values = reading.values
        options = replace(self.options, visibility="always") if values.readout == "field" else self.options
        return CorrespondenceTracker(model, self.probe.create(), self.layers, self.settings, options, variant=values)


def name_files(tracker: CalledTracker) -> str:
    """Returns what identifies the files of a tracker, as the weights of a model are identified."""
    files = tracker.identity()
    return f"files:{fingerprint(files)[:LENGTH]}" if files else "none"


def find_followed(spec: RunSpec, registry: Registry) -> Part:
    """Returns the model that is read at one site, or the tracker that takes its place.

    Raises:
        UsageError: nothing is named, or a model and a tracker; or an unknown name or option.
    """
    check_one_named(spec)
    if not spec.data:
        raise UsageError("No data was named.", hint=_NO_DATA)
    refuse_options(spec, ("model", "probe") if spec.tracker else ("tracker",))
    if spec.model:
        return model_part(spec, registry)
    found = make_part(registry.trackers.get(spec.tracker or ""), spec.options.get("tracker", {}), "tracker")
    return FollowedTracker(found.entry, found.plugin, found.config)


def follow(
    spec: RunSpec, model: Part, probes: Mapping[str, Probe], parts: Sequence[Part], asked: SiteChoice
) -> tuple[Part, Tracking]:
    """Returns the part that a tracking run runs, and how it follows points.

    Args:
        spec: what the user asked for, with the site filled in.
        model: the model or tracker.
        probes: the probe by its name, if the model has sites.
        parts: its part.
        asked: the sites, the step and the variants of the run.

    Raises:
        UsageError: options of tracking where nothing takes them, or a probe, layers or steps that cannot track.
    """
    given = spec.options.get("track", {})
    if not asked.sites:
        if given:
            said = f"track.{next(iter(given))} does not apply: {model.entry.label} follows points by itself."
            raise UsageError(said, hint="Leave it out.")
        own = model if isinstance(model, FollowedTracker) else FollowedModel(model.entry, model.plugin, model.config)
        return own, Tracking({})
    check_steps(spec, asked.settings)
    options = make_config(TrackOptions, given, "track")
    (part,) = parts
    (probe,) = probes.values()
    reads_sites = with_defaults(probe, ProbeBase).answers_per_site(1) > 0
    layers = tuple(site.layer for site in asked.sites) if reads_sites else ()
    readings = readings_of(asked.variants, probes, {part.entry.name: part.name})[part.entry.name]
    made = FollowedSites(model.entry, model.plugin, model.config, part, layers, asked.settings, options, readings)
    return made, Tracking(plain_options(options, "track"), spec.preset or "")


class SiteChoice(NamedTuple):
    """What `follow` reads: the sites, mode and step, and the variants to score."""

    sites: tuple[Site, ...]
    settings: RunSettings
    variants: tuple[NamedVariant, ...]


def check_steps(spec: RunSpec, settings: RunSettings) -> None:
    """Checks that a run reads one step; raises UsageError if not."""
    if len(settings.steps) > 1:
        raise UsageError(
            f"--steps {spec.steps} names {len(settings.steps)} steps; a {spec.task} run reads one.",
            hint="For example: --steps last",
        )
