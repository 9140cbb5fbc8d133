"""What carries masks in a run of propagation: a tracker, a model without attention sites, or a model at its sites.

Each is a part whose object is a `MaskModel`, so that the stages of a run need not know which one it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vcorr.contract.bases import ProbeBase, with_defaults
from vcorr.contract.errors import UsageError
from vcorr.contract.protocols import Probe
from vcorr.contract.records import RunSettings
from vcorr.contract.variants import DEFAULT_VARIANT
from vcorr.plugins.part_options import make_config
from vcorr.runner.called_model import CalledModel
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.direct_tracker import DirectTracker
from vcorr.runner.followed import FollowedTracker, SiteChoice, check_steps, name_files
from vcorr.runner.parts import Part
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import Propagation
from vcorr.store.fingerprint import plain_options
from vcorr.tracking.propagation_options import PropagationOptions
from vcorr.tracking.track_options import TrackOptions

if TYPE_CHECKING:
    from vcorr.tracking.mask_model import MaskModel


@dataclass(frozen=True)
class CarryingTracker(Part):
    """A tracker whose points move the masks."""

    def create(self) -> MaskModel:
        """Makes the tracker; raises as `Part.create`."""
        from vcorr.tracking.mask_carriers import CarriedByPoints
        from vcorr.tracking.mask_model import MaskModel

        tracker = CalledTracker(Part(self.entry, self.plugin, self.config))
        return MaskModel(CarriedByPoints(tracker), identity=lambda: name_files(tracker))


@dataclass(frozen=True)
class CarryingModel(Part):
    """A model without attention sites. One that compares tokens of pixels carries labels; the others move points."""

    options: PropagationOptions
    settings: RunSettings

    def create(self) -> MaskModel:
        """Makes the model; raises as `Part.create`."""
        from vcorr.tracking.mask_carriers import CarriedByPoints, carry_by_patches
        from vcorr.tracking.mask_model import MaskModel

        model = CalledModel(Part(self.entry, self.plugin, self.config))
        labels = carry_by_patches(model.made, self.options)
        return MaskModel(labels or CarriedByPoints(DirectTracker(model, self.settings)), loaded=model)


@dataclass(frozen=True)
class CarryingSites(Part):
    """A model that carries labels by what its tokens match.

    probe: says what matches. layers: whose affinities are averaged; none for a probe of the latents.
    """

    probe: Part
    layers: tuple[int, ...]
    settings: RunSettings
    options: PropagationOptions
    reading: TrackOptions

    def create(self) -> MaskModel:
        """Makes the model and its probe; raises as `Part.create`, and UsageError for a probe that matches nothing."""
        from vcorr.tracking.mask_carriers import carry_by_sites
        from vcorr.tracking.mask_model import MaskModel

        model = CalledModel(Part(self.entry, self.plugin, self.config))
        carrier = carry_by_sites(model, self.probe.create(), self.layers, self.settings, self.options, self.reading)
        return MaskModel(carrier, lambda: carrier.facts, model)


def carry(
    spec: RunSpec, model: Part, probes: Mapping[str, Probe], parts: Sequence[Part], asked: SiteChoice
) -> tuple[Part, Propagation]:
    """Returns the part that a run of propagation runs, and how it carries masks; arguments as of `followed.follow`.

    Raises:
        UsageError: options where nothing takes them, several steps, or another variant.
    """
    given = {part: dict(spec.options.get(part, {})) for part in ("propagate", "track")}
    if tuple(asked.variants) != (DEFAULT_VARIANT,):
        raise UsageError(
            f"--set variant={spec.variant} does not apply: masks are carried under variant 'corrected' alone.",
            hint="Leave variant out.",
        )
    if isinstance(model, FollowedTracker):
        _refuse(given, ("propagate", "track"), model)
        return CarryingTracker(model.entry, model.plugin, model.config), Propagation({}, {})
    options: PropagationOptions = make_config(PropagationOptions, given["propagate"], "propagate")
    if not asked.sites:
        _refuse(given, ("track",), model)
        made = CarryingModel(model.entry, model.plugin, model.config, options, asked.settings)
        return made, Propagation(plain_options(options, "propagate"), {})
    check_steps(spec, asked.settings)
    reading = make_config(TrackOptions, given["track"], "track")
    (part,), (probe,) = parts, probes.values()
    reads_sites = with_defaults(probe, ProbeBase).answers_per_site(1) > 0
    layers = tuple(site.layer for site in asked.sites) if reads_sites else ()
    sited = CarryingSites(model.entry, model.plugin, model.config, part, layers, asked.settings, options, reading)
    return sited, Propagation(plain_options(options, "propagate"), plain_options(reading, "track"))


def _refuse(given: Mapping[str, Mapping[str, Any]], parts: Sequence[str], model: Part) -> None:
    for part in parts:
        for key in given[part]:
            raise UsageError(
                f"{part}.{key} does not apply: {model.entry.label} has no attention site.", hint="Leave it out."
            )
