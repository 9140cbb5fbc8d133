"""Switches a denoiser's attention to torch's own function, so that the tap can see it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vcorr.capture.modules import find

LEGACY = frozenset({"AttnProcessor", "SlicedAttnProcessor", "XFormersAttnProcessor"})
"""Processors of diffusers' `Attention` that compute attention by hand or through xformers. `AttnProcessor2_0` computes
the same through torch's function."""

VISIBLE = ("native", "_native")
"""Prefixes of the names of backends that call torch's function."""


def use_torch_attention(denoiser: Any, names: Iterable[str]) -> None:
    """Switches the attention modules `names` to torch's function if they, or the environment, use another.

    Modules that cannot be switched stay as they are; the tap reports them by name once they have run.
    """
    modules = [module for module in (find(denoiser, name)[0] for name in names) if module is not None]
    for module in modules:
        _replace_legacy(module)
    silent = any(not _calls_torch(getattr(module, "processor", None)) for module in modules)
    if silent and hasattr(denoiser, "set_attention_backend"):
        denoiser.set_attention_backend("native")


def _replace_legacy(module: Any) -> None:
    if type(getattr(module, "processor", None)).__name__ in LEGACY:
        from diffusers.models.attention_processor import AttnProcessor2_0

        module.set_processor(AttnProcessor2_0())


def _calls_torch(processor: Any) -> bool:
    """Returns whether a processor calls torch's function; False if its diffusers backend computes in another way."""
    if not hasattr(processor, "_attention_backend"):
        return True
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    chosen = processor._attention_backend or _AttentionBackendRegistry.get_active_backend()[0]
    return str(getattr(chosen, "value", chosen)).startswith(VISIBLE)
