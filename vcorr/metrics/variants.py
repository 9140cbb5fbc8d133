"""The two variants of every measure, and the switches they are made of (PROTOCOL, head; docs/functional.md)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

from vcorr.errors import UsageError, unknown_name


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
        pooling: what is pooled over. "queries": points visible in the query frame, real text tokens, table cells that
            are not NaN; the query frame itself does not count. "everything": all points and all frames of the
            matching accuracy, all points of the confidence score (one that is never seen again as 0), padded text;
            one NaN zeroes the table of harmonic means.
        second_softmax: False: float32 and one softmax. True: the correlation and a second softmax of it in the
            tensors' own dtype, in whose rounding flat rows become ties that the first token wins.
        scale: of the dot products when none is given: "width", 1/sqrt(d), or "heads", 1/sqrt(H) (the published code's
            TAP-Vid path only).
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
        hints = get_type_hints(type(self))
        for field in fields(self):
            value, known = getattr(self, field.name), get_args(hints[field.name]) or (False, True)
            if value not in known:
                choices = " or ".join(repr(choice) for choice in known)
                raise UsageError(f"Switches: {field.name} must be {choices}, got {value!r}.")


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


def switches_of(variant: Variant) -> Switches:
    """The switches a `variant` argument means: a name of `VARIANTS`, or switches given one by one.

    Raises:
        UsageError: no such variant.
    """
    if isinstance(variant, Switches):
        return variant
    if not isinstance(variant, str) or variant not in VARIANTS:
        raise unknown_name("variant", str(variant), VARIANTS)
    return VARIANTS[variant]
