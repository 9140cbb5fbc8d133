"""The name a pipeline gives a pass of its denoiser: diffusers writes ``with denoiser.cache_context("cond"): ...``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

BATCHED = "cond_uncond"
"""The label of a pass that holds all branches in one batch; the token layout says which row is which."""

PREDICTED = "pred_"
"""What diffusers' guiders put before the name of a branch."""

Told = Callable[[str | None], None]
"""Called with the label of the passes that follow, and with None after them."""


class _Labelled:
    """A denoiser whose labels somebody is told of; as it was once nobody is, in whatever order they leave."""

    def __init__(self, denoiser: nn.Module) -> None:
        self.listeners: list[Told] = []
        self._members = vars(denoiser)
        self._own = self._members.get("cache_context")
        self._original: Any = denoiser.cache_context
        self._patch = self._members["cache_context"] = self._cache_context

    @contextmanager
    def _cache_context(self, name: str, **fields: Any) -> Iterator[None]:
        told = tuple(self.listeners)
        for tell in told:
            tell(name)
        try:
            with self._original(name, **fields):
                yield
        finally:
            for tell in told:
                tell(None)

    def restore(self) -> None:
        # a patch that somebody put over ours is not ours to undo
        if self._members.get("cache_context") is self._patch:
            del self._members["cache_context"]
            if self._own is not None:
                self._members["cache_context"] = self._own


_labelled: dict[nn.Module, _Labelled] = {}
_lock = threading.Lock()


@contextmanager
def pass_labels(denoiser: nn.Module, tell: Told) -> Iterator[None]:
    """Tells `tell` the label of the passes that follow, None after them, while the block runs.

    Denoisers without `cache_context` never tell any.
    """
    if getattr(denoiser, "cache_context", None) is None:
        yield
        return
    with _lock:
        if denoiser not in _labelled:
            _labelled[denoiser] = _Labelled(denoiser)
        listeners = _labelled[denoiser].listeners
        listeners.append(tell)
    try:
        yield
    finally:
        with _lock:
            listeners.remove(tell)
            if not listeners:
                _labelled.pop(denoiser).restore()
