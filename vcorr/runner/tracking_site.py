"""Chooses the site of a tracking run: from flags, from a run that chose it, or from the card of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from vcorr.contract.errors import UsageError
from vcorr.contract.records import ModelCard, Site
from vcorr.plugins.suggestions import typical_probe
from vcorr.runner.chosen_site import ChosenSite, read_chosen_site
from vcorr.runner.spec import RunSpec

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
    """Fields of the spec that are filled in, and from where: the words of the note, by their source."""

    values: dict[str, Any] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)

    def take(self, name: str, value: Any, source: str, words: str) -> None:
        self.values[name] = value
        self.words.setdefault(source, []).append(words)

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(f"{', '.join(words)}: from {source}." for source, words in self.words.items())


def fill_site(spec: RunSpec, sites: Sequence[Site], steps: int, card: ModelCard | None, weights: str) -> SitedSpec:
    """Returns the spec of a tracking run with its site filled in; flags win over a run, and a run over the card.

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
    chosen = None if spec.from_run is None else read_chosen_site(spec, weights)
    filling = _Filling()
    if chosen is not None:
        _fill_from_run(filling, spec, chosen)
    named = replace(spec, **filling.values)
    _fill_from_card(filling, named, sites, steps, card)
    filled = replace(spec, **filling.values)
    return SitedSpec(filled, (*filling.notes, *(chosen.notes if chosen else ())), chosen)


def _check_single(spec: RunSpec) -> None:
    if len(spec.probes) > 1:
        raise UsageError(
            f"--probe {spec.probe}: a tracking run reads one probe.", hint="Run the command once for each probe."
        )


def _fill_from_run(filling: _Filling, spec: RunSpec, chosen: ChosenSite) -> None:
    """Fills in what the run chose and no flag names. Options that were typed win."""
    source = f"run {chosen.run}"
    if not spec.probe:
        filling.take("probe", chosen.probe, source, f"probe {chosen.probe}")
    if spec.layers == ALL and chosen.layers:
        text = ",".join(map(str, chosen.layers))
        filling.take("layers", text, source, f"layer {text}")
    if spec.steps is None and chosen.step is not None:
        filling.take("steps", str(chosen.step), source, f"step {chosen.step}")
        if spec.num_steps is None:
            filling.values["num_steps"] = chosen.num_steps
    options = {part: dict(values) for part, values in spec.options.items()}
    for part, found in (("probe", chosen.probe_options), ("track", chosen.track_options)):
        new = {name: value for name, value in found.items() if name not in options.get(part, {})}
        if new:
            options[part] = {**new, **options.get(part, {})}
            words = ", ".join(f"{part}.{name}={_show(value)}" for name, value in new.items())
            filling.take("options", options, source, words)


def _fill_from_card(
    filling: _Filling, spec: RunSpec, sites: Sequence[Site], steps: int, card: ModelCard | None
) -> None:
    """Fills in from the card what is still open; the probe and the step have a default, the layer has none."""
    named = _read_card(card)
    source = "the model's card" + (f" ({named['source']})" if named.get("source") else "")
    if not spec.probe:
        probe = str(named.get("probe") or typical_probe(sites))
        filling.take("probe", probe, source if "probe" in named else "the default", f"probe {probe}")
    probe = spec.probe or filling.values["probe"]
    if spec.layers == ALL and probe != "latent":
        layers = named.get("layers")
        if not layers:
            raise _no_layer(spec, probe, len(sites))
        text = ",".join(map(str, layers))
        filling.take("layers", text, source, f"layer {text}")
    if spec.steps is None and steps:
        step = str(named.get("step", _LAST))
        filling.take("steps", step, source if "step" in named else "the default", f"step {step}")


def _read_card(card: ModelCard | None) -> Mapping[str, Any]:
    """Returns the site that a card names for tracking, or else the first layer that others found to match."""
    extra = {} if card is None else card.extra
    if extra.get("tracking"):
        return dict(extra["tracking"])
    for found in extra.get("matching_layers") or ():
        return {"layers": found["layers"][:1], "source": found["source"]}
    return {}


def _no_layer(spec: RunSpec, probe: str, count: int) -> UsageError:
    model = spec.model
    return UsageError(
        f"No layer of model {model!r} was named, and its card names none.",
        hint=f"Write --layers L (0 to {count - 1}), or let a run choose it: vcorr run --model {model} --probe {probe} "
        "--data sprites, then --from RUN",
    )


def _show(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
