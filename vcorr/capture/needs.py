"""What probes may need of a site, and whether the sites of a model say where it is. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Site

CALL_PARTS = frozenset({"q", "k", "v", "out"})
"""The tensors of an attention call."""
UNROTATED = {"q_unrotated": "q", "k_unrotated": "k"}
"""What is read before the rotary embedding, and what it becomes after it."""
POSITIONS = {"q_position": "q", "k_position": "k"}
"""What is read of positions alone, the content of all tokens being the same, and which tensor of the call it is."""
HIDDEN = "hidden"
"""The output of the block the attention is in."""
MASK = "mask"
"""Which text tokens the mask of the call leaves."""
PARTS = CALL_PARTS | UNROTATED.keys() | POSITIONS.keys() | {HIDDEN, MASK}
"""What a probe may need."""

_REACH = {"spatial": "within one frame", "temporal": "along time at one position"}


def check_sites(needs: Mapping[str, frozenset[str]], sites: Iterable[Site], model: str) -> None:
    """Raises UsageError when a probe needs what a site does not say where to find.

    Args:
        needs: of each probe, by its name.
        sites: those that will be read.
        model: how the message names it.
    """
    hidden, turned = _who_needs(needs, {HIDDEN}), _who_needs(needs, UNROTATED.keys())
    rows = _who_needs(needs, {MASK})
    placed, whole = _who_needs(needs, POSITIONS.keys()), _who_needs(needs, {MASK, *POSITIONS})
    for site in sites:
        if hidden is not None and not site.block:
            raise UsageError(
                f"Probe {hidden!r} reads the output of a block; {model} does not say which one it is for {site.name}.",
                hint="The model's adapter says so in Site(..., block=...).",
            )
        if whole is not None and site.factorised is not None:
            raise UsageError(
                f"Probe {whole!r} reads attention over all tokens of a video; {site.name} of {model} has none: "
                f"its attention is {site.factorised.kind}, {_REACH[site.factorised.kind]}.",
                hint=f"Leave out the probe {whole!r}; those that match what is in the tokens can be read.",
            )
        if rows is not None and site.attention == "linear":
            raise UsageError(
                f"Probe {rows!r} reads rows of attention; {site.name} of {model} has linear attention, which computes "
                "none.",
                hint=f"Leave out the probe {rows!r}; those that match can be read.",
            )
        if turned is not None and site.unrotated is None:
            raise UsageError(
                f"Probe {turned!r} reads q and k before the rotary embedding; {model} does not say where they are for "
                f"{site.name}.",
                hint="Leave out --set probe.rotary=false: the model has no rotary embedding, or its adapter does not "
                "say in Site(..., unrotated=...) how to undo it.",
            )
        if placed is not None and site.unrotated is None:
            raise UsageError(
                f"Probe {placed!r} reads positions apart from content; {model} does not say where q and k are before a "
                f"rotary embedding for {site.name}.",
                hint=f"Leave out {placed!r}: positions that a model adds to its tokens, as sines or a learned table, "
                "cannot be told from content. With a rotary embedding the adapter says so in Site(..., unrotated=...).",
            )


def _who_needs(needs: Mapping[str, frozenset[str]], parts: Collection[str]) -> str | None:
    """The first probe that needs one of the parts."""
    return next((name for name, own in needs.items() if not own.isdisjoint(parts)), None)
