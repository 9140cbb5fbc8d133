"""The tap: sees every `scaled_dot_product_attention` call of chosen modules, exactly as the model makes it.

While at least one tap is open, `torch.nn.functional.scaled_dot_product_attention` is a thin wrapper that makes the same
call, hands the result back untouched and tells the taps of the calling thread. Which module a call belongs to is known
from forward hooks that keep a stack of names. diffusers, transformers and `torch.nn.MultiheadAttention` all look the
function up in its module at every call, so nothing else has to be patched. When the last tap closes, in whatever order,
the function is the original one again and no hook is left.

Modules under `torch.compile` run eagerly while tapped: a compiled graph need not see the hooks, and compiling it anew
for every tap would cost minutes. What was compiled is used again, without a recompilation, once the tap is closed. So
the outputs of a tapped compiled model are, bit for bit, those of the same model without torch.compile.

Shape legend: B batch, H heads, N tokens, D head width.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vcorr.capture.modules import Shared, eager, find_all, shorten
from vcorr.errors import CaptureError

_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_SILENT_HINT = (
    "Make them call torch's attention: model.set_attention_backend('native'), set_attn_processor(AttnProcessor2_0()) "
    "in place of a legacy, xformers, flash or flex processor, attn_implementation='sdpa' in transformers, "
    "torch.backends.mha.set_fastpath_enabled(False) for nn.MultiheadAttention. Linear attention has no such call: its "
    "adapter has to show it, vcorr.capture.tap.show(q, k, v, out)."
)


@dataclass(frozen=True)
class AttentionCall:
    """One call of `scaled_dot_product_attention` inside a tapped module, with the arguments the model gave.

    name: of the innermost tapped module that was running. q: (B, H, N, D); k, v: (B, H_kv, N_kv, D), with H_kv < H
    under grouped queries. out: (B, H, N, D), before the output projection. mask, scale, causal: as passed (scale None
    means 1/sqrt(D)). number: of the call among those of one run of the module, from 0. batch: rows of the batch that
    the module was given; None when it was given no tensor.
    The tensors are the model's own: read them, never write.
    """

    name: str
    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor
    mask: Tensor | None = None
    scale: float | None = None
    causal: bool = False
    number: int = 0
    batch: int | None = None


Observer = Callable[[AttentionCall], None]


@dataclass
class _Run:
    """A tapped module that is running now."""

    name: str
    batch: int | None
    calls: int = 0


class Tap:
    """Shows the attention calls of `module`'s submodules `names` to `observer` while the `with` block runs.

    Only calls made by the thread that opened the tap are seen. Taps may be nested, on the same or on other models, and
    closed in any order. Attention computed by an observer is seen by no tap.

    Args:
        module: the model, compiled or not.
        names: dotted paths of the attention modules inside it.
        observer: called with an `AttentionCall` right after each call; what it raises passes through the model.

    Raises:
        CaptureError: on entering, when a name is unknown; on leaving, and from `check`, when a tapped module ran
            without making a single call. The model is restored first.
    """

    def __init__(self, module: nn.Module, names: Collection[str], observer: Observer) -> None:
        self._module = module
        self._names = tuple(names)
        self._observer = observer
        self._open: ExitStack | None = None
        self._thread = 0
        self._running: list[_Run] = []
        self._silent: dict[str, str] = {}

    def __enter__(self) -> Tap:
        if self._open is not None:
            raise CaptureError("This tap is open already; make a second one to nest them.")
        targets, compiled = find_all(self._module, self._names)
        self._thread = threading.get_ident()
        self._running.clear()
        self._silent.clear()
        with ExitStack() as stack:
            for name, target in targets.items():
                self._hook(stack, name, target)
            if compiled:
                stack.enter_context(eager.use())
            stack.enter_context(_patch.use())
            # the list itself is kept: the tap may be closed by another thread than its own
            listening = _here.taps
            listening.append(self)
            stack.callback(listening.remove, self)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            opened.close()
        if kind is None:
            self.check()

    def check(self) -> None:
        """Raises CaptureError when a tapped module has run so far without a call the tap could see."""
        if self._silent:
            raise CaptureError(
                f"{len(self._silent)} attention module(s) ran without calling scaled_dot_product_attention: "
                f"{shorten(f'{name} ({kind})' for name, kind in self._silent.items())}.",
                hint=_SILENT_HINT,
            )

    def _hook(self, stack: ExitStack, name: str, target: nn.Module) -> None:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if threading.get_ident() == self._thread:
                self._running.append(_Run(name, _batch(args, kwargs)))

        def leave(module: nn.Module, args: Any, result: Any) -> None:
            if threading.get_ident() == self._thread:
                self._leave(name, module, failed=result is None)

        stack.callback(target.register_forward_pre_hook(enter, with_kwargs=True).remove)
        # also after an exception, which torch announces by a result of None
        stack.callback(target.register_forward_hook(leave, always_call=True).remove)

    def _leave(self, name: str, module: nn.Module, *, failed: bool) -> None:
        # a pre-hook of somebody else may have raised before ours ran: then there is nothing of ours to end
        index = next((i for i in reversed(range(len(self._running))) if self._running[i].name == name), None)
        if index is None:
            return
        if not failed and not self._running[index].calls:
            self._silent[name] = _describe(module)
        del self._running[index:]

    def _see(self, arguments: dict[str, Any], out: Tensor) -> None:
        if not self._running:
            return
        run = self._running[-1]
        run.calls += 1
        self._observer(replace(_call(run.name, arguments, out), number=run.calls - 1, batch=run.batch))


def _named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    return {**dict(zip(_ARGUMENTS, args, strict=False)), **kwargs}


def _call(name: str, arguments: dict[str, Any], out: Tensor) -> AttentionCall:
    return AttentionCall(
        name=name,
        q=arguments["query"],
        k=arguments["key"],
        v=arguments["value"],
        out=out,
        mask=arguments.get("attn_mask"),
        scale=arguments.get("scale"),
        causal=bool(arguments.get("is_causal", False)),
    )


class _Here(threading.local):
    """The taps this thread opened, whether one of their observers is at work, and who is shown rehearsed attention."""

    def __init__(self) -> None:
        self.taps: list[Tap] = []
        self.observing = False
        self.rehearsal: tuple[str, Observer] | None = None


_here = _Here()


def _tell(args: tuple[Any, ...], kwargs: dict[str, Any], out: Tensor) -> None:
    if not _here.taps or _here.observing:
        return
    arguments = _named(args, kwargs)
    with unheard():
        for tap in tuple(_here.taps):
            tap._see(arguments, out)


def listening() -> bool:
    """Whether a tap of this thread is open, and its observers are not at work."""
    return bool(_here.taps) and not _here.observing


def show(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> None:
    """Shows the taps of this thread an attention that is computed otherwise than by torch's function.

    For the adapters of models with linear attention; called inside the forward pass of the attention module.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, D).
        out: (B, H, N, D), before the output projection.
    """
    _tell((q, k, v), {}, out)


@contextmanager
def unheard() -> Iterator[None]:
    """Attention that this thread computes inside is seen by no tap."""
    before, _here.observing = _here.observing, True
    try:
        yield
    finally:
        _here.observing = before


@contextmanager
def rehearsal(name: str, observer: Observer) -> Iterator[None]:
    """Attention that this thread would compute inside is shown to `observer` under that name in place of being
    computed: zeros come out, and no tap sees it.
    """
    before = _here.rehearsal
    with _patch.use():
        _here.rehearsal = (name, observer)
        try:
            yield
        finally:
            _here.rehearsal = before


def rehearsing() -> bool:
    """Whether this thread is inside `rehearsal`."""
    return _here.rehearsal is not None


def _rehearsed(name: str, observer: Observer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    arguments = _named(args, kwargs)
    q, v = arguments["query"], arguments["value"]
    call = _call(name, arguments, q.new_zeros(*q.shape[:-1], v.shape[-1]))
    observer(call)
    return call.out


@contextmanager
def _patched() -> Iterator[None]:
    original = F.scaled_dot_product_attention
    live = True

    @functools.wraps(original)
    def scaled_dot_product_attention(*args: Any, **kwargs: Any) -> Tensor:
        if live and _here.rehearsal is not None:
            return _rehearsed(*_here.rehearsal, args, kwargs)
        out = original(*args, **kwargs)
        if live:
            _tell(args, kwargs, out)
        return out

    F.scaled_dot_product_attention = scaled_dot_product_attention
    try:
        yield
    finally:
        # a patch that somebody put over ours is not ours to undo: the wrapper beneath it only falls silent
        live = False
        if F.scaled_dot_product_attention is scaled_dot_product_attention:
            F.scaled_dot_product_attention = original


_patch = Shared(_patched)


def _batch(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    given = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.ndim)
    first = next(given, None)
    return None if first is None else first.shape[0]


def _describe(module: nn.Module) -> str:
    processor = getattr(module, "processor", None)
    kind = type(module).__name__
    return kind if processor is None else f"{kind} with {type(processor).__name__}"
