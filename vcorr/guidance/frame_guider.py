"""Cross-attention guidance as a guider of diffusers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Literal, NoReturn

from diffusers.configuration_utils import register_to_config
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.guiders.guider_utils import GuiderOutput, rescale_noise_cfg
from torch import Tensor, nn

from vcorr.capture.tap import Tap
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.guidance_protocols import Perturbation
from vcorr.contract.records import Site
from vcorr.interventions.attention_editor import AttentionEditor
from vcorr.interventions.guidance_options import CrossFrameOptions
from vcorr.interventions.guidances import CrossFrameGuidance as NamedGuidance
from vcorr.interventions.guided_model import GuidedModel
from vcorr.interventions.guided_sampling import is_guided
from vcorr.notebook.layouts import Placement, place_by_plugin


def refuse_both() -> NoReturn:
    """Raises UsageError: a pipeline has this guider inside a block of `guide`."""
    raise UsageError(
        "The pipeline has a guider CrossFrameGuidance and is inside a block of guide(), so two guidances would act.",
        hint="Keep one: leave guide() out, or set pipe.guider = diffusers.ClassifierFreeGuidance(guidance_scale=6.0).",
    )


class CrossFrameGuidance(ClassifierFreeGuidance):  # type: ignore[misc]  # diffusers has no types
    """Classifier-free guidance, and away from a prediction whose frames do not see each other.

    ::

        pipe.guider = vcorr.guidance.CrossFrameGuidance(layout="hunyuanvideo-1.5", layers=[16], guidance_scale=6.0)
        video = pipe(prompt).frames[0]

    It runs one more pass per step. The result is u + guidance_scale (c - u) + cross_frame_scale (c - c').

    Args:
        layout: name of the model that vcorr knows, which says where its tokens are.
        layers: perturbed layers.
        heads: perturbed heads of these layers; None for all.
        variant: "corrected" or "difftrack", as in `vcorr show guidance cag`.
        guidance_scale: strength of classifier-free guidance.
        cross_frame_scale: strength of the difference to the perturbed prediction.
        cross_frame_start: share of the steps after which it begins.
        cross_frame_stop: share of the steps after which it ends.
        guidance_rescale: as in `ClassifierFreeGuidance`.
        use_original_formulation: as in `ClassifierFreeGuidance`.
        start: as in `ClassifierFreeGuidance`.
        stop: as in `ClassifierFreeGuidance`.
        enabled: as in `ClassifierFreeGuidance`.

    Raises:
        UsageError: the options do not fit the model.
    """

    _input_predictions = ["pred_cond", "pred_uncond", "pred_perturbed"]  # noqa: RUF012  # diffusers asks for a list

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        layout: str,
        layers: Sequence[int],
        heads: Sequence[int] | None = None,
        variant: Literal["corrected", "difftrack"] = "corrected",
        guidance_scale: float = 6.0,
        cross_frame_scale: float = 1.0,
        cross_frame_start: float = 0.0,
        cross_frame_stop: float = 1.0,
        guidance_rescale: float = 0.0,
        use_original_formulation: bool = False,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
    ) -> None:
        super().__init__(guidance_scale, guidance_rescale, use_original_formulation, start, stop, enabled)
        self.cross_frame_scale = cross_frame_scale
        if not math.isfinite(cross_frame_scale):
            raise UsageError(f"cross_frame_scale: expected a finite number, got {cross_frame_scale}.")
        self._placement: Placement | None = None
        self._perturbation: Perturbation | None = None
        self._open = ExitStack()

    # ---------------------------------------------------------------------------------------------------------- passes

    @property
    def num_conditions(self) -> int:
        """Number of passes of a step."""
        return int(self._is_cfg_enabled()) + int(self._is_perturbed()) + 1

    @property
    def is_conditional(self) -> bool:
        """Whether the pass that was prepared last has the prompt: all but the unconditional one."""
        return not (self._is_cfg_enabled() and self._count_prepared == 2)  # the second pass

    def prepare_inputs(self, data: Any) -> list[Any]:
        """Returns the inputs of the passes of a step."""
        return [self._prepare_batch(data, index, name) for index, name in self._batches()]

    def prepare_inputs_from_block_state(self, data: Any, input_fields: Any) -> list[Any]:
        """Returns the inputs of the passes of a step, in a modular pipeline."""
        return [
            self._prepare_batch_from_block_state(input_fields, data, index, name) for index, name in self._batches()
        ]

    def prepare_models(self, denoiser: nn.Module) -> None:
        """Perturbs the attention of the denoiser before the last pass of a step.

        Raises:
            UsageError: the denoiser is guided by `vcorr.guidance.guide` as well.
        """
        self._open.close()  # of a pass that an exception ended
        if is_guided(denoiser):
            refuse_both()
        super().prepare_models(denoiser)
        if self._is_perturbed() and self._count_prepared == self.num_conditions:
            self._perturb(denoiser)

    def cleanup_models(self, denoiser: nn.Module) -> None:
        """Restores the denoiser after a pass."""
        self._open.close()

    def forward(
        self, pred_cond: Tensor, pred_uncond: Tensor | None = None, pred_perturbed: Tensor | None = None
    ) -> GuiderOutput:
        """Combines the predictions of a step; rescales the sum, as the guiders of diffusers do."""
        pred = pred_cond
        if self._is_cfg_enabled():
            assert pred_uncond is not None  # `_batches` asks for it
            base = pred_cond if self.use_original_formulation else pred_uncond
            pred = base + self.guidance_scale * (pred_cond - pred_uncond)
        if pred_perturbed is not None:
            pred = pred + self.cross_frame_scale * (pred_cond - pred_perturbed)
        if self.guidance_rescale > 0:
            pred = rescale_noise_cfg(pred, pred_cond, self.guidance_rescale)
        return GuiderOutput(pred=pred, pred_cond=pred_cond, pred_uncond=pred_uncond)

    def _batches(self) -> list[tuple[int, str]]:
        """Returns the passes of a step: the index of the inputs, and the name of the prediction."""
        cond, uncond, perturbed = self._input_predictions
        found = [(0, cond)]
        found += [(1, uncond)] if self._is_cfg_enabled() else []
        return found + ([(0, perturbed)] if self._is_perturbed() else [])

    def _is_perturbed(self) -> bool:
        if not self._enabled or self.cross_frame_scale == 0:
            return False
        total = self._num_inference_steps
        begin, end = self.config.cross_frame_start, self.config.cross_frame_stop
        return total is None or int(begin * total) <= self._step < int(end * total)

    # ------------------------------------------------------------------------------------------------------- attention

    def _perturb(self, denoiser: nn.Module) -> None:
        if self._placement is None or denoiser not in self._placement.modules:
            self._placement = place_by_plugin(denoiser, self.config.layout)
            self._perturbation = self._choose(self._placement)
        placement, perturbation = self._placement, self._perturbation
        assert perturbation is not None  # chosen with the placement
        measured = placement

        def measure(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            nonlocal measured
            measured = placement.measure(args, kwargs)

        def grid_at(site: Site) -> TokenGrid:
            return measured.grid_at(site)

        sites = {site.name: site for site in placement.sites if site.layer in perturbation.layers}
        editor = AttentionEditor(perturbation, sites, placement.layout, grid_at)
        stack = self._open
        stack.callback(denoiser.register_forward_pre_hook(measure, with_kwargs=True).remove)
        tap = Tap(denoiser, list(sites), editor)
        tap.__enter__()
        stack.push(tap)
        # closes the tap after an exception too, for which pipelines do not call `cleanup_models`
        stack.callback(denoiser.register_forward_hook(self._close_after_failure, always_call=True).remove)

    def _close_after_failure(self, module: nn.Module, args: Any, result: Any) -> None:
        if result is None:
            self._open.pop_all().__exit__(RuntimeError, RuntimeError(), None)

    def _choose(self, placement: Placement) -> Perturbation:
        heads = self.config.heads
        options = CrossFrameOptions(
            layers=",".join(map(str, self.config.layers)),
            heads="all" if heads is None else ",".join(map(str, heads)),
            variant=self.config.variant,
        )
        return NamedGuidance(options).perturb(GuidedModel.sites_of(placement.sites, ()))
