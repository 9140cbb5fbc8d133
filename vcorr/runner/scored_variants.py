"""Decides which variants a run scores, what probes read for them, and which variants a stored prediction serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vcorr.contract.bases import ProbeBase, with_defaults
from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.part_calls import PartName
from vcorr.contract.protocols import Probe, VariantProbe
from vcorr.contract.records import NO_SITE
from vcorr.contract.variants import DEFAULT_VARIANT, READ_WITH, SWITCHES_PAGE, VARIANTS, NamedVariant, PredictionKind

BOTH = "both"
"""A word for all of `VARIANTS`."""

SCORED_WITH = frozenset({"time_map", "pooling"})
"""The switches that change how stored predictions are scored."""

Readings = Mapping[str, tuple[NamedVariant, ...]]
"""The variants that each probe is asked under, by the name of the probe."""


def run_variants(text: str) -> tuple[NamedVariant, ...]:
    """Returns the variants that `--set variant=` names: names separated by commas, "both", switches after a plus.

    They come in the order of `VARIANTS`, variants with flipped switches last. So the order in the text does not matter.

    Raises:
        UsageError: an unknown variant, switch or value, or an empty text.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("No variant was named.", hint=f"For example: --set variant={BOTH}. {SWITCHES_PAGE}")
    spelled = [one for name in names for one in (VARIANTS if name == BOTH else [name])]
    presets = list(VARIANTS)
    found = {_parse(name) for name in spelled}
    return tuple(sorted(found, key=lambda v: (bool(v.switches), presets.index(v.base), v.switches)))


def _parse(name: str) -> NamedVariant:
    base, plus, flips = (part.strip() for part in name.partition("+"))
    if base == BOTH:
        both = ",".join(f"{preset}{plus}{flips}" for preset in VARIANTS)
        raise UsageError(
            f"{BOTH!r} stands for {' and '.join(VARIANTS)}: it cannot have switches flipped, as in {name!r}.",
            hint=f"Write them out: --set variant={both}",
        )
    if base not in VARIANTS:
        hint = f"For example: --set variant={BOTH}, or corrected+time_map=stretched. {SWITCHES_PAGE}"
        raise unknown_name("variant", base, [*VARIANTS, BOTH], hint=hint)
    return NamedVariant.parse(name)


def readings_of(
    variants: Sequence[NamedVariant], probes: Mapping[str, Probe], names: Mapping[str, PartName] | None = None
) -> Readings:
    """Returns the variants that each probe must be asked under, so that all `variants` can be scored.

    Variants that differ only in their scoring share one reading. names: what messages call the probes, by name.

    Raises:
        UsageError: a probe that knows only `corrected` is asked for another variant. An option of a probe makes no
            sense under a variant. Or a switch changes nothing in the run.
    """
    check_used(variants, {_kind(probe.answers) for probe in probes.values() if isinstance(probe, VariantProbe)})
    named = names or {}
    return {
        name: _readings(named.get(name, PartName(f"probe {name!r}")), name, probe, variants)
        for name, probe in probes.items()
    }


def serves(kind: str, layer: int, read: NamedVariant, variant: NamedVariant) -> bool:
    """Returns whether predictions that were read under the variant `read` can be scored under `variant`.

    Predictions without an attention site depend on no variant.
    """
    return layer == NO_SITE or read.agrees(variant, READ_WITH[_kind(kind)])


def kinds_at_sites(predictions: Iterable[tuple[str, int]]) -> set[PredictionKind]:
    """Returns the kinds of the predictions that were read at attention sites. predictions: (kind, layer) of each."""
    return {_kind(kind) for kind, layer in predictions if layer != NO_SITE}


def _readings(part: PartName, name: str, probe: Probe, variants: Sequence[NamedVariant]) -> tuple[NamedVariant, ...]:
    if not isinstance(probe, VariantProbe):
        return _require_corrected(name, variants)
    names = READ_WITH[_kind(probe.answers)]
    found: list[NamedVariant] = []
    for variant in variants:
        if not any(variant.agrees(other, names) for other in found):
            found.append(variant.only(names))
    with part.calling("check_variants()"):
        with_defaults(probe, ProbeBase).check_variants([variant.values for variant in found])
    return tuple(found)


def _require_corrected(name: str, variants: Sequence[NamedVariant]) -> tuple[NamedVariant, ...]:
    everything = frozenset().union(*READ_WITH.values())
    for variant in variants:
        if not variant.agrees(DEFAULT_VARIANT, everything):
            raise UsageError(
                f"Probe {name!r} cannot predict under variant {variant.text!r}: it knows only 'corrected'.",
                hint="Leave it out of --probe, or give it the method read_each (docs/plugins.md).",
            )
    return (DEFAULT_VARIANT,)


def check_used(variants: Iterable[NamedVariant], kinds: Iterable[PredictionKind]) -> None:
    """Refuses a flipped switch that changes nothing: only the name of the variant would differ in its rows.

    Args:
        variants: the variants to score.
        kinds: the kinds of predictions that were read at attention sites, or will be.

    Raises:
        UsageError: a variant has such a switch.
    """
    used = SCORED_WITH.union(*(READ_WITH[kind] for kind in kinds))
    for variant in variants:
        for name in variant.flipped:
            if name not in used:
                raise UsageError(
                    f"The switch {name!r} of variant {variant.text!r} changes nothing in this run: none of its probes "
                    f"depends on {name!r}.",
                    hint=f"Switches that do something here: {', '.join(sorted(used))}. {SWITCHES_PAGE}",
                )


def _kind(text: str) -> PredictionKind:
    return "rows" if text == "rows" else "positions"
