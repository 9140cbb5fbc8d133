"""Watches the forward passes of a denoiser: which step, which guidance branch, which of several denoisers.

Pipelines run their guidance branches in different ways: as rows of one batch, as passes one after the other (with or
without a label, ``denoiser.cache_context("cond")``), or as one attention call per batch row. Adapters declare which, in
`TokenLayout`. `PassWatch` combines the declaration with the passes it sees; all other code asks it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Literal

from torch import nn

from vcorr.capture.batch_rows import CONDITIONAL, branches_of_call
from vcorr.capture.caches import check_no_cache
from vcorr.capture.captures import TokenLayout
from vcorr.capture.labels import BATCHED, PREDICTED, listen_to_labels
from vcorr.capture.modules import denoisers_of, find, run_eagerly
from vcorr.capture.tap import AttentionCall, Place, batch_of, recomputing

BranchSource = Literal["label", "order", "batch"]


@dataclass(frozen=True)
class Pass:
    """One forward pass of a denoiser.

    step: 0-based index of its denoising step; None outside a step. number: of the pass within its step, from 0.
    branches: the guidance branches of its batch, in batch order. denoiser: index among the watched denoisers. args,
    kwargs: the arguments of the denoiser. branches_from: where the branches are known from: "label", the pipeline's
    label; "order", the number of the pass in its step; "batch", the size of its batch.
    """

    step: int | None
    number: int
    branches: tuple[str, ...]
    denoiser: int
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    branches_from: BranchSource = "batch"

    @property
    def conditional(self) -> bool:
        """Whether the pass holds the conditional branch."""
        return CONDITIONAL in self.branches


class PassListener:
    """The events of a `PassWatch`; a base class whose methods do nothing."""

    def pass_begins(self, now: Pass) -> None:
        """Runs right before a denoiser does."""

    def pass_ends(self, now: Pass, *, failed: bool) -> None:
        """Runs right after a denoiser has returned or has raised an exception (`failed`)."""

    def step_ends(self, step: int) -> None:
        """Runs when all passes of a step have ended."""


class PassWatch:
    """Finds the step and the guidance branches of every forward pass of the denoisers while the `with` block runs.

    The branches of a pass come from the pipeline's label, if it has one. Without a label, a layout with `passes` gives
    the branch by the number of the pass in its step. In all other cases the pass holds all `branches` of the layout; a
    batch of one holds the conditional branch alone.

    The watch learns the steps in one of three ways. A loop that knows them uses ``with watch.at(step)``. A sampler
    calls `start()` once and `next_step()` at the end of each step. With ``start(counted=True)`` the watch counts: a new
    step begins when a branch comes that the running step has had already.

    Only passes in the thread that opened the watch count, and none inside `aside`. If gradient checkpointing runs a
    pass twice, only the first run counts. Compiled denoisers run eagerly inside the block, as under `Tap`.

    Args:
        denoisers: the modules, compiled or not; several that take turns count as one sequence of passes.
        layout: the guidance branches, and how they come.

    Raises:
        UsageError: at the beginning of the block, if a cache of diffusers skips attention in a denoiser.
    """

    def __init__(self, denoisers: Sequence[nn.Module], layout: TokenLayout) -> None:
        self.denoisers = denoisers_of(tuple(denoisers), "PassWatch()")
        self.layout = layout
        self.seen: Counter[str] = Counter()
        """The number of passes of each branch so far; a pass of several branches counts for each of them."""
        self._step: int | None = None
        self._runs = self._counted = False
        self._number = self._unlabelled = 0
        self._came: set[str] = set()
        self._labels: list[str] = []
        self._running: list[Pass] = []
        self._listeners: list[PassListener] = []
        self._open = ExitStack()
        self._place = Place(0, 0)

    def __enter__(self) -> PassWatch:
        self._place = Place.here()
        with ExitStack() as stack:
            for index, denoiser in enumerate(self.denoisers):
                module, compiled = find(denoiser, "")
                assert module is not None  # the empty name is the module itself
                check_no_cache(module)
                stack.enter_context(run_eagerly(compiled=compiled))
                stack.enter_context(listen_to_labels(module, self._take_label))
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
        """Begins step 0. Later steps begin at `next_step`, or, if `counted`, when a branch comes a second time."""
        self._runs, self._counted = True, counted
        self._begin_step(0)

    @contextmanager
    def at(self, step: int) -> Iterator[None]:
        """Assigns the passes inside the block to that step; has no effect after `start`."""
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
        """Number of declared `passes` that the last step without labels lacks; 0 if none is missing."""
        return -self._unlabelled % len(self.layout.passes) if self.layout.passes else 0

    @property
    def current(self) -> Pass | None:
        """The pass that runs now in the thread of the watch, else None.

        Inside a step, parts of a denoiser may run without it. They belong to a pass with all branches of the layout.
        """
        if not self._place.is_here():
            return None
        if self._running:
            return self._running[-1]
        return None if self._step is None else Pass(self._step, 0, self.layout.branches, 0)

    def branches_in(self, call: AttentionCall) -> tuple[str, ...]:
        """Returns the guidance branches of an attention call of the current pass, in batch order; () outside a pass.

        Raises:
            CaptureError: under `TokenLayout.per_sample`, the number of calls differs from the number of branches.
        """
        now = self.current
        return () if now is None else branches_of_call(call, self.layout, now.branches)

    @contextmanager
    def listen(self, listener: PassListener) -> Iterator[None]:
        """Sends passes and steps to `listener` while the block runs, beginning with a pass that runs already."""
        self._listeners.append(listener)
        try:
            if self._running:
                listener.pass_begins(self._running[-1])
            yield
        finally:
            self._listeners.remove(listener)

    def _before(self, denoiser: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._place.is_here() or recomputing():
            return
        while self._running:  # torch calls no hook when Ctrl-C ends a pass
            self._end(failed=True)
        branches, source = self._find_branches(args, kwargs)
        if self._counted and not self._came.isdisjoint(branches):
            self.next_step()
        now = Pass(self._step, self._number, branches, denoiser, args, kwargs, source)
        self._number += 1
        self._came.update(branches)
        self.seen.update(branches)
        self._running.append(now)
        for listener in tuple(self._listeners):
            listener.pass_begins(now)

    def _after(self, denoiser: int, module: nn.Module, args: Any, result: Any) -> None:
        if not self._place.is_here() or recomputing():
            return
        # if another pre-hook raised before ours ran, this pass never began for us
        if not self._running or self._running[-1].denoiser != denoiser:
            return
        self._end(failed=result is None)  # torch passes None after an exception

    def _end(self, *, failed: bool) -> None:
        now = self._running.pop()
        if failed:
            self._uncount(now)
        for listener in tuple(self._listeners):
            listener.pass_ends(now, failed=failed)

    def _uncount(self, failed: Pass) -> None:
        """Takes back the counts of a pass that failed, so that the next pass gets its number and its branch."""
        self._number -= 1
        self._unlabelled -= failed.branches_from == "order"
        self._came.difference_update(failed.branches)
        self.seen.subtract(failed.branches)

    def _find_branches(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[str, ...], BranchSource]:
        """Returns the branches of a pass that begins, and where they are known from."""
        label = self._labels[-1] if self._labels else None
        if label is not None and label != BATCHED:
            return (label.removeprefix(PREDICTED),), "label"
        passes = self.layout.passes
        if label is None and passes:
            self._unlabelled += 1
            return (passes[(self._unlabelled - 1) % len(passes)],), "order"
        several = (batch_of(args, kwargs) or 1) >= len(self.layout.branches)
        return self.layout.branches if several else (CONDITIONAL,), "batch"

    def _take_label(self, label: str | None) -> None:
        if not self._place.is_here():
            return
        if label is None:
            self._labels.pop()
        else:
            self._labels.append(label)


def describe_passes(watch: PassWatch) -> str:
    """Describes the passes that came, for messages about a conditional branch that did not come."""
    found = ", ".join(f"{count} of {name!r}" for name, count in sorted(watch.seen.items()))
    return f"the passes that came were {found}" if found else "no pass of the denoiser came"
