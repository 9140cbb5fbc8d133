"""Looks up the model that a command names, with its probe and site, where no run is stored."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.errors import UsageError
from vcorr.contract.modes import Renoise, RunMode, mode_of
from vcorr.contract.records import RunSettings, Site
from vcorr.plugins.registry import Registry
from vcorr.runner.called_model import CalledModel
from vcorr.runner.gaps import Gap, Gaps
from vcorr.runner.hardware import Hardware, choose_hardware
from vcorr.runner.parts import Part, card_of, model_part, probe_parts
from vcorr.runner.selection import choose_settings, choose_sites
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import note_random
from vcorr.runner.tracking_site import fill_site
from vcorr.runner.unread_words import refuse_sites


@dataclass(frozen=True)
class SitedModel:
    """A model that was looked up and checked, and where it is read; its weights are not loaded yet.

    spec: with probe, layers and step filled in. part: of the model. model: calls it. weights: their identity. probes:
    none for a model without sites. settings: mode and the one step. notes: sentences on the site and the weights.
    missing: what it lacks, where gaps are collected for a dry run.
    """

    spec: RunSpec
    part: Part
    model: CalledModel
    weights: str
    probes: tuple[Part, ...]
    sites: tuple[Site, ...]
    settings: RunSettings
    hardware: Hardware
    notes: tuple[str, ...]
    missing: tuple[Gap, ...]


def find_sited_model(spec: RunSpec, registry: Registry, *, dry: bool = False) -> SitedModel:
    """Returns the model that a spec names, with probe, layers and step from flags, a run, a preset or the card.

    dry: whether what is missing is kept in `SitedModel.missing`, and is no error.

    Raises:
        UsageError: a name, an option or an index cannot be used, nothing names a layer, or the model has no site and a
            flag chooses one.
        MissingError: weights, a package or a device are not available.
        PluginError: the model breaks the contract.
    """
    part, gaps = model_part(spec, registry), Gaps(collect=dry)
    model = CalledModel(part)
    weights = gaps.fill("weights", lambda: model.weights_id(spec.weights), "")
    if not model.sites():
        refuse_sites(spec)
    filled, notes, _ = fill_site(spec, model.sites(), model.steps, card_of(part), weights)
    probes = probe_parts(filled, registry, model)
    sites = choose_sites(model, filled.layers)
    settings = choose_settings(filled, model, _choose_mode(filled), part.entry.label)
    hardware = choose_hardware(filled, gaps)
    model.check_settings(settings)
    gaps.fill("package", lambda: model.check_loading(hardware.device, hardware.dtype), None)
    notes = (*notes, *note_random(weights))
    return SitedModel(filled, part, model, weights, probes, sites, settings, hardware, notes, gaps.found)


def _choose_mode(spec: RunSpec) -> RunMode:
    """Returns how the video is brought to the noise of the step; raises UsageError for a mode that makes videos."""
    mode = mode_of(spec.mode or Renoise.name)
    if mode.makes_video:
        raise UsageError(f"--set mode={mode.name} makes videos of its own, and videos are read.", hint="Leave it out.")
    return mode
