"""Loads the model that a command names, with its probe and site, where no run is stored."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.bases import ProbeBase, with_defaults
from vcorr.contract.protocols import Probe, Tracker
from vcorr.contract.records import RunSettings
from vcorr.plugins.part_options import make_config
from vcorr.plugins.registry import Registry
from vcorr.runner.called_model import CalledModel
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.direct_tracker import DirectTracker
from vcorr.runner.parts import make_part
from vcorr.runner.sited_model import find_sited_model
from vcorr.runner.spec import RunSpec
from vcorr.tracking.correspondence import CorrespondenceTracker
from vcorr.tracking.track_options import TrackOptions


@dataclass(frozen=True)
class NamedModel:
    """A loaded model, and where it is read.

    label: as it was typed. weights: identity of the weights. probe: None for a model without sites, and then there are
    no layers. settings: mode and the one step. reading: how videos are cut into passes. notes: sentences on the site.
    """

    model: CalledModel
    label: str
    weights: str
    probe: Probe | None
    layers: tuple[int, ...]
    settings: RunSettings
    reading: TrackOptions
    spec: RunSpec
    notes: tuple[str, ...] = ()

    def as_tracker(self) -> Tracker:
        """Returns the model as a tracker of points.

        Raises:
            UsageError: the probe cannot track.
        """
        if self.probe is None:
            return DirectTracker(self.model, self.settings)
        return CorrespondenceTracker(self.model, self.probe, self.layers, self.settings, self.reading)


def load_tracker(spec: RunSpec, registry: Registry) -> CalledTracker:
    """Returns the tracker that a spec names.

    Raises:
        UsageError: the name or an option is unknown.
        MissingError: weights or a package are not available.
    """
    part = make_part(registry.trackers.get(spec.tracker or ""), spec.options.get("tracker", {}), "tracker")
    tracker = CalledTracker(part)
    tracker.identity()  # says what is missing before a video is read
    return tracker


def load_model(spec: RunSpec, registry: Registry) -> NamedModel:
    """Returns the model that a spec names, loaded, with probe, layers and step from flags, a run or the card.

    Raises:
        UsageError: a name, an option or an index cannot be used.
        MissingError: the weights or a package are not available.
        PluginError: a part breaks its contract.
    """
    found = find_sited_model(spec, registry)
    reading = make_config(TrackOptions, found.spec.options.get("track", {}), "track")
    probe = found.probes[0].create() if found.probes else None
    reads_sites = probe is not None and with_defaults(probe, ProbeBase).answers_per_site(1) > 0
    if probe is not None:
        with_defaults(probe, ProbeBase).check_sites(found.sites)
    found.model.load(found.hardware.device, found.hardware.dtype, found.spec.weights)
    layers = tuple(site.layer for site in found.sites) if reads_sites else ()
    name = found.part.entry.name
    return NamedModel(found.model, name, found.weights, probe, layers, found.settings, reading, found.spec, found.notes)
