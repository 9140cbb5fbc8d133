"""Holds `guide`: a guidance on a pipeline of the user's own, without a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

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
from vcorr.notebook.layouts import Layout
from vcorr.notebook.pipeline_calls import check_pipeline, place_on_pipeline, restart_with_calls
from vcorr.plugins.option_values import options_from
from vcorr.plugins.registry import installed
from vcorr.runner.spec import NO_GUIDANCE


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
        guidance: a name as in `vcorr list guidances`, or a `vcorr.Guidance`. "none" changes nothing.
        layout: where the tokens are: the name of a model that vcorr knows, or a `vcorr.Layout`. With a layout by hand
            the perturbed prediction is a whole pass.
        size: (T, H, W) of the generated video, for models whose latents do not show it.
        cfg: strength of classifier-free guidance, for pipelines that run the unconditional pass first and do not say
            it.
        seed: for guidances that draw by chance.
        options: of the guidance, as `vcorr show guidance NAME` lists them.

    Raises:
        UsageError: an argument cannot be used; the message names it. Or the pipeline is guided already, by another
            block or by a guider `CrossFrameGuidance`.
        CaptureError: the attention of a perturbed layer cannot be seen.
    """
    check_pipeline(pipe, "guide()")
    if guidance == NO_GUIDANCE:
        _check_no_options(options)
        yield
        return
    _check_guider(pipe)
    made = with_defaults(_make(guidance, options), GuidanceBase).with_seed(seed)
    placed = _Placed(pipe, layout, size)
    with ExitStack() as stack:
        watch = stack.enter_context(PassWatch(placed.modules, placed.layout))
        watch.start(counted=True)
        stack.enter_context(restart_with_calls(pipe.scheduler, watch))
        stack.enter_context(watch.listen(placed))

        def facts(step: int) -> GuidedStep:
            return GuidedStep(step, len(pipe.scheduler.timesteps))

        def strength() -> float | None:
            return strength_of_call(pipe) if cfg is None else cfg

        stack.enter_context(guide_passes(made, placed.model, watch, facts, strength))
        yield


def _check_no_options(options: Mapping[str, Any]) -> None:
    if options:
        raise UsageError(
            f"guide(): {next(iter(options))} is an option of a guidance, and {NO_GUIDANCE!r} has none.",
            hint="Leave it out, or name a guidance: vcorr list guidances",
        )


def _check_guider(pipe: Any) -> None:
    """Checks that the pipeline has no guider that perturbs attention between frames itself."""
    guider = getattr(pipe, "guider", None)
    if guider is None:
        return
    # only here: versions of diffusers without guiders have no pipelines with one
    from vcorr.guidance.frame_guider import CrossFrameGuidance, refuse_both

    if isinstance(guider, CrossFrameGuidance):
        refuse_both()


def _make(guidance: str | Guidance, options: Mapping[str, Any]) -> Guidance:
    if not isinstance(guidance, str):
        if options:
            raise UsageError(
                f"guide(): {next(iter(options))} is an option of a guidance that is named.",
                hint="Set it where the guidance object is made.",
            )
        _check_guidance(guidance)
        return guidance
    entry = installed().guidances.get(guidance).entry
    config_type = entry.config_type()
    if config_type is None:
        made: Guidance = entry.create()
        return made
    found: Guidance = entry.create(options_from(config_type, dict(options), "guide(): "))
    return found


def _check_guidance(given: Any) -> None:
    """Checks that an object can guide: that it perturbs attention, or changes predictions."""
    is_class = isinstance(given, type)
    if is_class or not any(callable(getattr(given, name, None)) for name in ("perturb", "combine")):
        found = f"the class {given.__name__}" if is_class else type(given).__name__
        raise UsageError(
            f"guide(): expected the name of a guidance or a vcorr.Guidance, got {found}.",
            hint="Names: vcorr list guidances",
        )


class _Placed(PassListener):
    """A layout on a pipeline, whose grid is read at the first pass of each call."""

    def __init__(self, pipe: Any, layout: str | Layout, size: tuple[int, int, int] | None) -> None:
        self._pipe = pipe
        self._placement = place_on_pipeline(pipe, layout, size)
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

    def pass_begins(self, now: Pass) -> None:
        """Reads the grid from the arguments of the pass.

        Raises:
            UsageError: the pass holds several videos.
        """
        self._measured = self._placement.measure(now.args, now.kwargs)
        self._check_one_video(now)

    def _check_one_video(self, now: Pass) -> None:
        latents = next(iter(self._arguments(now).values()))
        # without classifier-free guidance, two videos look like two branches
        alone = now.step == 0 and len(now.branches) > 1 and not _runs_branches(self._pipe)
        if alone or (_holds_videos(latents) and len(latents) > len(now.branches)):
            raise UsageError(
                f"guide(): {type(self._pipe).__name__} makes several videos in one call.",
                hint="Call it once per video, with one prompt and num_videos_per_prompt=1.",
            )

    def _arguments(self, now: Pass) -> dict[str, Any]:
        names = parameters(self.modules[now.denoiser])
        found = {**dict(zip(names, now.args, strict=False)), **now.kwargs}
        return {name: found[name] for name in (names[0], *found)}

    def _grid_at(self, site: Site) -> TokenGrid:
        return self._measured.grid_at(site)

    def _take_branch(self, now: Pass) -> Mapping[str, Any]:
        arguments = self._arguments(now)
        latents = next(iter(arguments))
        index, of = now.branches.index(COND), len(now.branches)
        if of == 1:
            return arguments
        adapter, grid = self._placement.adapter, self._measured.grid
        if adapter is not None and grid is not None:
            found: Mapping[str, Any] = adapter.branch_inputs(arguments, latents, grid, COND)
            return found
        return rows_of_branch(arguments, latents, index, of, rows=len(arguments[latents]) // of)


def _runs_branches(pipe: Any) -> bool:
    """Returns whether the call that began has classifier-free guidance; True if the pipeline does not say."""
    found = getattr(pipe, "do_classifier_free_guidance", None)
    if isinstance(found, bool):
        return found
    strength = strength_of_call(pipe)
    return strength is None or strength > 1


def _holds_videos(latents: Any) -> bool:
    """Returns whether each batch row is a video: packed tokens (B, N, C), or five axes; not (F, C, h, w)."""
    return isinstance(latents, Tensor) and latents.ndim in (3, 5)
