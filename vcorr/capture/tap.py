"""The tap: intercepts every `scaled_dot_product_attention` call of chosen modules, exactly as the model makes it.

While at least one tap is open, `torch.nn.functional.scaled_dot_product_attention` is a thin wrapper. It hands each call
of the calling thread to the open taps, and the last of them to the function itself. Which module a call belongs to is
known from forward hooks that keep a stack of names. diffusers, transformers and `torch.nn.MultiheadAttention` all look
the function up in its module at every call, so nothing else has to be patched. When the last tap closes, in whatever
order, the function is the original one again and no hook is left.

A tap has one interceptor, ``interceptor(call, compute) -> output``. It may look at the call, change it before it calls
`compute`, change what `compute` returns, or not call it at all. Taps form a chain: the tap that was opened first is the
outermost, so it sees the call as the model made it and the output after all changes; a tap that was opened later sees
what the earlier ones made of the call. Where interceptors only observe, the function gets the model's own arguments and
its result is handed back untouched.

Modules under `torch.compile` run eagerly while tapped: a compiled graph need not see the hooks, and compiling it anew
for every tap would cost minutes. What was compiled is used again, without a recompilation, once the tap is closed. So
the outputs of a tapped compiled model are, bit for bit, those of the same model without torch.compile.

Shape legend: B batch, H heads, N tokens, D head width.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from vcorr.capture.modules import Shared, find, find_all, run_eagerly, shorten
from vcorr.contract.errors import CaptureError

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

    name: path of the innermost tapped module that was running. q: (B, H, N, D); k, v: (B, H_kv, N_kv, D), with
    H_kv < H under grouped queries. out: (B, H, N, D), before the output projection; None until it is computed. mask,
    scale, causal: as passed (scale None means 1/sqrt(D)). number: index of the call among those of one run of the
    module. batch: rows of the batch that the module was given; None when it was given no tensor.
    The tensors are the model's own: read them, never write. To change a call, use `dataclasses.replace`.
    """

    name: str
    q: Tensor
    k: Tensor
    v: Tensor
    out: Tensor | None = None
    mask: Tensor | None = None
    scale: float | None = None
    causal: bool = False
    number: int = 0
    batch: int | None = None


Compute = Callable[[AttentionCall], Tensor]
"""The rest of the chain: takes the call, changed or not, and returns the attention output, (B, H, N, D)."""
Interceptor = Callable[[AttentionCall, Compute], Tensor]
"""Given a call and what computes it; returns the output that the model goes on with."""
Observer = Callable[[AttentionCall], None]


def observing(observer: Observer) -> Interceptor:
    """An interceptor that shows each finished call to `observer` and changes nothing.

    Attention that gradient checkpointing recomputes during a backward pass is not shown a second time.
    """

    def observe(call: AttentionCall, compute: Compute) -> Tensor:
        out = compute(call)
        if not recomputing():
            observer(replace(call, out=out))
        return out

    return observe


@dataclass
class _Run:
    """A tapped module that is running now."""

    name: str
    batch: int | None
    calls: int = 0
    attended: bool = False
    """Whether it computed attention, be it that none of it came here."""


