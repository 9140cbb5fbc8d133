"""Observes the outputs of chosen modules by ordinary forward hooks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from vcorr.capture.modules import find_all, run_eagerly
from vcorr.capture.tap import Place, rehearsing

OutputObserver = Callable[[str, Any], None]
"""Called with the module's name and its output. The output is the model's own memory: read it, never write to it."""


@contextmanager
def watch_outputs(module: nn.Module, names: Collection[str], observer: OutputObserver) -> Iterator[None]:
    """Calls `observer` with the outputs of the submodules `names` of `module` while the block runs.

    Only runs in the calling thread count. Compiled modules run eagerly inside the block, as under `Tap`.

    Args:
        module: the model, compiled or not.
        names: dotted paths inside it.
        observer: called right after each module has run; its exceptions pass through the model.

    Raises:
        CaptureError: a name is unknown.
    """
    targets, compiled = find_all(module, names)
    place = Place.here()

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def see(_: nn.Module, args: Any, output: Any) -> None:
            if place.is_here() and not rehearsing():
                observer(name, output)

        return see

    with ExitStack() as stack:
        stack.enter_context(run_eagerly(compiled=compiled))
        for name, target in targets.items():
            stack.callback(target.register_forward_hook(hook(name)).remove)
        yield
