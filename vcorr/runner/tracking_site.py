"""Chooses the site of a tracking run: from flags, a run that chose it, a preset, or the card of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from vcorr.contract.errors import UsageError
from vcorr.contract.records import ModelCard, Site
from vcorr.plugins.suggestions import typical_probe
from vcorr.runner.chosen_site import ChosenSite, read_chosen_site
from vcorr.runner.index_lists import resolve_layers
from vcorr.runner.spec import RunSpec
from vcorr.tracking.presets import Preset, find_preset

ALL = "all"
"""The value of `RunSpec.layers` if nothing names a layer."""
_LAST = "last"


class SitedSpec(NamedTuple):
    """A spec with probe, layers and step filled in.

    notes: sentences on where each came from. chosen: what a run chose; None without `--from`.
    """

    spec: RunSpec
    notes: tuple[str, ...] = ()
    chosen: ChosenSite | None = None


@dataclass
class _Filling:
    """A spec whose open fields are filled in. words: what was filled in, by where it comes from."""

    spec: RunSpec
    words: dict[str, list[str]] = field(default_factory=dict)

    def take(self, source: str, words: str, **values: Any) -> None:
        """Sets fields of the spec, and says so."""
        self.spec = replace(self.spec, **values)
        self.words.setdefault(source, []).append(words)

    def take_options(self, source: str, part: str, found: Mapping[str, Any]) -> None:
        """Sets options of a part that have no value yet, and says which."""
        given = self.spec.options.get(part, {})
        new = {name: value for name, value in found.items() if name not in given}
        if new:
            words = ", ".join(f"{part}.{name}={_show(value)}" for name, value in new.items())
            self.take(source, words, options={**self.spec.options, part: {**new, **given}})

    def take_layers(self, source: str, layers: Sequence[int]) -> None:
        """Sets the layers, if there are some and none are named yet."""
        if layers and self.spec.layers == ALL:
            text = ",".join(map(str, layers))
            self.take(source, f"{'layers' if len(layers) > 1 else 'layer'} {text}", layers=text)

    def take_probe(self, source: str, probe: str) -> None:
        """Sets the probe, if none is named yet."""
        if not self.spec.probe:
            self.take(source, f"probe {probe}", probe=probe)

    def take_step(self, source: str, step: str, num_steps: int | None = None) -> None:
        """Sets the step, and the number of steps, if no step is named yet."""
        if self.spec.steps is None:
            total = self.spec.num_steps if num_steps is None else num_steps
            self.take(source, f"step {step}", steps=step, num_steps=total)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(f"From {source}: {', '.join(words)}." for source, words in self.words.items())


def fill_site(spec: RunSpec, sites: Sequence[Site], steps: int, card: ModelCard | None, weights: str) -> SitedSpec:
    """Returns the spec of a tracking run with its site filled in.

    Flags win over a run that chose the site, such a run wins over a preset, and a preset wins over the card.

    Args:
        spec: what the user asked for.
        sites: of the model; the spec stays as it is if there are none.
        steps: number of steps of the model; 0 for a model without noise.
        card: of the model.
        weights: identity of its weights.

    Raises:
        UsageError: nothing names a layer; or several probes or steps are named, or the run cannot choose a site.
        StoreError: there is no such run, or it is damaged.
    """
    _check_single(spec)
    if not sites:
        if spec.from_run is not None or spec.preset is not None:
            flag = "--from" if spec.from_run is not None else "--preset"
            named = f"model {spec.model!r}" if spec.model else f"tracker {spec.tracker!r}"
            raise UsageError(f"{flag} does not apply: {named} has no attention site.", hint=f"Leave {flag} out.")
        return SitedSpec(spec)
    preset = None if spec.preset is None else find_preset(spec.preset)
    asked = spec if preset is None or spec.probe else replace(spec, probe=preset.probe)
    one_head = preset is not None and preset.one_head and "heads" not in spec.options.get("probe", {})
    chosen = None if spec.from_run is None else read_chosen_site(asked, weights, one_head=one_head)
    filling = _Filling(spec)
    if chosen is not None:
        _fill_from_run(filling, chosen, only_heads=preset is not None)
    if preset is not None:
        _fill_from_preset(filling, preset, steps, len(sites))
    _fill_from_card(filling, sites, steps, card)
    return SitedSpec(filling.spec, (*filling.notes, *(chosen.notes if chosen else ())), chosen)


def _check_single(spec: RunSpec) -> None:
    if len(spec.probes) > 1:
        raise UsageError(
            f"--probe {spec.probe}: a tracking run reads one probe.", hint="Run the command once for each probe."
        )


def _fill_from_run(filling: _Filling, chosen: ChosenSite, *, only_heads: bool) -> None:
    """Fills in what the run chose. only_heads: a preset says all options but the heads and the threshold."""
    source = f"run {chosen.run}"
    filling.take_probe(source, chosen.probe)
    filling.take_layers(source, chosen.layers)
    if chosen.step is not None:
        filling.take_step(source, str(chosen.step), chosen.num_steps)
    kept = ("heads", "threshold") if only_heads else (*chosen.probe_options, *chosen.track_options)
    for part, found in (("probe", chosen.probe_options), ("track", chosen.track_options)):
        filling.take_options(source, part, {name: value for name, value in found.items() if name in kept})


def _fill_from_preset(filling: _Filling, preset: Preset, steps: int, sites: int) -> None:
    """Fills in what the preset says; raises UsageError if it needs a head that nothing names.

    steps, sites: numbers of steps and of sites of the model.
    """
    spec, source = filling.spec, f"preset {filling.spec.preset}"
    filling.take_probe(source, preset.probe)
    layer = preset.layer_of(spec.model)
    filling.take_layers(source, () if layer is None else (layer,))
    if steps:
        filling.take_step(source, preset.steps)
    filling.take_options(source, "probe", preset.options_of_probe(spec.model, spec.options.get("probe", {})))
    layers = 1 if filling.spec.layers == ALL else len(resolve_layers(filling.spec.layers, sites))
    tracking = preset.options_of_tracking(spec.model, spec.options.get("track", {}), layers)
    filling.take_options(source, "track", tracking)
    if spec.variant == RunSpec.variant and preset.variant != spec.variant:
        filling.take(source, f"variant {preset.variant}", variant=preset.variant)


def _fill_from_card(filling: _Filling, sites: Sequence[Site], steps: int, card: ModelCard | None) -> None:
    """Fills in from the card what is still open; the probe and the step have a default, the layer has none."""
    named = _read_card(card)
    source = "the model's card" + (f" ({named['source']})" if named.get("source") else "")
    probe = str(named.get("probe") or typical_probe(sites))
    filling.take_probe(source if "probe" in named else "the default", probe)
    if filling.spec.layers == ALL and filling.spec.probe != "latent":
        if not named.get("layers"):
            raise _no_layer(filling.spec, len(sites))
        filling.take_layers(source, named["layers"])
    if steps:
        filling.take_step(source if "step" in named else "the default", str(named.get("step", _LAST)))


def _read_card(card: ModelCard | None) -> Mapping[str, Any]:
    """Returns the site that a card names for tracking, or else the first layer that others found to match."""
    extra = {} if card is None else card.extra
    if extra.get("tracking"):
        return dict(extra["tracking"])
    for found in extra.get("matching_layers") or ():
        return {"layers": found["layers"][:1], "source": found["source"]}
    return {}


def _no_layer(spec: RunSpec, count: int) -> UsageError:
    model, probe = spec.model, spec.probe
    return UsageError(
        f"No layer of model {model!r} was named, and its card names none.",
        hint=f"Write --layers L (0 to {count - 1}), or let a run choose it: vcorr run --model {model} --probe {probe} "
        "--data sprites, then --from RUN",
    )


def _show(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