class Tap:
    """Hands the attention calls of `module`'s submodules `names` to `interceptor` while the `with` block runs.

    Only calls made by the thread that opened the tap are seen. Taps may be nested, on the same or on other models, and
    closed in any order; the one opened first is the outermost. Attention computed by an interceptor is seen by no tap.

    Args:
        module: the model, compiled or not.
        names: dotted paths of the attention modules inside it.
        interceptor: called in place of each call; what it raises passes through the model. `observing` makes one of a
            function that only looks.

    Raises:
        CaptureError: on entering, when a name is unknown; on leaving, and from `check`, when a tapped module ran
            without making a single call. The model is restored first.
    """

    def __init__(self, module: nn.Module, names: Collection[str], interceptor: Interceptor) -> None:
        self._module = module
        self._names = tuple(names)
        self._interceptor = interceptor
        self._open: ExitStack | None = None
        self._thread = 0
        self._running: list[_Run] = []
        self._silent: dict[str, str] = {}
        self._skipped: set[str] = set()

    def __enter__(self) -> Tap:
        if self._open is not None:
            raise CaptureError("This tap is open already; make a second one to nest them.")
        targets, compiled = find_all(self._module, self._names)
        self._thread = threading.get_ident()
        self._running.clear()
        self._silent.clear()
        self._skipped.clear()
        with ExitStack() as stack:
            if targets:
                self._forget_interrupted(stack)
            for name, target in targets.items():
                self._hook(stack, name, target)
            stack.enter_context(run_eagerly(compiled=compiled))
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
        if self._skipped:
            raise CaptureError(
                f"An interceptor that was opened before kept the attention of {shorten(sorted(self._skipped))} to "
                "itself: it did not call compute, so nothing was computed that could be seen here.",
                hint="Open the interceptor inside, after the recorder, or let it call compute.",
            )
        if self._silent:
            raise CaptureError(
                f"{len(self._silent)} attention module(s) ran without calling scaled_dot_product_attention: "
                f"{shorten(f'{name} ({kind})' for name, kind in self._silent.items())}.",
                hint=_SILENT_HINT,
            )

    def _forget_interrupted(self, stack: ExitStack) -> None:
        """When the model begins, none of its modules runs: torch tells nobody of one that Ctrl-C has ended."""

        def begin(module: nn.Module, args: Any) -> None:
            if threading.get_ident() == self._thread and not recomputing():
                self._running.clear()

        whole = find(self._module, "")[0]
        assert whole is not None  # the empty name is the module itself
        stack.callback(whole.register_forward_pre_hook(begin).remove)

    def _hook(self, stack: ExitStack, name: str, target: nn.Module) -> None:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if threading.get_ident() == self._thread:
                self._running.append(_Run(name, batch_of(args, kwargs)))

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
        run = self._running[index]
        if not failed and not run.calls:
            if run.attended:
                self._skipped.add(name)
            else:
                self._silent[name] = _describe(module)
        del self._running[index:]

    def _announce(self) -> None:
        """Tells that attention is about to be computed, which interceptors opened before may keep to themselves."""
        if self._running:
            self._running[-1].attended = True

    def _attend(self, call: AttentionCall, compute: Compute) -> Tensor:
        """This tap's part of the chain; calls outside its modules pass straight through."""
        if not self._running:
            return compute(call)
        run = self._running[-1]
        run.calls += 1
        return self._interceptor(replace(call, name=run.name, number=run.calls - 1, batch=run.batch), compute)


class _Here(threading.local):
    """The taps this thread opened, whether one of their interceptors is at work, and what takes their place."""

    def __init__(self) -> None:
        self.taps: list[Tap] = []
        self.busy = False
        self.rehearsal: Interceptor | None = None


_here = _Here()


