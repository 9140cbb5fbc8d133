"""Guides the sampling of a diffusers video model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

from vcorr.capture.captures import TokenLayout
from vcorr.capture.passes import Pass, PassWatch
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.guidance_protocols import COND, GuidedStep
from vcorr.contract.modes import mode_of
from vcorr.contract.records import Clip, ModelCard, RunSettings, Site
from vcorr.diffusion.accelerators.accelerator_names import Accelerators
from vcorr.diffusion.borrowed import parameters
from vcorr.diffusion.schedule import NoiseSchedule
from vcorr.interventions.guided_model import GuidedModel
from vcorr.interventions.guided_sampling import guide_passes


class _Model(Protocol):
    """The members of a `DiffusersVideoModel` that guided sampling uses; that class documents them."""

    joins_rows: ClassVar[bool]

    @property
    def pipe(self) -> Any: ...

    @property
    def denoisers(self) -> tuple[str, ...]: ...

    @property
    def guidance_layers(self) -> tuple[int, ...]: ...

    def model_card(self) -> ModelCard: ...

    def sites(self) -> Sequence[Site]: ...

    def layout(self) -> TokenLayout: ...

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid: ...

    def setting(self, name: str) -> Any: ...

    def branch_inputs(
        self, arguments: Mapping[str, Any], latents: str, grid: TokenGrid, branch: str = "cond"
    ) -> Mapping[str, Any]: ...


def describe_model(model: _Model, clip: Clip) -> GuidedModel:
    """Returns what guided sampling needs to know of a loaded model for a clip of its size."""
    grid = model.grid(clip, None)
    modules = [getattr(model.pipe, name) for name in model.denoisers]

    def take_branch(now: Pass) -> Mapping[str, Any]:
        names = parameters(modules[now.denoiser])
        arguments = {**dict(zip(names, now.args, strict=False)), **now.kwargs}
        return arguments if len(now.branches) == 1 else model.branch_inputs(arguments, names[0], grid, COND)

    return GuidedModel(
        modules,
        tuple(model.sites()),
        model.layout(),
        lambda site: model.grid(clip, site),
        take_branch,
        joins_rows=model.joins_rows,
        recommended=model.guidance_layers,
        name=model.model_card().title,
    )


@contextmanager
def guide_sampling(
    model: _Model, clip: Clip, settings: RunSettings, watch: PassWatch, schedule: NoiseSchedule
) -> Iterator[None]:
    """Applies the guidance of the settings, if there is one, while the pipeline samples inside the block.

    Args:
        model: loaded.
        clip: without its video; it has the model's size.
        settings: of mode generate.
        watch: over the passes, which knows the steps.
        schedule: the steps and their noise levels.

    Raises:
        UsageError: the guidance does not fit the model.
    """
    if settings.guidance is None:
        yield
        return

    def facts(step: int) -> GuidedStep:
        return GuidedStep(step, settings.num_steps, float(schedule.noise[step]))

    def strength() -> float | None:
        own = model.setting("guidance_scale") if settings.cfg is None else settings.cfg
        return strength_of_call(model.pipe) if own is None else float(own)

    with guide_passes(settings.guidance, describe_model(model, clip), watch, facts, strength):
        yield


def check_guidance(model: _Model, settings: RunSettings, accelerators: Accelerators) -> None:
    """Checks a guidance before anything is loaded.

    Raises:
        UsageError: the mode makes no video, or the options do not fit the model. Or the guidance perturbs attention
            that an accelerator computes: the perturbed prediction would not be of the accelerated model.
    """
    if settings.guidance is None:
        return
    if not mode_of(settings.mode).makes_video:
        raise UsageError(
            f"Mode {settings.mode} does not sample, so there is nothing to guide.",
            hint="Use --mode generate, or leave --guidance out.",
        )
    perturbation = settings.guidance.perturb(GuidedModel.sites_of(model.sites(), model.guidance_layers))
    edits = perturbation is not None and perturbation.kind == "attention"
    if perturbation is not None and edits and accelerators.replaces_attention:
        layers = ",".join(map(str, perturbation.layers))
        raise UsageError(
            f"model.accelerate={accelerators.text} computes attention itself, so a guidance cannot perturb it, nor "
            "some of its heads: they would see tokens that the accelerated model hides from them.",
            hint=f"Leave one of both out, or skip whole blocks: --guidance slg --layers {layers}",
        )


def strength_of_call(pipe: Any) -> float | None:
    """Returns the strength of classifier-free guidance in the running call of a pipeline; None if it does not say."""
    found = getattr(pipe, "_guidance_scale", None)
    return float(found) if isinstance(found, (int, float)) else None
