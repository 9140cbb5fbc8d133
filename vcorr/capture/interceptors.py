"""Editing attention: a function of one's own around the attention calls of chosen modules (docs/capture.md).

Shape legend: B batch, H heads, N tokens, D head width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from vcorr.capture.captures import TokenLayout
from vcorr.capture.modules import denoisers_of, find
from vcorr.capture.passes import Pass, PassListener, PassWatch
from vcorr.capture.split import check_layout
from vcorr.capture.tap import AttentionCall, Compute, Tap, recomputing
from vcorr.contract.errors import CaptureError, UsageError
from vcorr.contract.records import NO_SITE, Site

_NOWHERE = Site(NO_SITE, "")
HEAD_AXIS = 1
"""The axis of the heads in q, k, v and the output of a call, (B, H, N, D)."""


@dataclass(frozen=True)
class EditableCall(AttentionCall):
    """An attention call, and where in the model it is made.

    site: the attention module. step: 0-based index of the denoising step. branches: the guidance branches of its batch,
    in batch order; empty where several rows come and nothing says whose they are. The other fields are those of
    `AttentionCall`.
    """

    site: Site = _NOWHERE
    step: int = 0
    branches: tuple[str, ...] = ("cond",)

    @property
    def branch(self) -> str:
        """The guidance branch, or several of one batch joined by "+": "uncond+cond"; "" where that is not known."""
        return "+".join(self.branches)

    def rows(self, branch: str) -> slice:
        """The rows of the batch that belong to a guidance branch; an empty slice where it is not in this call.

        Raises:
            CaptureError: it is not known whose the rows of the batch are, or rows of different branches alternate.
        """
        if self.branches and branch not in self.branches:
            return slice(0, 0)
        rows, count = self.q.shape[0], len(self.branches)
        alternates = self.site.factorised is not None and self.site.factorised.order == "interleaved"
        if not count or rows % count or (count > 1 and alternates):
            raise CaptureError(
                f"{self.name}: {rows} rows cannot be told apart by the branches {self.branches!r}.",
                hint="Tell intercept() the model's layout: layout=TokenLayout(branches=('uncond', 'cond')).",
            )
        each, index = rows // count, self.branches.index(branch)
        return slice(index * each, (index + 1) * each)


Edit = Callable[[EditableCall, Compute], Tensor]
"""Given a call and what computes it; returns the output, (B, H, N, D), that the model goes on with."""


@contextmanager
def intercept(
    module: nn.Module | Sequence[nn.Module],
    sites: str | Site | Sequence[str | Site],
    interceptor: Edit,
    *,
    layout: TokenLayout | None = None,
    watch: PassWatch | None = None,
) -> Iterator[None]:
    """Puts a function around the attention calls of `sites` while the block runs.

    ``interceptor(call, compute)`` is called in place of each attention call and returns the output the model goes on
    with. ``compute(call)`` computes it; ``compute(dataclasses.replace(call, mask=...))`` computes another call. Blocks
    may be nested: the outermost sees the call as the model made it, those inside and the recorder see what it made of
    it. After the block, also after an exception, the model is as it was.

    Modules under torch.compile run eagerly inside the block, offloaded ones as ever. Training under gradient
    checkpointing is refused: the backward pass would compute the attention again without the interceptor.

    Args:
        module: the denoiser, compiled or not, or several that take turns.
        sites: the attention modules: their paths inside the denoiser, or `vcorr.Site` records.
        interceptor: called in the forward pass; what it raises passes through the model.
        layout: the model's guidance branches (`TokenLayout`), so that `call.branches` and `call.rows` know them; labels
            of the pipeline (``cache_context``) are known without it.
        watch: asked for the step and branch, where one is open already; else steps are counted from 0: a new one begins
            when a branch comes that has come in the running step already.

    Raises:
        CaptureError: a site does not exist, made no call of attention, or the interceptor returned something else than
            an output.
        UsageError: no site is named, something is no module or no function.
        PluginError: the layout contradicts itself.
    """
    known = _sites(sites)
    modules = denoisers_of(module, "intercept()")
    if not callable(interceptor):
        raise UsageError(f"intercept(): the interceptor must be a function, got {type(interceptor).__name__}.")
    with ExitStack() as stack:
        if watch is None:
            layout = layout or TokenLayout()
            check_layout(layout)
            watch = stack.enter_context(PassWatch(modules, layout))
            watch.start(counted=True)
        stack.enter_context(watch.listen(_NoCheckpoints(modules)))
        around = functools.partial(_around, interceptor, known, watch)
        for one in modules:
            stack.enter_context(Tap(one, known, around))
        yield


def _around(edit: Edit, known: dict[str, Site], watch: PassWatch, call: AttentionCall, compute: Compute) -> Tensor:
    if recomputing():
        raise _checkpointed(call.name)
    now, site = watch.current, known[call.name]
    step = 0 if now is None or now.step is None else now.step
    given = {field.name: getattr(call, field.name) for field in fields(AttentionCall)}
    branches = () if _unassigned(now, site, watch, call) else watch.branches_in(call)
    out: Any = edit(EditableCall(**given, site=site, step=step, branches=branches), compute)
    expected = (*call.q.shape[:-1], call.v.shape[-1])
    if not isinstance(out, Tensor) or tuple(out.shape) != expected:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise CaptureError(
            f"{call.name}: an interceptor must return the attention output, a tensor {expected}; got {got}.",
            hint="Its last line is often: return compute(call)",
        )
    return out


def _unassigned(now: Pass | None, site: Site, watch: PassWatch, call: AttentionCall) -> bool:
    """Whether several rows come and nothing says which guidance branches they are."""
    untold = (now is None or now.told_by == "batch") and len(watch.layout.branches) == 1
    return untold and site.factorised is None and call.q.shape[0] > 1


class _NoCheckpoints(PassListener):
    """Refuses passes whose attention would be computed a second time, outside the block."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = [find(module, "")[0] for module in modules]

    def pass_begins(self, now: Pass) -> None:
        if not torch.is_grad_enabled():
            return
        for module in self._modules:
            for name, part in module.named_modules() if module is not None else ():
                if getattr(part, "gradient_checkpointing", False):
                    raise _checkpointed(name or type(part).__name__)


def _checkpointed(name: str) -> CaptureError:
    return CaptureError(
        f"{name}: gradient checkpointing computes attention again in the backward pass, without the interceptor.",
        hint="Run under torch.no_grad(), or switch it off: model.disable_gradient_checkpointing()",
    )


def _sites(sites: str | Site | Sequence[str | Site]) -> dict[str, Site]:
    """The sites by name; names alone are numbered in their order."""
    given = [sites] if isinstance(sites, (str, Site)) or not isinstance(sites, Iterable) else list(sites)
    wrong = [site for site in given if not isinstance(site, (str, Site))]
    if wrong:
        raise UsageError(f"intercept(): sites are names or vcorr.Site records, got {type(wrong[0]).__name__}.")
    if not given:
        raise UsageError("intercept(): no site was named.", hint="For example: sites=['transformer_blocks.3.attn1']")
    records = [site if isinstance(site, Site) else Site(layer, site) for layer, site in enumerate(given)]
    return {site.name: site for site in records}
