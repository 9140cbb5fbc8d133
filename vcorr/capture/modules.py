"""Finds modules by name, also inside compiled models, and shares changes of global state among several users."""

from __future__ import annotations

import difflib
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from vcorr.contract.errors import CaptureError, UsageError

_SHOWN = 6


class Shared:
    """A change of global state that lasts as long as it has users: the first one makes it, the last one undoes it."""

    def __init__(self, change: Callable[[], AbstractContextManager[Any]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._users = 0
        self._undo = ExitStack()

    @contextmanager
    def use(self) -> Iterator[None]:
        """Keeps the change in place while the block runs."""
        with self._lock:
            if not self._users:
                self._undo.enter_context(self._change())
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._undo.close()


def _eagerly() -> AbstractContextManager[Any]:
    if not hasattr(torch.compiler, "set_stance"):
        raise CaptureError(
            f"A torch.compile'd model cannot be tapped with torch {torch.__version__}.",
            hint="Upgrade torch to 2.6 or later, or leave out torch.compile.",
        )
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


eager = Shared(_eagerly)
"""While it has users, modules under torch.compile run eagerly."""


def run_eagerly(*, compiled: bool) -> AbstractContextManager[Any]:
    """Makes compiled modules run eagerly while the block runs, if there are any.

    compiled: whether the watched module is compiled. A compiled wrapper around it cannot be found from the module, so
    the block also applies once torch's compiler has been imported; before that there can be no wrapper.
    """
    wrapped = "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance")
    return eager.use() if compiled or wrapped else nullcontext()


def denoisers_of(given: Any, who: str) -> tuple[nn.Module, ...]:
    """Returns the modules that the caller `who` was given, without repetition: one, or several that take turns.

    Raises:
        UsageError: an item is not a module, for example a diffusers pipeline.
    """
    several = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if not several:
        raise UsageError(f"{who}: no module was given.", hint="Give it the denoiser: pipe.transformer")
    for one in several:
        if not isinstance(one, nn.Module):
            parts = [name for name in ("transformer", "unet") if isinstance(getattr(one, name, None), nn.Module)]
            hint = f"Give it the denoiser: pipe.{parts[0]}" if parts else "For example: pipe.transformer"
            raise UsageError(f"{who}: expected a torch module, got {type(one).__name__}.", hint=hint)
    distinct: dict[nn.Module | None, nn.Module] = {}
    for one in several:  # a compiled wrapper and the module inside it count as one module
        distinct.setdefault(find(one, "")[0], one)
    return tuple(distinct.values())


def find_all(module: nn.Module, names: Collection[str]) -> tuple[dict[str, nn.Module], bool]:
    """Returns the modules by name, and whether any module on the paths to them is compiled.

    Raises:
        CaptureError: no module has the name; the message lists the nearest names.
    """
    found: dict[str, nn.Module] = {}
    compiled = False
    for name in names:
        target, on_the_way = find(module, name)
        if target is None:
            raise _unknown_module(module, name)
        found[name] = target
        compiled = compiled or on_the_way
    return found, compiled


def find(module: nn.Module, name: str) -> tuple[nn.Module | None, bool]:
    """Returns the module with a dotted name, else None, and whether any module on the path to it is compiled."""
    compiled = False
    parts = [part for part in name.split(".") if part and part != "_orig_mod"]
    current: nn.Module | None = module
    for part in [*parts, None]:
        while current is not None and "_orig_mod" in current._modules:  # torch.compile(module) wraps the module
            current, compiled = current._modules["_orig_mod"], True
        if current is None:
            break
        compiled = compiled or getattr(current, "_compiled_call_impl", None) is not None  # module.compile()
        current = current if part is None else current._modules.get(part)
    return current, compiled


def _unknown_module(module: nn.Module, name: str) -> CaptureError:
    known = [path.replace("_orig_mod.", "") for path, _ in module.named_modules() if path]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"Nearest: {', '.join(near)}." if near else "Names are the paths of model.named_modules()."
    return CaptureError(f"{type(module).__name__} has no module {name!r} to tap.", hint=hint)


def shorten(names: Iterator[str] | Collection[str]) -> str:
    """Returns the first few names, separated by commas, and how many more there are."""
    listed = list(names)
    rest = len(listed) - _SHOWN
    return ", ".join(listed[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
