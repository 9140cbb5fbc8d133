"""Listens to the labels of a pipeline's passes: diffusers writes ``with denoiser.cache_context("cond"): ...``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

BATCHED = "cond_uncond"
"""The label of a pass that holds all branches in one batch; the token layout gives their order."""

PREDICTED = "pred_"
"""The prefix that diffusers' guiders put before the name of a branch."""

LabelListener = Callable[[str | None], None]
"""Called with the label of the passes that follow, and with None after them."""


class _LabelSource:
    """Patches the `cache_context` of a denoiser so that listeners hear each label.

    Listeners may leave in any order; `restore` undoes the patch after the last one.
    """

    def __init__(self, denoiser: nn.Module) -> None:
        self.listeners: list[LabelListener] = []
        self._members = vars(denoiser)
        self._own = self._members.get("cache_context")
        self._original: Any = denoiser.cache_context
        self._patch = self._members["cache_context"] = self._cache_context

    @contextmanager
    def _cache_context(self, name: str, **fields: Any) -> Iterator[None]:
        listeners = tuple(self.listeners)
        for listener in listeners:
            listener(name)
        try:
            with self._original(name, **fields):
                yield
        finally:
            for listener in listeners:
                listener(None)

    def restore(self) -> None:
        """Undoes the patch."""
        # if other code has patched over ours, removing ours would remove that patch too
        if self._members.get("cache_context") is self._patch:
            del self._members["cache_context"]
            if self._own is not None:
                self._members["cache_context"] = self._own


_sources: dict[nn.Module, _LabelSource] = {}
_lock = threading.Lock()


@contextmanager
def listen_to_labels(denoiser: nn.Module, listener: LabelListener) -> Iterator[None]:
    """Calls `listener` with the label of the passes that follow, and with None after them, while the block runs.

    A denoiser without `cache_context` has no labels, and the listener is never called.
    """
    if getattr(denoiser, "cache_context", None) is None:
        yield
        return
    with _lock:
        if denoiser not in _sources:
            _sources[denoiser] = _LabelSource(denoiser)
        listeners = _sources[denoiser].listeners
        listeners.append(listener)
    try:
        yield
    finally:
        with _lock:
            listeners.remove(listener)
            if not listeners:
                _sources.pop(denoiser).restore()
