"""One watch over the forward passes of a denoiser: which step, which guidance branch, which of several denoisers.

Pipelines run their guidance branches in different ways: as rows of one batch, as passes one after the other, labelled
with ``denoiser.cache_context("cond")`` or not, or as one attention call per row. Adapters say which as data
(`TokenLayout`); `PassWatch` answers from that and from what it sees. Everything else asks it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Literal

from torch import nn

from vcorr.capture.batch_rows import CONDITIONAL, branches_of_call
from vcorr.capture.captures import TokenLayout
from vcorr.capture.labels import BATCHED, PREDICTED, pass_labels
from vcorr.capture.modules import denoisers_of, find, run_eagerly
from vcorr.capture.tap import AttentionCall, batch_of, recomputing

ToldBy = Literal["label", "order", "batch"]


@dataclass(frozen=True)
class Pass:
    """One forward pass of a denoiser.

    step: 0-based index of its denoising step; None outside a step. number: of the pass within its step, from 0.
    branches: the guidance branches its batch holds, in batch order. denoiser: index among those that are watched. args,
    kwargs: what the denoiser is called with. told_by: what told its branches: the pipeline's label, the number of the
    pass in its step, or the rows of its batch.
    """

    step: int | None
    number: int
    branches: tuple[str, ...]
    denoiser: int
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    told_by: ToldBy = "batch"

    @property
    def conditional(self) -> bool:
        """Whether the conditional branch is in it."""
        return CONDITIONAL in self.branches


class PassListener:
    """What `PassWatch` tells; a base class whose methods do nothing."""

    def pass_begins(self, now: Pass) -> None:
        """Called right before a denoiser runs."""

    def pass_ends(self, now: Pass, *, failed: bool) -> None:
        """Called right after it has run, or has raised."""

    def step_ends(self, step: int) -> None:
        """Called when all passes of a step have run."""


class PassWatch:
    """Knows of every forward pass of the denoisers its step and its guidance branches, while the `with` block runs.

    The branches of a pass are those of its label, where the pipeline labels it; else, where the layout declares
    `passes`, the one at the number of the pass in its step; else all `branches` of the layout, or the conditional one
    alone in a batch of one.

    Steps are known in one of three ways. A loop that knows them says so, `at(step)`. A sampler says when each one ends,
    `next_step()`, after `start()`. With ``start(counted=True)`` nobody says anything: a step begins when a branch comes
    that has come in the running step already.

    Only passes of the thread that opened the watch count, and only the first of those that gradient checkpointing runs
    twice. Compiled denoisers run eagerly meanwhile, as under `Tap`.

    Args:
        denoisers: the modules, compiled or not; several that take turns count as one sequence of passes.
        layout: which branches there are, and how they come.
    """

    def __init__(self, denoisers: Sequence[nn.Module], layout: TokenLayout) -> None:
        self.denoisers = denoisers_of(tuple(denoisers), "PassWatch()")
        self.layout = layout
        self.seen: Counter[str] = Counter()
        """How many passes of each branch have come; a pass of several branches counts for each."""
        self._step: int | None = None
        self._runs = self._counted = False
        self._number = self._unlabelled = 0
        self._came: set[str] = set()
        self._labels: list[str] = []
        self._running: list[Pass] = []
        self._listeners: list[PassListener] = []
        self._open = ExitStack()
        self._thread = 0

    def __enter__(self) -> PassWatch:
        self._thread = threading.get_ident()
        with ExitStack() as stack:
            for index, denoiser in enumerate(self.denoisers):
                module, compiled = find(denoiser, "")
                assert module is not None  # the empty name is the module itself
                stack.enter_context(run_eagerly(compiled=compiled))
                stack.enter_context(pass_labels(module, self._labelled))
                before = partial(self._before, index)
                stack.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(partial(self._after, index), always_call=True).remove)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    # ----------------------------------------------------------------------------------------------------------- steps

    @property
    def step(self) -> int | None:
        """The running step; None when no step runs."""
        return self._step

    def start(self, *, counted: bool = False) -> None:
        """From here on steps follow each other from 0: told by `next_step`, or counted."""
        self._runs, self._counted = True, counted
        self._begin_step(0)

    @contextmanager
    def at(self, step: int) -> Iterator[None]:
        """The passes inside are those of that step; changes nothing after `start`."""
        if self._runs:
            yield
            return
        self._begin_step(step)
        try:
            yield
        finally:
            self._step = None

    def next_step(self) -> None:
        """Ends the running step and begins the next one."""
        assert self._step is not None  # `start` comes first
        for listener in tuple(self._listeners):
            listener.step_ends(self._step)
        self._begin_step(self._step + 1)

    def _begin_step(self, step: int) -> None:
        self._step, self._number = step, 0
        self._came.clear()
        if not self._counted:
            self._unlabelled = 0

    # ---------------------------------------------------------------------------------------------------------- passes

    @property
    def unfinished(self) -> int:
        """How many of the declared `passes` a last step without labels lacks; 0 where nothing is missing."""
        return -self._unlabelled % len(self.layout.passes) if self.layout.passes else 0

    @property
    def current(self) -> Pass | None:
        """The pass that runs now in the thread of the watch.

        Inside a step, modules that run without their denoiser, as parts of it, belong to a pass of their own.
        """
        if threading.get_ident() != self._thread:
            return None
        if self._running:
            return self._running[-1]
        return None if self._step is None else Pass(self._step, 0, self.layout.branches, 0)

    def branches_in(self, call: AttentionCall) -> tuple[str, ...]:
        """The guidance branches that an attention call of the current pass holds, in batch order; () outside a pass.

        Raises:
            CaptureError: rows have calls of their own, and there are not as many as branches.
        """
        now = self.current
        return () if now is None else branches_of_call(call, self.layout, now.branches)

    @contextmanager
    def listen(self, listener: PassListener) -> Iterator[None]:
        """Tells `listener` of passes and steps while the block runs; of one that runs already as well."""
        self._listeners.append(listener)
        try:
            if self._running:
                listener.pass_begins(self._running[-1])
            yield
        finally:
            self._listeners.remove(listener)

    def _before(self, denoiser: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if threading.get_ident() != self._thread or recomputing():
            return
        while self._running:  # torch tells nobody of a pass that Ctrl-C has ended
            self._end(failed=True)
        branches, told_by = self._branches(args, kwargs)
        if self._counted and not self._came.isdisjoint(branches):
            self.next_step()
        now = Pass(self._step, self._number, branches, denoiser, args, kwargs, told_by)
        self._number += 1
        self._came.update(branches)
        self.seen.update(branches)
        self._running.append(now)
        for listener in tuple(self._listeners):
            listener.pass_begins(now)

    def _after(self, denoiser: int, module: nn.Module, args: Any, result: Any) -> None:
        if threading.get_ident() != self._thread or recomputing():
            return
        # a pre-hook of somebody else may have raised before ours ran: then there is nothing of ours to end
        if not self._running or self._running[-1].denoiser != denoiser:
            return
        self._end(failed=result is None)  # as torch announces it

    def _end(self, *, failed: bool) -> None:
        now = self._running.pop()
        if failed:
            self._uncount(now)
        for listener in tuple(self._listeners):
            listener.pass_ends(now, failed=failed)

    def _uncount(self, failed: Pass) -> None:
        """Makes as if a pass that raised had not come: the one after it has its number and its branch."""
        self._number -= 1
        self._unlabelled -= failed.told_by == "order"
        self._came.difference_update(failed.branches)
        self.seen.subtract(failed.branches)

    def _branches(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[str, ...], ToldBy]:
        """The branches of a pass that begins, and what told them."""
        label = self._labels[-1] if self._labels else None
        if label is not None and label != BATCHED:
            return (label.removeprefix(PREDICTED),), "label"
        passes = self.layout.passes
        if label is None and passes:
            self._unlabelled += 1
            return (passes[(self._unlabelled - 1) % len(passes)],), "order"
        several = (batch_of(args, kwargs) or 1) >= len(self.layout.branches)
        return self.layout.branches if several else (CONDITIONAL,), "batch"

    def _labelled(self, label: str | None) -> None:
        if threading.get_ident() != self._thread:
            return
        if label is None:
            self._labels.pop()
        else:
            self._labels.append(label)


def arrived(watch: PassWatch) -> str:
    """What passes came, in words, for messages about a conditional branch that did not."""
    found = ", ".join(f"{count} of {name!r}" for name, count in sorted(watch.seen.items()))
    return f"the passes that came were {found}" if found else "no pass of the denoiser came"
