"""The tap: intercepts every `scaled_dot_product_attention` call of chosen modules, exactly as the model makes it.

While at least one tap is open, `torch.nn.functional.scaled_dot_product_attention` is a thin wrapper. It passes each
call through the open taps of the calling thread, and then to the original function. Forward hooks keep a stack of
module names, which says which module a call belongs to. diffusers, transformers and `torch.nn.MultiheadAttention` all
look the function up in its module at every call, so nothing else needs a patch. Taps may close in any order. After the
last one the function is the original again, and no hook is left.

A tap has one interceptor, ``interceptor(call, compute) -> output``. It may read the call, change the call before it
calls `compute`, change the output of `compute`, or not call `compute` at all. Taps form a chain, and the tap that
opened first is the outermost. It sees the call as the model made it, and the output after all changes. A later tap sees
the call as the earlier ones pass it on. If interceptors only observe, the function gets the model's own arguments, and
the model gets the function's own result.

Modules under `torch.compile` run eagerly while tapped: a compiled graph may skip the hooks, and a new compilation for
every tap would cost minutes. After the tap closes, the compiled code is used again without recompilation. So a tapped
compiled model gives, bit for bit, the outputs of the same model without torch.compile.

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
    "torch.backends.mha.set_fastpath_enabled(False) for nn.MultiheadAttention. A cache skips attention: "
    "model.disable_cache(). Linear attention has no such call: its "
    "adapter has to show it with vcorr.capture.show(q, k, v, out)."
)


@dataclass(frozen=True)
class AttentionCall:
    """One call of `scaled_dot_product_attention` inside a tapped module, with the arguments that the model gave.

    name: path of the innermost tapped module that was running. q: (B, H, N, D); k, v: (B, H_kv, N_kv, D), with
    H_kv < H under grouped queries. out: (B, H, N, D), before the output projection; None until it is computed. mask,
    scale, causal: the model's arguments (scale None means 1/sqrt(D)). number: index of the call within one run of the
    module. batch: number of batch rows in the module's input; None if it got no tensor.
    The tensors are the model's own: read them, never write to them. To change a call, use `dataclasses.replace`.
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
"""Takes a call and the function that computes it; returns the output that the model goes on with."""
Observer = Callable[[AttentionCall], None]


def observing(observer: Observer) -> Interceptor:
    """Returns an interceptor that calls `observer` with each finished call and changes nothing.

    Attention that gradient checkpointing recomputes in a backward pass is not shown a second time.
    """

    def observe(call: AttentionCall, compute: Compute) -> Tensor:
        out = compute(call)
        if not recomputing():
            observer(replace(call, out=out))
        return out

    return observe


@dataclass(frozen=True)
class Place:
    """Where something was opened: the thread, and how many `aside` blocks were open in it."""

    thread: int
    depth: int

    @classmethod
    def here(cls) -> Place:
        """Returns the place of the caller."""
        return cls(threading.get_ident(), _here.depth)

    def is_here(self) -> bool:
        """Returns whether the caller is in this place."""
        return threading.get_ident() == self.thread and _here.depth == self.depth


@dataclass
class _Run:
    """A tapped module that is running now.

    calls: number of attention calls that reached this tap. attended: whether the module computed attention at all.
    """

    name: str
    batch: int | None
    calls: int = 0
    attended: bool = False


