"""The name a pipeline gives a pass of its denoiser: diffusers writes ``with denoiser.cache_context("cond"): ...``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

BATCHED = "cond_uncond"
"""The label of a pass that holds all branches in one batch; the token layout says which row is which."""

PREDICTED = "pred_"
"""What diffusers' guiders put before the name of a branch."""


@contextmanager
def pass_labels(denoiser: nn.Module, tell: Callable[[str | None], None]) -> Iterator[None]:
    """Tells `tell` the label of the passes that follow, None after them, while the block runs.

    Denoisers without `cache_context` never tell any.
    """
    original = getattr(denoiser, "cache_context", None)
    if original is None:
        yield
        return

    @contextmanager
    def cache_context(name: str, **fields: Any) -> Iterator[None]:
        tell(name)
        try:
            with original(name, **fields):
                yield
        finally:
            tell(None)

    own = denoiser.__dict__.get("cache_context")
    denoiser.__dict__["cache_context"] = cache_context
    try:
        yield
    finally:
        del denoiser.__dict__["cache_context"]
        if own is not None:
            denoiser.__dict__["cache_context"] = own
