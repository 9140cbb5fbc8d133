"""The two variants of every measure, and the switches they are made of (docs/switches.md)."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from vcorr.contract.errors import UsageError, unknown_name

SWITCHES_PAGE = "docs/switches.md says what each switch does."


@dataclass(frozen=True)
class Switches:
    """Where the published DiffTrack code and the corrected protocol differ; each can be flipped alone.

    The first value of every field is the corrected one. Source of the second: DiffTrack (arXiv 2506.17220), its public
    code.

    Args:
        readout: "token": query + motion of its token's best match. "field": the best matches of all tokens of frame 1
            as a field of integer positions, sampled bilinearly at the query with a margin and zeros outside.
        time_map: "centres": linear between the frame times of the latents' centres, the query frame answers the query.
            "stretched": the latents stretched over the frames, as resizing an image with align_corners=False does.
        lookup: "own": attention rows of the token under the query. "exchanged": rounded (half to even) and with x taken
            for the row and y for the column.
        pooling: What is pooled over. "queries": points visible in the query frame, real text tokens, table cells that
            are not NaN; the query frame itself does not count. "everything": all points and all frames of the
            matching accuracy, whose distances are rounded to float32, all points of the confidence score (one that is
            never seen again as 0), padded text; one NaN zeroes the table of harmonic means.
        second_softmax: False: float32 and one softmax. True: the correlation and a second softmax of it in the
            tensors' own dtype, in whose rounding flat rows become ties that the first token wins.
        scale: Of the dot products, where none is given. "width": 1/sqrt(d). "heads": 1/sqrt(H), in the published code's
            TAP-Vid path alone.
        guidance_mask: "before": cross-frame attention is masked before the softmax. "after": the weights are
            multiplied by the mask and not normalised again.
    """

    readout: Literal["token", "field"] = "token"
    time_map: Literal["centres", "stretched"] = "centres"
    lookup: Literal["own", "exchanged"] = "own"
    pooling: Literal["queries", "everything"] = "queries"
    second_softmax: bool = False
    scale: Literal["width", "heads"] = "width"
    guidance_mask: Literal["before", "after"] = "before"

    def __post_init__(self) -> None:
        for name, known in switch_values().items():
            value = getattr(self, name)
            if value not in known:
                choices = " or ".join(repr(choice) for choice in known)
                raise UsageError(f"Switches: {name} must be {choices}, got {value!r}.")


@functools.cache
def switch_values() -> dict[str, tuple[Any, ...]]:
    """The values every switch can have, by its name, the corrected one first."""
    hints = get_type_hints(Switches)
    return {field.name: get_args(hints[field.name]) or (False, True) for field in fields(Switches)}


CORRECTED = Switches()
"""The default of every function and metric."""
DIFFTRACK = Switches(
    readout="field",
    time_map="stretched",
    lookup="exchanged",
    pooling="everything",
    second_softmax=True,
    guidance_mask="after",
)
"""The published code while it analyses generation."""
DIFFTRACK_TAPVID = Switches(
    readout="field",
    time_map="stretched",
    lookup="exchanged",
    pooling="everything",
    second_softmax=True,
    scale="heads",
    guidance_mask="after",
)
"""The published code while it tracks TAP-Vid videos."""

VARIANTS = {"corrected": CORRECTED, "difftrack": DIFFTRACK}

Variant = str | Switches
"""What a `variant` argument takes: text as `NamedVariant.parse` reads it, or switches."""

PredictionKind = Literal["positions", "rows"]

READ_WITH: dict[PredictionKind, frozenset[str]] = {
    "positions": frozenset({"readout", "second_softmax", "scale"}),
    "rows": frozenset({"lookup", "pooling"}),
}
"""The switches that change what is read off the model, by what a probe answers. The others change only the scoring."""


@dataclass(frozen=True)
class NamedVariant:
    """A variant as options and tables spell it: one of `VARIANTS`, or one of them with some switches flipped.

    base: a name of `VARIANTS`. switches: those that differ from it, in the order of their fields, as in
    "time_map=stretched+pooling=everything"; "" for none.
    """

    base: str = "corrected"
    switches: str = ""

    @classmethod
    def parse(cls, text: str) -> NamedVariant:
        """Reads "corrected", "difftrack", or either with switches, "corrected+time_map=stretched".

        Switches that come to one of `VARIANTS` get its name.

        Raises:
            UsageError: an unknown variant, switch or value.
        """
        return cls.of(text.split("+", maxsplit=1)[0].strip(), switches_of(text))

    @classmethod
    def of(cls, base: str, values: Switches) -> NamedVariant:
        """The name of these switches, told from `base`."""
        for name, preset in VARIANTS.items():
            if values == preset:
                return cls(name)
        flips = (name for name in switch_values() if getattr(values, name) != getattr(VARIANTS[base], name))
        return cls(base, "+".join(f"{name}={_spelled(getattr(values, name))}" for name in flips))

    @property
    def text(self) -> str:
        """As `parse` reads it."""
        return f"{self.base}+{self.switches}" if self.switches else self.base

    @property
    def values(self) -> Switches:
        """The switches themselves."""
        return switches_of(self.text)

    @property
    def flipped(self) -> tuple[str, ...]:
        """The names of the switches that differ from the base."""
        return tuple(flip.partition("=")[0] for flip in self.switches.split("+") if flip)

    def only(self, names: Collection[str]) -> NamedVariant:
        """The variant with no switch flipped but those of these names."""
        kept = {name: getattr(self.values, name) for name in self.flipped if name in names}
        return NamedVariant.of(self.base, replace(VARIANTS[self.base], **kept))

    def agrees(self, other: NamedVariant, names: Collection[str]) -> bool:
        """Whether both have the same value of every switch of these names."""
        mine, theirs = self.values, other.values
        return all(getattr(mine, name) == getattr(theirs, name) for name in names)


DEFAULT_VARIANT = NamedVariant()
"""`corrected`, as tables spell it."""


def switches_of(variant: Variant) -> Switches:
    """The switches a `variant` argument means.

    Raises:
        UsageError: no such variant.
    """
    if isinstance(variant, Switches):
        return variant
    if not isinstance(variant, str):
        raise unknown_name("variant", str(variant), VARIANTS, hint=_spelling_hint())
    if variant in VARIANTS:
        return VARIANTS[variant]
    base, *flips = (part.strip() for part in variant.split("+"))
    if base not in VARIANTS:
        raise unknown_name("variant", base, VARIANTS, hint=_spelling_hint())
    return replace(VARIANTS[base], **dict(_flip(flip) for flip in flips))


def _flip(text: str) -> tuple[str, Any]:
    name, _, value = (part.strip() for part in text.partition("="))
    known = switch_values()
    if name not in known:
        raise unknown_name("switch", name, known, hint=_spelling_hint())
    by_name = {_spelled(choice): choice for choice in known[name]}
    if value not in by_name:
        hint = f"It is {name}={f' or {name}='.join(by_name)}. {SWITCHES_PAGE}"
        raise unknown_name(f"value of the switch {name}:", value, by_name, hint=hint)
    return name, by_name[value]


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _spelling_hint() -> str:
    return f"For example: corrected, difftrack, corrected+time_map=stretched. {SWITCHES_PAGE}"
