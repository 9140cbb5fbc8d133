"""Computes q and k from positions alone: as if all video tokens had the same content.

This module knows no rotary embedding. It runs the attention module once more, right before its own run and on the same
input. In that run, the outputs that `Site.unrotated` names are replaced by their mean over the video tokens, per head.
So the model's own code rotates the mean to the position of every token, in the model's own precision. This holds for
any pairing of channels, and for heads with different rotations. The attention itself is not computed in that run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vcorr.capture.batch_rows import CONDITIONAL, branches_of_call
from vcorr.capture.captures import TokenLayout
from vcorr.capture.modules import find_all, run_eagerly
from vcorr.capture.ranks import ALONE, Ranks
from vcorr.capture.tap import AttentionCall, Place, rehearsal, rehearsing
from vcorr.contract.errors import CaptureError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Axes, Site

TOKEN_AXIS: Mapping[Axes, int] = {"bhnd": 2, "bnhd": 1, "bnc": 1}
"""The axis of the tokens in a tensor before the rotary embedding."""


@contextmanager
def watch_positions(
    module: nn.Module,
    sites: Sequence[tuple[Site, TokenGrid]],
    layout: TokenLayout,
    wanted: Callable[[], bool],
    observer: Callable[[str, AttentionCall], None],
    ranks: Ranks = ALONE,
) -> Iterator[None]:
    """Calls `observer` with the attention call that each site would make from positions alone, while the block runs.

    Args:
        module: the denoiser.
        sites: the attention modules, each with the grid of its video tokens. `Site.unrotated` must be set.
        layout: where the text is.
        wanted: called when a module is about to run; False skips it.
        observer: called with the site's name and the call, before the module's own attention. q and k of the call have
            the model's own layout; its out is zeros.
        ranks: the processes that share the pass; each has some of the tokens, or all.

    Raises:
        CaptureError: a module that a site names does not exist. Inside the block: such a module did not run, or its
            output does not hold the video tokens.
    """
    place = Place.here()

    def before(stage: _Stage) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if place.is_here() and not rehearsing() and wanted():
                for call in stage.rehearse(args, kwargs):
                    observer(stage.site.name, call)

        return enter

    with ExitStack() as stack:
        for site, grid in sites:
            stage, compiled = _make_stage(module, site, grid, layout, ranks)
            stack.enter_context(run_eagerly(compiled=compiled))
            stack.callback(stage.target.register_forward_pre_hook(before(stage), with_kwargs=True).remove)
        yield


@dataclass(frozen=True)
class _Stage:
    """An attention module, and by path the modules in it whose outputs are q and k before the rotary embedding."""

    site: Site
    grid: TokenGrid
    layout: TokenLayout
    target: nn.Module
    sources: Mapping[str, nn.Module]
    ranks: Ranks = ALONE

    def rehearse(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[AttentionCall]:
        """Runs the module once more and returns its conditional attention call from positions alone.

        The result is empty if the module made no call; the tap reports that in the module's own run.

        Raises:
            CaptureError: a source did not run, so its content would still be in the call.
        """
        calls: list[AttentionCall] = []
        levelled: set[str] = set()
        with ExitStack() as stack:
            for name, source in self.sources.items():
                stack.callback(source.register_forward_hook(self._leveller(name, levelled)).remove)
            stack.enter_context(torch.no_grad())
            stack.enter_context(rehearsal(self.site.name, calls.append))
            self.target.forward(*args, **kwargs)  # `forward` skips the module's hooks, which belong to its own run
        missing = self.sources.keys() - levelled
        if calls and missing:
            raise CaptureError(
                f"{min(missing)}: the site names it for q or k before the rotary embedding, but it did not run.",
                hint="Check Site.unrotated: the modules it names must run before the attention is computed.",
            )
        numbered = (replace(call, number=number, batch=len(calls)) for number, call in enumerate(calls))
        branches = self.layout.branches
        return [call for call in numbered if CONDITIONAL in branches_of_call(call, self.layout, branches)][:1]

    def _leveller(self, name: str, levelled: set[str]) -> Callable[[nn.Module, Any, Any], Tensor]:
        def level(_: nn.Module, args: Any, output: Any) -> Tensor:
            levelled.add(name)
            return self._level(name, output)

        return level

    def _level(self, name: str, output: Any) -> Tensor:
        """Returns the output with every video token replaced by their mean, in float32; text tokens are unchanged."""
        assert self.site.unrotated is not None
        axis, tokens = TOKEN_AXIS[self.site.unrotated.axes], self.grid.tokens
        total = output.shape[axis] if isinstance(output, Tensor) and output.ndim > axis else 0
        if total * self.ranks.count == tokens:
            tokens = total
        if total < tokens:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise CaptureError(
                f"{name}: its output {found} does not hold the {tokens} video tokens on axis {axis}.",
                hint="Check Site.unrotated: the modules, and the axes of their outputs.",
            )
        levelled: Tensor = output.clone()
        video = levelled.narrow(axis, total - tokens if self.layout.text == "before" else 0, tokens)
        mean = video.mean(axis, keepdim=True, dtype=torch.float32)
        video.copy_(self.ranks.mean(mean).expand_as(video))
        return levelled


def _make_stage(
    module: nn.Module, site: Site, grid: TokenGrid, layout: TokenLayout, ranks: Ranks
) -> tuple[_Stage, bool]:
    """Returns the modules that a site names, and whether any of them is compiled."""
    assert site.unrotated is not None
    sources = [f"{site.name}.{part}" for part in (site.unrotated.q, site.unrotated.k)]
    found, compiled = find_all(module, [site.name, *sources])
    return _Stage(site, grid, layout, found[site.name], {name: found[name] for name in sources}, ranks), compiled