class Tap:
    """Gives the attention calls of the submodules `names` of `module` to `interceptor` while the `with` block runs.

    The tap sees only calls in the thread that opened it. Taps may be nested, on the same or on other models, and closed
    in any order; the one that opened first is the outermost. No tap sees attention that an interceptor computes.

    Args:
        module: the model, compiled or not.
        names: dotted paths of the attention modules inside it.
        interceptor: called in place of each call; its exceptions pass through the model. `observing` turns a function
            that only reads calls into an interceptor.

    Raises:
        CaptureError: at the beginning of the block, if a name is unknown; at its end, and from `check`, if a tapped
            module ran without a single call. The model is restored first.
    """

    def __init__(self, module: nn.Module, names: Collection[str], interceptor: Interceptor) -> None:
        self._module = module
        self._names = tuple(names)
        self._interceptor = interceptor
        self._open: ExitStack | None = None
        self._place = Place(0, 0)
        self._running: list[_Run] = []
        self._silent: dict[str, str] = {}
        self._skipped: set[str] = set()

    def __enter__(self) -> Tap:
        if self._open is not None:
            raise CaptureError("This tap is open already; make a second one to nest them.")
        targets, compiled = find_all(self._module, self._names)
        self._place = Place.here()
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
            # keep this thread's list, because another thread may close the tap
            taps = _here.taps
            taps.append(self)
            stack.callback(taps.remove, self)
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
        """Raises CaptureError if a tapped module has run so far without a call that the tap could see."""
        if self._skipped:
            raise CaptureError(
                f"An interceptor that opened before this tap did not call compute for the attention of "
                f"{shorten(sorted(self._skipped))}, so no call reached the tap.",
                hint="Open the interceptor inside, after the recorder, or let it call compute.",
            )
        if self._silent:
            raise CaptureError(
                f"{len(self._silent)} attention module(s) ran without calling scaled_dot_product_attention: "
                f"{shorten(f'{name} ({kind})' for name, kind in self._silent.items())}.",
                hint=_SILENT_HINT,
            )

    def _forget_interrupted(self, stack: ExitStack) -> None:
        """Clears the running modules whenever the model begins, because torch calls no hook when Ctrl-C ends a run."""

        def begin(module: nn.Module, args: Any) -> None:
            if self._place.is_here() and not recomputing():
                self._running.clear()

        whole = find(self._module, "")[0]
        assert whole is not None  # the empty name is the module itself
        stack.callback(whole.register_forward_pre_hook(begin).remove)

    def _hook(self, stack: ExitStack, name: str, target: nn.Module) -> None:
        def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self._place.is_here():
                self._running.append(_Run(name, batch_of(args, kwargs)))

        def leave(module: nn.Module, args: Any, result: Any) -> None:
            if self._place.is_here():
                self._leave(name, module, failed=result is None)

        stack.callback(target.register_forward_pre_hook(enter, with_kwargs=True).remove)
        # `always_call` covers exceptions, for which torch passes None as the result
        stack.callback(target.register_forward_hook(leave, always_call=True).remove)

    def _leave(self, name: str, module: nn.Module, *, failed: bool) -> None:
        # if another pre-hook raised before ours ran, this module never began for us
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
        """Notes that the running module computes attention, even if an outer interceptor then keeps the call away."""
        if self._running:
            self._running[-1].attended = True

    def _attend(self, call: AttentionCall, compute: Compute) -> Tensor:
        """Runs this tap's part of the chain; calls outside its modules pass straight through."""
        if not self._running:
            return compute(call)
        run = self._running[-1]
        run.calls += 1
        return self._interceptor(replace(call, name=run.name, number=run.calls - 1, batch=run.batch), compute)


class _Here(threading.local):
    """The state of one thread.

    taps: that it opened. depth: number of open `aside` blocks. busy: whether an interceptor is computing.
    rehearsal: the interceptor of a running rehearsal.
    """

    def __init__(self) -> None:
        self.taps: list[Tap] = []
        self.depth = 0
        self.busy = False
        self.rehearsal: Interceptor | None = None


_here = _Here()