def show(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> Tensor:
    """Hands attention that torch's function does not compute to the taps of this thread.

    For the adapters of models with linear attention; called inside the forward pass of the attention module, which goes
    on with what this returns.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, D).
        out: (B, H, N, D), before the output projection.

    Returns:
        `out` itself, or what an interceptor put in its place.

    Raises:
        CaptureError: an interceptor changed q, k or v or added a mask, with which nothing is computed here.
    """
    given = AttentionCall("", q, k, v)

    def computed(call: AttentionCall) -> Tensor:
        if not _same(call, given):
            raise CaptureError(
                f"{call.name}: its attention is computed before it is shown; q, k, v and mask cannot be changed.",
                hint="Change the output: return other values than compute(call) gives.",
            )
        return out

    return attend(given, computed)


def attend(call: AttentionCall, compute: Compute) -> Tensor:
    """Computes attention through the chain of this thread's taps.

    Args:
        call: q, k, v of the call; its name and number are filled in by the taps.
        compute: computes the output, (B, H, N, D), from a call that interceptors may have changed.
    """
    if _here.busy:
        return compute(call)
    if _here.rehearsal is not None:
        links = [_here.rehearsal]
    else:
        links = [tap._attend for tap in _here.taps]
        for tap in _here.taps:
            tap._announce()
    if not links:
        return compute(call)
    with unheard():
        return _chain(links, compute)(call)


def _chain(links: Sequence[Interceptor], compute: Compute) -> Compute:
    """One function of all interceptors around `compute`, the first of them the outermost."""
    for link in reversed(links):
        compute = functools.partial(_link, link, compute)
    return compute


def _link(interceptor: Interceptor, compute: Compute, call: AttentionCall) -> Tensor:
    return interceptor(call, compute)


def listening() -> bool:
    """Whether a tap of this thread is open, and its interceptors are not at work."""
    return bool(_here.taps) and not _here.busy


@contextmanager
def unheard() -> Iterator[None]:
    """Attention that this thread computes inside is seen by no tap."""
    before, _here.busy = _here.busy, True
    try:
        yield
    finally:
        _here.busy = before


@contextmanager
def rehearsal(name: str, observer: Observer) -> Iterator[None]:
    """Attention that this thread would compute inside is shown to `observer` under that name and not computed: zeros
    come out, and no tap sees it.
    """

    def rehearse(call: AttentionCall, compute: Compute) -> Tensor:
        out = call.q.new_zeros(*call.q.shape[:-1], call.v.shape[-1])
        observer(replace(call, name=name, out=out))
        return out

    before = _here.rehearsal
    with _patch.use():
        _here.rehearsal = rehearse
        try:
            yield
        finally:
            _here.rehearsal = before


def rehearsing() -> bool:
    """Whether this thread is inside `rehearsal`."""
    return _here.rehearsal is not None


def recomputing() -> bool:
    """Whether this thread is inside a backward pass, where gradient checkpointing runs modules once more."""
    return torch._C._current_graph_task_id() != -1


@contextmanager
def _patched() -> Iterator[None]:
    original = F.scaled_dot_product_attention
    live = True

    @functools.wraps(original)
    def scaled_dot_product_attention(*args: Any, **kwargs: Any) -> Tensor:
        if not live:
            return original(*args, **kwargs)
        arguments = {**dict(zip(_ARGUMENTS, args, strict=False)), **kwargs}
        given = _call(arguments)

        def compute(call: AttentionCall) -> Tensor:
            if _same(call, given):
                return original(*args, **kwargs)
            # the rest, dropout and enable_gqa, stays as the model gave it
            return original(**{**arguments, **_arguments(call)})

        return attend(given, compute)

    F.scaled_dot_product_attention = scaled_dot_product_attention
    try:
        yield
    finally:
        # a patch that somebody put over ours is not ours to undo: the wrapper beneath it only falls silent
        live = False
        if F.scaled_dot_product_attention is scaled_dot_product_attention:
            F.scaled_dot_product_attention = original


_patch = Shared(_patched)


def _call(arguments: dict[str, Any]) -> AttentionCall:
    return AttentionCall(
        name="",
        q=arguments["query"],
        k=arguments["key"],
        v=arguments["value"],
        mask=arguments.get("attn_mask"),
        scale=arguments.get("scale"),
        causal=bool(arguments.get("is_causal", False)),
    )


def _arguments(call: AttentionCall) -> dict[str, Any]:
    return {
        "query": call.q,
        "key": call.k,
        "value": call.v,
        "attn_mask": call.mask,
        "scale": call.scale,
        "is_causal": call.causal,
    }


def _same(call: AttentionCall, given: AttentionCall) -> bool:
    """Whether nothing of what the function takes was changed."""
    tensors = ((call.q, given.q), (call.k, given.k), (call.v, given.v), (call.mask, given.mask))
    return all(one is other for one, other in tensors) and (call.scale, call.causal) == (given.scale, given.causal)


def batch_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int | None:
    """Rows of the batch that a module is called with: those of its first tensor; None when it is given none."""
    given = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.ndim)
    first = next(given, None)
    return None if first is None else first.shape[0]


def _describe(module: nn.Module) -> str:
    processor = getattr(module, "processor", None)
    kind = type(module).__name__
    return kind if processor is None else f"{kind} with {type(processor).__name__}"
