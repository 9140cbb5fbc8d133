"""Lists what probes may need from a site, and checks that the sites of a model declare it. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from vcorr.contract.errors import PluginError, UsageError
from vcorr.contract.part_calls import show_value
from vcorr.contract.records import Site

CALL_PARTS = frozenset({"q", "k", "v", "out"})
"""The tensors of an attention call."""
UNROTATED = {"q_unrotated": "q", "k_unrotated": "k"}
"""Tensors before the rotary embedding, and the tensor of the call that each becomes."""
POSITIONS = {"q_position": "q", "k_position": "k"}
"""Tensors from positions alone, with the same content in all tokens, and the tensor of the call that each replaces."""
HIDDEN = "hidden"
"""The output of the block that contains the attention module."""
LATENT = "latent"
"""The latents that the denoiser gets. They belong to no attention site."""
MASK = "mask"
"""The text tokens that the mask of the call leaves."""
PARTS = CALL_PARTS | UNROTATED.keys() | POSITIONS.keys() | {HIDDEN, LATENT, MASK}
"""Everything that a probe may need."""

_REACH = {"spatial": "within one frame", "temporal": "along time at one position"}


def probe_needs(name: str, probe: object) -> frozenset[str]:
    """Returns the parts of a capture that the probe needs.

    Raises:
        PluginError: it needs nothing, or something that a capture does not have, or both latents and something else.
    """
    needs = getattr(probe, "needs", None)
    if not isinstance(needs, (frozenset, set)) or not needs or not needs <= PARTS:
        raise PluginError(f"Probe {name!r}: needs must be a frozenset of {sorted(PARTS)}, got {show_value(needs)}.")
    if LATENT in needs and len(needs) > 1:
        raise PluginError(
            f"Probe {name!r} needs {sorted(needs)}: latents belong to no site, so nothing comes with them.",
            hint=f"A probe of the latents has needs = frozenset({{{LATENT!r}}}).",
        )
    return frozenset(needs)


def reads_latents(needs: frozenset[str]) -> bool:
    """Returns whether a probe reads the latents of the denoiser, and so no attention site."""
    return LATENT in needs


def latents_error(name: str, model: str) -> UsageError:
    """Returns the error for a probe of latents on a model that shows none."""
    return UsageError(
        f"Probe {name!r} reads the latents that a denoiser gets; {model} shows none.",
        hint=f"Leave out the probe {name!r}. It runs on video diffusion models; of the pixels, baselines such as "
        "zncc-search are the control (vcorr list models).",
    )


def has_attention(site: Site) -> bool:
    """Returns whether the attention of a site can be read; its hidden state can, if it declares a block."""
    return site.attention != "none"


def check_sites(needs: Mapping[str, frozenset[str]], sites: Iterable[Site], model: str) -> None:
    """Checks that the sites declare what the probes need.

    Args:
        needs: of each probe, by its name.
        sites: the sites that will be read.
        model: its name for messages.

    Raises:
        UsageError: a probe needs something that a site does not declare or that its attention does not have.
    """
    sites = list(sites)
    _check_attention(needs, sites, model)
    readers = (
        (_find_reader(needs, {HIDDEN}), _lacks_block),
        (_find_reader(needs, {MASK, *POSITIONS}), _lacks_whole_video),
        (_find_reader(needs, {MASK}), _lacks_weights),
        (_find_reader(needs, UNROTATED.keys()), _lacks_unrotated),
        (_find_reader(needs, POSITIONS.keys()), _lacks_positions),
    )
    for site in sites:
        for probe, find_lack in readers:
            error = None if probe is None else find_lack(probe, site, model)
            if error is not None:
                raise error


def _lacks_block(probe: str, site: Site, model: str) -> UsageError | None:
    """Returns the error for a site that does not declare its block; None if all is well. So do the next four."""
    if site.block:
        return None
    return UsageError(
        f"Probe {probe!r} reads the output of a block; {model} does not declare the block of {site.name}.",
        hint="The model's adapter declares it in Site(..., block=...).",
    )


def _lacks_whole_video(probe: str, site: Site, model: str) -> UsageError | None:
    if site.factorised is None:
        return None
    return UsageError(
        f"Probe {probe!r} reads attention over all tokens of a video; {site.name} of {model} has none: "
        f"its attention is {site.factorised.kind}, {_REACH[site.factorised.kind]}.",
        hint=f"Leave out the probe {probe!r}. Probes that match tokens can be read.",
    )


def _lacks_weights(probe: str, site: Site, model: str) -> UsageError | None:
    if site.attention != "linear":
        return None
    return UsageError(
        f"Probe {probe!r} reads attention weights; {site.name} of {model} has linear attention, which computes none.",
        hint=f"Leave out the probe {probe!r}. Probes that match tokens can be read.",
    )


def _lacks_unrotated(probe: str, site: Site, model: str) -> UsageError | None:
    if site.unrotated is not None:
        return None
    return UsageError(
        f"Probe {probe!r} reads q and k before the rotary embedding; {model} does not declare where they are for "
        f"{site.name}.",
        hint="Leave out --set probe.rotary=false. The model has no rotary embedding, or its adapter does not declare "
        "Site(..., unrotated=...).",
    )


def _lacks_positions(probe: str, site: Site, model: str) -> UsageError | None:
    if site.unrotated is not None:
        return None
    return UsageError(
        f"Probe {probe!r} reads positions apart from content; {model} does not declare where q and k are before a "
        f"rotary embedding for {site.name}.",
        hint=f"Leave out {probe!r}. Positions that a model adds to its tokens, as sines or a learned table, cannot be "
        "separated from content. If the model has a rotary embedding, its adapter declares Site(..., unrotated=...).",
    )


def _check_attention(needs: Mapping[str, frozenset[str]], sites: Sequence[Site], model: str) -> None:
    """Raises UsageError for a probe of attention at a site without attention; names the layers that have some."""
    reader = next((name for name, own in needs.items() if own.isdisjoint({LATENT}) and own != {HIDDEN}), None)
    without = [site for site in sites if not has_attention(site)]
    if reader is None or not without:
        return
    first, more = without[0], len(without) - 1
    others = f" and {more} more layer{'s' * (more > 1)}" if more else ""
    why = f": {first.unread}" if first.unread else ""
    layers = ",".join(str(site.layer) for site in sites if has_attention(site))
    raise UsageError(
        f"Probe {reader!r} reads attention; {model} shows none at {first.name}{others}{why}.",
        hint="Read its features: --probe hidden-cos"
        + (f"\nOr the layers with attention: --layers {layers}" if layers else ""),
    )


def _find_reader(needs: Mapping[str, frozenset[str]], parts: Collection[str]) -> str | None:
    """Returns the first probe that needs one of the parts."""
    return next((name for name, own in needs.items() if not own.isdisjoint(parts)), None)
