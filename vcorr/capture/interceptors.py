"""Edits attention: puts a function of the user's own around the attention calls of chosen modules (docs/capture.md).

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


@dataclass(frozen=True)
class EditableCall(AttentionCall):
    """An attention call, with the site, step and guidance branches where the model makes it.

    site: the attention module. step: 0-based index of the denoising step. branches: the guidance branches of its batch,
    in batch order; empty if there are several batch rows and nothing says which branch each belongs to. `AttentionCall`
    describes the other fields.
    """

    site: Site = _NOWHERE
    step: int = 0
    branches: tuple[str, ...] = ("cond",)

    @property
    def branch(self) -> str:
        """The guidance branch, or several of one batch joined by "+", as in "uncond+cond"; "" if it is not known."""
        return "+".join(self.branches)

    def rows(self, branch: str) -> slice:
        """Returns the batch rows of a guidance branch; an empty slice if the branch is not in this call.

        Raises:
            CaptureError: the branches of the batch rows are not known, or the branches are interleaved.
        """
        if self.branches and branch not in self.branches:
            return slice(0, 0)
        rows, count = self.q.shape[0], len(self.branches)
        alternates = self.site.factorised is not None and self.site.factorised.order == "interleaved"
        if not count or rows % count or (count > 1 and alternates):
            raise CaptureError(
                f"{self.name}: {rows} batch rows cannot be assigned to the branches {self.branches!r}.",
                hint="Give intercept() the model's layout: layout=TokenLayout(branches=('uncond', 'cond')).",
            )
        each, index = rows // count, self.branches.index(branch)
        return slice(index * each, (index + 1) * each)


Edit = Callable[[EditableCall, Compute], Tensor]
"""Takes a call and the function that computes it; returns the output, (B, H, N, D), that the model goes on with."""


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

    ``interceptor(call, compute)`` replaces each attention call and returns the output that the model goes on with.
    ``compute(call)`` computes the call; ``compute(dataclasses.replace(call, mask=...))`` computes another one. Blocks
    may be nested. The outermost interceptor sees the call as the model made it. Inner ones, and the recorder, see the
    call as the outer one passes it on. After the block, also after an exception, the model is as it was.

    Modules under torch.compile run eagerly inside the block. Offloaded modules run as they do without it. Training with
    gradient checkpointing is an error, because the backward pass would recompute the attention without the interceptor.

    Args:
        module: the denoiser, compiled or not, or several that take turns.
        sites: the attention modules, as paths inside the denoiser or as `vcorr.Site` records.
        interceptor: called in the forward pass; its exceptions pass through the model.
        layout: the model's guidance branches (`TokenLayout`), for `call.branches` and `call.rows`. Models that label
            their passes (``cache_context``) do not need it.
        watch: an open watch that knows the step and the branch. None: steps are counted from 0, and a new one begins
            when a branch comes a second time.

    Raises:
        CaptureError: a site does not exist or made no attention call, or the interceptor did not return an output.
        UsageError: no site is given, or an argument is not a module or not a function.
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
        raise _checkpointing_error(call.name)
    now, site = watch.current, known[call.name]
    step = 0 if now is None or now.step is None else now.step
    given = {field.name: getattr(call, field.name) for field in fields(AttentionCall)}
    branches = () if _lacks_branches(now, site, watch, call) else watch.branches_in(call)
    out: Any = edit(EditableCall(**given, site=site, step=step, branches=branches), compute)
    expected = (*call.q.shape[:-1], call.v.shape[-1])
    if not isinstance(out, Tensor) or tuple(out.shape) != expected:
        got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise CaptureError(
            f"{call.name}: an interceptor must return the attention output, a tensor {expected}; got {got}.",
            hint="Its last line is often: return compute(call)",
        )
    return out


def _lacks_branches(now: Pass | None, site: Site, watch: PassWatch, call: AttentionCall) -> bool:
    """Returns whether there are several batch rows and nothing says which guidance branch each belongs to."""
    undeclared = (now is None or now.branches_from == "batch") and len(watch.layout.branches) == 1
    return undeclared and site.factorised is None and call.q.shape[0] > 1


class _NoCheckpoints(PassListener):
    """Refuses passes with gradient checkpointing, which would compute attention again after the block."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self._modules = [find(module, "")[0] for module in modules]

    def pass_begins(self, now: Pass) -> None:
        if not torch.is_grad_enabled():
            return
        for module in self._modules:
            for name, part in module.named_modules() if module is not None else ():
                if getattr(part, "gradient_checkpointing", False):
                    raise _checkpointing_error(name or type(part).__name__)


def _checkpointing_error(name: str) -> CaptureError:
    return CaptureError(
        f"{name}: gradient checkpointing computes attention again in the backward pass, without the interceptor.",
        hint="Run under torch.no_grad(), or switch it off: model.disable_gradient_checkpointing()",
    )


def _sites(sites: str | Site | Sequence[str | Site]) -> dict[str, Site]:
    """Returns the sites by name; plain names become sites whose layer is their index."""
    given = [sites] if isinstance(sites, (str, Site)) or not isinstance(sites, Iterable) else list(sites)
    wrong = [site for site in given if not isinstance(site, (str, Site))]
    if wrong:
        raise UsageError(f"intercept(): sites are names or vcorr.Site records, got {type(wrong[0]).__name__}.")
    if not given:
        raise UsageError("intercept(): no site was named.", hint="For example: sites=['transformer_blocks.3.attn1']")
    records = [site if isinstance(site, Site) else Site(layer, site) for layer, site in enumerate(given)]
    return {site.name: site for site in records}
