"""Finds caches of diffusers that skip attention; a model is neither read nor edited while one is on."""

from __future__ import annotations

from typing import Any

from torch import nn

from vcorr.contract.errors import UsageError

_CACHES = {
    "faster_cache": "FasterCache",
    "first_block_cache": "First Block Cache",
    "mag_cache": "MagCache",
    "pyramid_attention_broadcast": "Pyramid Attention Broadcast",
    "sea_cache": "SeaCache",
    "taylorseer_cache": "TaylorSeer",
}
"""Names of caches by the module of `diffusers.hooks` that holds their hooks. A cache of text keys alone skips none."""


def check_no_cache(denoiser: nn.Module) -> None:
    """Checks that no cache of diffusers skips attention in this denoiser.

    Such a cache repeats results of earlier steps, so some steps would have no q and k. Later steps would follow from
    outputs that the network did not compute.

    Raises:
        UsageError: a cache is on; the message names it.
    """
    cache = find_cache(denoiser)
    if cache is None:
        return
    name = type(denoiser).__name__
    hint = "Call disable_cache() of the denoiser before, for example pipe.transformer.disable_cache()."
    if getattr(denoiser, "_cache_config", None) is None:  # then disable_cache() would do nothing
        hint = "Its hooks were not added by enable_cache(), so disable_cache() cannot remove them: load the model anew."
    raise UsageError(f"{name} runs with {cache} of diffusers, which skips attention in some steps.", hint=hint)


def find_cache(denoiser: nn.Module) -> str | None:
    """Returns the name of a cache that skips attention in this denoiser; None if there is none."""
    for module in denoiser.modules():
        registry: Any = getattr(module, "_diffusers_hook", None)
        for hook in getattr(registry, "hooks", {}).values():
            package, _, last = type(hook).__module__.rpartition(".")
            if package == "diffusers.hooks" and last in _CACHES:
                return _CACHES[last]
    return None
