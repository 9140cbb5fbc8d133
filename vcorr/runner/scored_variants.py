"""Which variants a run scores, what its probes have to read for them, and which stored answers serve which variant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vcorr.contract.bases import ProbeBase, with_defaults
from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.protocols import Probe, VariantProbe
from vcorr.contract.records import NO_SITE
from vcorr.contract.variants import DEFAULT_VARIANT, READ_WITH, SWITCHES_PAGE, VARIANTS, NamedVariant, PredictionKind

BOTH = "both"
"""In place of a variant: all of `VARIANTS`."""

SCORED_WITH = frozenset({"time_map", "pooling"})
"""The switches that change how stored answers are scored."""

Readings = Mapping[str, tuple[NamedVariant, ...]]
"""By the name of each probe the variants it is asked under."""


def run_variants(text: str) -> tuple[NamedVariant, ...]:
    """The variants that `--set variant=` means: names by comma, "both", switches after a plus.

    The order is that of `VARIANTS`, those with flipped switches behind, so that it does not matter how it was written.

    Raises:
        UsageError: an unknown variant, switch or value, or none.
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


def readings_of(variants: Sequence[NamedVariant], probes: Mapping[str, Probe]) -> Readings:
    """Under which variants each probe has to be asked, so that all `variants` can be scored.

    Variants that differ only in what the scoring does share a reading.

    Raises:
        UsageError: a probe that answers in `corrected` alone, options that make no sense under a variant, or a switch
            that nothing in the run depends on.
    """
    check_used(variants, {_kind(probe.answers) for probe in probes.values() if isinstance(probe, VariantProbe)})
    return {name: _readings(name, probe, variants) for name, probe in probes.items()}


def serves(kind: str, layer: int, read: NamedVariant, variant: NamedVariant) -> bool:
    """Whether answers that were read under one variant can be scored under another.

    Those of no attention site depend on no variant.
    """
    return layer == NO_SITE or read.agrees(variant, READ_WITH[_kind(kind)])


def kinds_at_sites(answers: Iterable[tuple[str, int]]) -> set[PredictionKind]:
    """Of the (kind, layer) of stored answers, the kinds that were read at attention sites."""
    return {_kind(kind) for kind, layer in answers if layer != NO_SITE}


def _readings(name: str, probe: Probe, variants: Sequence[NamedVariant]) -> tuple[NamedVariant, ...]:
    if not isinstance(probe, VariantProbe):
        return _require_corrected(name, variants)
    names = READ_WITH[_kind(probe.answers)]
    found: list[NamedVariant] = []
    for variant in variants:
        if not any(variant.agrees(other, names) for other in found):
            found.append(variant.only(names))
    with_defaults(probe, ProbeBase).check_variants([variant.values for variant in found])
    return tuple(found)


def _require_corrected(name: str, variants: Sequence[NamedVariant]) -> tuple[NamedVariant, ...]:
    everything = frozenset().union(*READ_WITH.values())
    for variant in variants:
        if not variant.agrees(DEFAULT_VARIANT, everything):
            raise UsageError(
                f"Probe {name!r} cannot answer under variant {variant.text!r}: it answers in 'corrected' alone.",
                hint="Its plugin gives it the method read_each (docs/plugins.md), or leave it out of --probe.",
            )
    return (DEFAULT_VARIANT,)


def check_used(variants: Iterable[NamedVariant], kinds: Iterable[PredictionKind]) -> None:
    """Refuses a flipped switch that changes nothing: its rows would differ from the variant's in name alone.

    Args:
        variants: what is to be scored.
        kinds: of the answers that were read at attention sites, or will be.

    Raises:
        UsageError: a variant has such a switch.
    """
    used = SCORED_WITH.union(*(READ_WITH[kind] for kind in kinds))
    for variant in variants:
        for name in variant.flipped:
            if name not in used:
                raise UsageError(
                    f"The switch {name!r} of variant {variant.text!r} changes nothing in this run: no probe of it "
                    f"depends on {name!r}.",
                    hint=f"Switches that do something here: {', '.join(sorted(used))}. {SWITCHES_PAGE}",
                )


def _kind(text: str) -> PredictionKind:
    return "rows" if text == "rows" else "positions"
