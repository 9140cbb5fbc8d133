"""q and k of positions alone: what a module would attend with if all video tokens had the same content.

Nothing here knows a rotary embedding. The attention module itself is run once more, right before its own run and on the
same input, with what `Site.unrotated` names replaced by its mean over the video tokens, head by head. What it then
brings to its attention is that mean at every token's position, turned by the model's own code in the model's own
precision, however it pairs channels and whether or not its heads turn alike. That attention is not computed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vcorr.capture.batch_rows import CONDITIONAL, branches_of_call
from vcorr.capture.captures import TokenLayout
from vcorr.capture.modules import find_all, run_eagerly
from vcorr.capture.tap import AttentionCall, rehearsal, rehearsing
from vcorr.contract.errors import CaptureError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Axes, Site

_TOKEN_AXIS: Mapping[Axes, int] = {"bhnd": 2, "bnhd": 1, "bnc": 1}


@contextmanager
def watch_positions(
    module: nn.Module,
    sites: Sequence[tuple[Site, TokenGrid]],
    layout: TokenLayout,
    wanted: Callable[[], bool],
    observer: Callable[[str, AttentionCall], None],
) -> Iterator[None]:
    """Shows the attention that `sites` would compute of positions alone to `observer` while the block runs.

    Args:
        module: the denoiser.
        sites: which modules, and how their video tokens lie; `Site.unrotated` must be there.
        layout: where the text is.
        wanted: asked as a module is about to run; False leaves it alone.
        observer: called with the site's name before the module's own attention. q and k of the call are laid out as the
            model's own; its out is zeros.

    Raises:
        CaptureError: a module named by a site does not exist; later, that it did not run or put out something else.
    """
    thread = threading.get_ident()

    def before(stage: _Stage) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if threading.get_ident() == thread and not rehearsing() and wanted():
                for call in stage.rehearse(args, kwargs):
                    observer(stage.site.name, call)

        return enter

    with ExitStack() as stack:
        for site, grid in sites:
            stage, compiled = _stage(module, site, grid, layout)
            stack.enter_context(run_eagerly(compiled=compiled))
            stack.callback(stage.target.register_forward_pre_hook(before(stage), with_kwargs=True).remove)
        yield


@dataclass(frozen=True)
class _Stage:
    """An attention module, and by their paths the modules in it whose outputs are q and k before the embedding."""

    site: Site
    grid: TokenGrid
    layout: TokenLayout
    target: nn.Module
    sources: Mapping[str, nn.Module]

    def rehearse(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[AttentionCall]:
        """The attention call of one more run; none when it made none, of which the tap will complain at the real one.

        Raises:
            CaptureError: a source did not run, so that its content was left in.
        """
        calls: list[AttentionCall] = []
        levelled: set[str] = set()
        with ExitStack() as stack:
            for name, source in self.sources.items():
                stack.callback(source.register_forward_hook(self._leveller(name, levelled)).remove)
            stack.enter_context(torch.no_grad())
            stack.enter_context(rehearsal(self.site.name, calls.append))
            self.target.forward(*args, **kwargs)  # not a call: the hooks on the module are for its own run
        missing = self.sources.keys() - levelled
        if calls and missing:
            raise CaptureError(
                f"{min(missing)}: named for q or k before the rotary embedding, it did not run.",
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
        """The output with every video token replaced by their mean, taken in float32; text is left as it is."""
        assert self.site.unrotated is not None
        axis, tokens = _TOKEN_AXIS[self.site.unrotated.axes], self.grid.tokens
        total = output.shape[axis] if isinstance(output, Tensor) and output.ndim > axis else 0
        if total < tokens:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise CaptureError(
                f"{name}: put out {found}, which does not hold the {tokens} video tokens on axis {axis}.",
                hint="Check Site.unrotated: the modules, and the axes of what they put out.",
            )
        levelled: Tensor = output.clone()
        video = levelled.narrow(axis, total - tokens if self.layout.text == "before" else 0, tokens)
        video.copy_(video.mean(axis, keepdim=True, dtype=torch.float32).expand_as(video))
        return levelled


def _stage(module: nn.Module, site: Site, grid: TokenGrid, layout: TokenLayout) -> tuple[_Stage, bool]:
    """What a site names, and whether any of it is compiled."""
    assert site.unrotated is not None
    sources = [f"{site.name}.{part}" for part in (site.unrotated.q, site.unrotated.k)]
    found, compiled = find_all(module, [site.name, *sources])
    return _Stage(site, grid, layout, found[site.name], {name: found[name] for name in sources}), compiled
