"""The two variants of every measure, and the switches that they consist of (docs/switches.md)."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

from vcorr.contract.errors import UsageError, unknown_name

SWITCHES_PAGE = "docs/switches.md says what each switch does."


@dataclass(frozen=True)
class Switches:
    """The points in which the published DiffTrack code differs from the corrected protocol, one switch each.

    Each can be flipped alone. The first value of every field is the corrected one; the second comes from the public
    code of DiffTrack (arXiv 2506.17220).

    Args:
        readout: How a match becomes a position. "token": the query moves by the offset from its token to the best
            match. "field": the best matches of all tokens of frame 1 form a field of integer positions. It is sampled
            bilinearly at the query, with a margin, and is zero outside.
        time_map: How positions at latent times become positions in video frames. "centres": linear interpolation
            between the times of the latents' centres; in the query frame, the query itself. "stretched": the latents
            are stretched over the frames, as resizing an image with align_corners=False does.
        lookup: Which token's attention is summarised. "own": the token under the query. "exchanged": the query is
            rounded (half to even), x is taken for the row and y for the column.
        pooling: What the scores are pooled over. "queries": points visible in the query frame, real text tokens, and
            table cells that are not NaN; the query frame itself does not count. "everything": all points and all
            frames of the matching accuracy, with distances rounded to float32; all points of the confidence score,
            where a point that is never seen again counts as 0; padded text as well. One NaN sets the whole table of
            harmonic means to 0. In TAP-Vid's metrics, only queries in frame 0 count, and every point is predicted
            visible in every frame.
        second_softmax: Whether a second softmax follows. False: float32 and one softmax. True: the correlation and a
            second softmax of it are computed in the tensors' own dtype. Its rounding turns nearly equal values into
            ties, and the first token wins a tie.
        scale: The scale of the dot products, if none is given. "width": 1/sqrt(d). "heads": 1/sqrt(H), which the
            published code uses in its TAP-Vid path alone.
        guidance_mask: When cross-frame attention is masked. "before": before the softmax. "after": the result of the
            softmax is multiplied by the mask and not normalised again.

    Raises:
        UsageError: a switch has another value than these.
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
    """Returns the possible values of every switch by its name, the corrected value first."""
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
"""The published code when it analyses generation."""
DIFFTRACK_TAPVID = Switches(
    readout="field",
    time_map="stretched",
    lookup="exchanged",
    pooling="everything",
    second_softmax=True,
    scale="heads",
    guidance_mask="after",
)
"""The published code when it tracks TAP-Vid videos."""

VARIANTS = {"corrected": CORRECTED, "difftrack": DIFFTRACK}

Variant = str | Switches
"""Type of a `variant` argument: text as `NamedVariant.parse` reads it, or switches."""

PredictionKind = Literal["positions", "rows"]

READ_WITH: dict[PredictionKind, frozenset[str]] = {
    "positions": frozenset({"readout", "second_softmax", "scale"}),
    "rows": frozenset({"lookup", "pooling"}),
}
"""The switches that change a probe's predictions, by the kind of prediction. The other switches change only scores."""


@dataclass(frozen=True)
class NamedVariant:
    """A variant as options and tables spell it: one of `VARIANTS`, alone or with some switches flipped.

    base: a name in `VARIANTS`.
    switches: the switches that differ from the base, in the order of their fields, such as
    "time_map=stretched+pooling=everything"; "" for none.
    """

    base: str = "corrected"
    switches: str = ""

    @classmethod
    def parse(cls, text: str) -> NamedVariant:
        """Reads "corrected", "difftrack", or one of them with switches, such as "corrected+time_map=stretched".

        If the result equals one of `VARIANTS`, it gets that name.

        Raises:
            UsageError: there is no such variant, switch or value.
        """
        return cls.of(text.split("+", maxsplit=1)[0].strip(), switches_of(text))

    @classmethod
    def of(cls, base: str, values: Switches) -> NamedVariant:
        """Returns the name of these switches: a name in `VARIANTS`, or `base` and the switches that differ from it."""
        for name, preset in VARIANTS.items():
            if values == preset:
                return cls(name)
        flips = (name for name in switch_values() if getattr(values, name) != getattr(VARIANTS[base], name))
        return cls(base, "+".join(f"{name}={_spell(getattr(values, name))}" for name in flips))

    @property
    def text(self) -> str:
        """The variant as text, which `parse` reads."""
        return f"{self.base}+{self.switches}" if self.switches else self.base

    @property
    def values(self) -> Switches:
        """The values of all switches."""
        return switches_of(self.text)

    @property
    def flipped(self) -> tuple[str, ...]:
        """The names of the switches that differ from the base."""
        return tuple(flip.partition("=")[0] for flip in self.switches.split("+") if flip)

    def only(self, names: Collection[str]) -> NamedVariant:
        """Returns the variant in which only switches of these names are flipped."""
        kept = {name: getattr(self.values, name) for name in self.flipped if name in names}
        return NamedVariant.of(self.base, replace(VARIANTS[self.base], **kept))

    def agrees(self, other: NamedVariant, names: Collection[str]) -> bool:
        """Returns whether both variants have the same values of the switches with these names."""
        mine, theirs = self.values, other.values
        return all(getattr(mine, name) == getattr(theirs, name) for name in names)


DEFAULT_VARIANT = NamedVariant()
"""The variant `corrected`."""


def switches_of(variant: Variant) -> Switches:
    """Returns the switches that a `variant` argument means.

    Raises:
        UsageError: there is no such variant, switch or value.
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
    by_name = {_spell(choice): choice for choice in known[name]}
    if value not in by_name:
        hint = f"Use {name}={f' or {name}='.join(by_name)}. {SWITCHES_PAGE}"
        raise unknown_name(f"value of the switch {name}:", value, by_name, hint=hint)
    return name, by_name[value]


def _spell(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _spelling_hint() -> str:
    return f"For example: corrected, difftrack, corrected+time_map=stretched. {SWITCHES_PAGE}"
