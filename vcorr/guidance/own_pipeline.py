"""Holds `guide`: a guidance on a pipeline of the user's own, without a run."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from vcorr.capture.passes import Pass, PassListener, PassWatch
from vcorr.contract.bases import GuidanceBase, with_defaults
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.guidance_protocols import COND, Guidance, GuidedStep
from vcorr.contract.records import Site
from vcorr.diffusion.borrowed import parameters, rows_of_branch
from vcorr.diffusion.guiding import strength_of_call
from vcorr.interventions.guided_model import GuidedModel
from vcorr.interventions.guided_sampling import guide_passes
from vcorr.notebook.layouts import Layout, Placement, place_by_hand, place_by_plugin
from vcorr.plugins.option_values import options_from
from vcorr.plugins.registry import installed


@contextmanager
def guide(
    pipe: Any,
    guidance: str | Guidance = "cag",
    *,
    layout: str | Layout,
    size: tuple[int, int, int] | None = None,
    cfg: float | None = None,
    seed: int = 0,
    **options: Any,
) -> Iterator[None]:
    """Guides every call of a diffusers pipeline inside the block; afterwards the pipeline is as it was.

    ::

        with vcorr.guidance.guide(pipe, "cag", layout="cogvideox", layers="13,17,21", scale=1.0):
            video = pipe(prompt).frames[0]

    Args:
        pipe: the pipeline; its own guidance stays as it is.
        guidance: a name as in `vcorr list guidances`, or a `vcorr.Guidance`.
        layout: where the tokens are: the name of a model that vcorr knows, or a `vcorr.Layout`. With a layout by hand
            the perturbed prediction is a whole pass.
        size: (T, H, W) of the generated video, for models whose latents do not show it.
        cfg: strength of classifier-free guidance, for pipelines that run the unconditional pass first and do not say
            it.
        seed: for guidances that draw by chance.
        options: of the guidance, as `vcorr show guidance NAME` lists them.

    Raises:
        UsageError: an argument cannot be used; the message names it.
        CaptureError: the attention of a perturbed layer cannot be seen.
    """
    if isinstance(pipe, nn.Module) or not hasattr(pipe, "scheduler"):
        raise UsageError(
            f"guide(): expected a diffusers pipeline, got {type(pipe).__name__}.",
            hint="Give it the pipeline itself, not its denoiser: guide(pipe, ...)",
        )
    made = with_defaults(_make(guidance, options), GuidanceBase).with_seed(seed)
    placed = _Placed(pipe, layout, size)
    with ExitStack() as stack:
        watch = stack.enter_context(PassWatch(placed.modules, placed.layout))
        watch.start(counted=True)
        stack.enter_context(_restart_with_calls(pipe.scheduler, watch))
        stack.enter_context(watch.listen(placed))

        def facts(step: int) -> GuidedStep:
            return GuidedStep(step, len(pipe.scheduler.timesteps))

        def strength() -> float | None:
            return strength_of_call(pipe) if cfg is None else cfg

        stack.enter_context(guide_passes(made, placed.model, watch, facts, strength))
        yield


def _make(guidance: str | Guidance, options: Mapping[str, Any]) -> Guidance:
    if not isinstance(guidance, str):
        if options:
            raise UsageError(
                f"guide(): {next(iter(options))} is an option of a guidance that is named.",
                hint="Set it where the guidance object is made.",
            )
        return guidance
    entry = installed().guidances.get(guidance).entry
    config_type = entry.config_type()
    if config_type is None:
        made: Guidance = entry.create()
        return made
    found: Guidance = entry.create(options_from(config_type, dict(options), "guide(): "))
    return found


class _Placed(PassListener):
    """A layout on a pipeline, whose grid is read at the first pass of each call."""

    def __init__(self, pipe: Any, layout: str | Layout, size: tuple[int, int, int] | None) -> None:
        self._placement = self._place(pipe, layout, size)
        self.modules, self.layout = self._placement.modules, self._placement.layout
        self._measured = self._placement
        adapter = self._placement.adapter
        self.model = GuidedModel(
            self.modules,
            self._placement.sites,
            self.layout,
            self._grid_at,
            self._take_branch,
            joins_rows=adapter is not None and adapter.joins_rows,
            recommended=() if adapter is None else adapter.guidance_layers,
            name=type(pipe).__name__,
        )

    @staticmethod
    def _place(pipe: Any, layout: str | Layout, size: tuple[int, int, int] | None) -> Placement:
        if isinstance(layout, str):
            return place_by_plugin(pipe, layout, size=size)
        names = [name for name in ("transformer", "transformer_2", "unet") if getattr(pipe, name, None) is not None]
        return place_by_hand([getattr(pipe, name) for name in names], layout)

    def pass_begins(self, now: Pass) -> None:
        """Reads the grid from the arguments of the pass."""
        self._measured = self._placement.measure(now.args, now.kwargs)

    def _grid_at(self, site: Site) -> TokenGrid:
        return self._measured.grid_at(site)

    def _take_branch(self, now: Pass) -> Mapping[str, Any]:
        names = parameters(self.modules[now.denoiser])
        arguments = {**dict(zip(names, now.args, strict=False)), **now.kwargs}
        index, of = now.branches.index(COND), len(now.branches)
        if of == 1:
            return arguments
        adapter, grid = self._placement.adapter, self._measured.grid
        if adapter is not None and grid is not None:
            found: Mapping[str, Any] = adapter.branch_inputs(arguments, names[0], grid, COND)
            return found
        return rows_of_branch(arguments, names[0], index, of, rows=len(arguments[names[0]]) // of)


@contextmanager
def _restart_with_calls(scheduler: Any, watch: PassWatch) -> Iterator[None]:
    """Counts steps from 0 again whenever a call of the pipeline sets its steps, while the block runs."""
    own = scheduler.set_timesteps

    @functools.wraps(own)  # pipelines inspect its signature
    def set_timesteps(*args: Any, **kwargs: Any) -> Any:
        result = own(*args, **kwargs)
        watch.start(counted=True)
        return result

    scheduler.set_timesteps = set_timesteps
    try:
        yield
    finally:
        del scheduler.set_timesteps