def show(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> Tensor:
    """Shows attention that torch's function does not compute to the taps of this thread.

    The adapter of a model with linear attention calls it inside the forward pass of the attention module, and goes on
    with what it returns.

    Args:
        q: (B, H, N, D).
        k: (B, H, N, D).
        v: (B, H, N, D).
        out: (B, H, N, D), before the output projection.

    Returns:
        `out` itself, or the output of an interceptor.

    Raises:
        CaptureError: an interceptor changed q, k or v or added a mask, which can have no effect here.
    """
    given = AttentionCall("", q, k, v)

    def compute(call: AttentionCall) -> Tensor:
        if not _is_same(call, given):
            raise CaptureError(
                f"{call.name}: its attention is computed before it is shown; q, k, v and mask cannot be changed.",
                hint="Change the output: return other values than compute(call) gives.",
            )
        return out

    return attend(given, compute)


def attend(call: AttentionCall, compute: Compute) -> Tensor:
    """Computes attention through the chain of this thread's taps.

    Args:
        call: q, k, v of the call; the taps fill in its name and number.
        compute: computes the output, (B, H, N, D), from a call that interceptors may have changed.
    """
    if _here.busy:
        return compute(call)
    if _here.rehearsal is not None:
        links = [_here.rehearsal]
    else:
        taps = _hearing()
        links = [tap._attend for tap in taps]
        for tap in taps:
            tap._announce()
    if not links:
        return compute(call)
    with unheard():
        return _chain(links, compute)(call)


def _chain(links: Sequence[Interceptor], compute: Compute) -> Compute:
    """Returns one function with all interceptors around `compute`, the first one outermost."""
    for link in reversed(links):
        compute = functools.partial(_link, link, compute)
    return compute


def _link(interceptor: Interceptor, compute: Compute, call: AttentionCall) -> Tensor:
    return interceptor(call, compute)


def listening() -> bool:
    """Returns whether a tap of this thread is open and no interceptor is computing."""
    return bool(_hearing()) and not _here.busy


def _hearing() -> list[Tap]:
    """Returns the taps of this thread that hear what it computes now, the outermost first."""
    return [tap for tap in _here.taps if tap._place.depth == _here.depth]


@contextmanager
def aside() -> Iterator[None]:
    """Hides forward passes of this thread inside the block from all taps and watches that were opened before.

    Taps and watches that are opened inside the block see them.
    """
    _here.depth += 1
    try:
        yield
    finally:
        _here.depth -= 1


@contextmanager
def unheard() -> Iterator[None]:
    """Hides attention that this thread computes inside the block from all taps."""
    before, _here.busy = _here.busy, True
    try:
        yield
    finally:
        _here.busy = before


@contextmanager
def rehearsal(name: str, observer: Observer) -> Iterator[None]:
    """Replaces attention in this thread by zeros while the block runs, and calls `observer` with each call.

    The calls carry `name`. No tap sees them.
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
    """Returns whether this thread is inside `rehearsal`."""
    return _here.rehearsal is not None


def recomputing() -> bool:
    """Returns whether this thread is inside a backward pass, where gradient checkpointing runs modules once more."""
    return torch._C._current_graph_task_id() != -1


@contextmanager
def _patch_function() -> Iterator[None]:
    original = F.scaled_dot_product_attention
    live = True

    @functools.wraps(original)
    def wrapper(*args: Any, **kwargs: Any) -> Tensor:
        if not live:
            return original(*args, **kwargs)
        arguments = {**dict(zip(_ARGUMENTS, args, strict=False)), **kwargs}
        given = _to_call(arguments)

        def compute(call: AttentionCall) -> Tensor:
            if _is_same(call, given):
                return original(*args, **kwargs)
            # dropout and enable_gqa stay as the model gave them
            return original(**{**arguments, **_to_arguments(call)})

        return attend(given, compute)

    F.scaled_dot_product_attention = wrapper
    try:
        yield
    finally:
        # if other code has patched over ours, that patch stays, and our wrapper below it only passes calls on
        live = False
        if F.scaled_dot_product_attention is wrapper:
            F.scaled_dot_product_attention = original


_patch = Shared(_patch_function)


def _to_call(arguments: dict[str, Any]) -> AttentionCall:
    return AttentionCall(
        name="",
        q=arguments["query"],
        k=arguments["key"],
        v=arguments["value"],
        mask=arguments.get("attn_mask"),
        scale=arguments.get("scale"),
        causal=bool(arguments.get("is_causal", False)),
    )


def _to_arguments(call: AttentionCall) -> dict[str, Any]:
    return {
        "query": call.q,
        "key": call.k,
        "value": call.v,
        "attn_mask": call.mask,
        "scale": call.scale,
        "is_causal": call.causal,
    }


def _is_same(call: AttentionCall, given: AttentionCall) -> bool:
    """Returns whether all arguments of torch's function are unchanged."""
    tensors = ((call.q, given.q), (call.k, given.k), (call.v, given.v), (call.mask, given.mask))
    return all(one is other for one, other in tensors) and (call.scale, call.causal) == (given.scale, given.causal)


def batch_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int | None:
    """Returns the number of batch rows in a module's input, read from its first tensor; None if it got no tensor."""
    given = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.ndim)
    first = next(given, None)
    return None if first is None else first.shape[0]


def _describe(module: nn.Module) -> str:
    processor = getattr(module, "processor", None)
    kind = type(module).__name__
    return kind if processor is None else f"{kind} with {type(processor).__name__}"
