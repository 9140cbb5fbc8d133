"""Denoises the noisy latents of a real clip, again and again with other interceptors, and measures the loss.

Shape legend: C latent channels, F x h x w latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vcorr.capture.interceptors import intercept
from vcorr.contract.errors import NumericalError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip, RunSettings, Site
from vcorr.diffusion.borrowed import Passes
from vcorr.diffusion.latents import clip_noise_like
from vcorr.diffusion.running import Change, check_video
from vcorr.diffusion.schedule import NoiseSchedule, is_flow_matching

if TYPE_CHECKING:
    from vcorr.capture.recorder import Recorder
    from vcorr.diffusion.adapter import DiffusersVideoModel

Target = Callable[[NoiseSchedule, Tensor, Tensor, int], Tensor]
"""Takes the schedule, clean latents and noise, (1, C, F, h, w) float32 each, and a step; returns the perfect output."""


class RenoisedClip:
    """The noisy latents of a clip. Encoding, text and noise are made once, for any number of passes.

    A pass is the conditional pass of mode `renoise`, with the same noise.

    Raises:
        UsageError: the clip has no video of the model's size, or a step does not exist.
    """

    def __init__(self, model: DiffusersVideoModel[Any], clip: Clip, settings: RunSettings) -> None:
        self._model, self._clip = model, clip
        self._grid, video = check_video(model, clip)
        with torch.no_grad():
            self._passes: Passes = model.borrow(clip, self._grid, settings)
            self._clean = model.encode_clip(clip, video)
        self._epsilon = clip_noise_like(self._clean, settings.seed, clip.id)
        self._target = denoising_target(model.pipe.scheduler)

    @property
    def grid(self) -> Callable[[Site], TokenGrid]:
        """Returns the grid of a site over this clip."""
        return partial(self._model.grid, self._clip)

    def noise(self, step: int) -> float:
        """Returns the noise level of a step, sigma / (alpha + sigma)."""
        return float(self._passes.schedule.noise[step])

    def denoise(self, step: int, recorder: Recorder, change: Change | None = None) -> float:
        """Runs one pass with the probes of a recorder, and returns its denoising loss.

        The loss is the mean square of output - target, over all latents, in float32. The target is what the network was
        trained to put out at this step.

        Args:
            step: 0-based.
            recorder: a new one, which reads the model as the change leaves it.
            change: what is done to attention; None for nothing.

        Raises:
            NumericalError: the loss is not finite.
        """
        passes, schedule = self._passes, self._passes.schedule
        noisy = schedule.add_noise(self._clean, self._epsilon, step)
        model, modules = self._model, list(passes.modules.values())
        with torch.no_grad(), ExitStack() as stack:
            stack.enter_context(recorder.attach(modules, model.sites(), model.layout(), self.grid))
            if change is not None:
                # opened inside the recorder, so that probes read q and k of the model and its changed output
                changed = intercept(modules, change.sites, change.edit, layout=model.layout(), watch=recorder.watch)
                stack.enter_context(changed)
            with recorder.step(step, noise=self.noise(step)):
                output = passes.run(noisy, step)
        target = self._target(schedule, self._clean.float(), self._epsilon, step)
        loss = float((output.float() - target).square().mean())
        if not math.isfinite(loss):
            raise NumericalError(f"Clip {self._clip.id}: the denoising loss at step {step} is {loss}.")
        return loss


def denoising_target(scheduler: Any) -> Target:
    """Returns how the perfect output of a network follows from clean latents and noise, for its scheduler.

    Flow matching: noise - data, or data - noise where the scheduler counts from noise to signal. Others, by
    `prediction_type`: the noise ("epsilon"), the data ("sample"), or alpha noise - sigma data ("v_prediction").

    Raises:
        UsageError: the scheduler's network puts out something else.
    """
    if is_flow_matching(scheduler):
        return _to_data if scheduler.config.get("invert_sigmas") else _to_noise
    kind = scheduler.config.get("prediction_type", "epsilon")
    if kind not in _TARGETS or hasattr(scheduler, "precondition_inputs"):
        raise UsageError(
            f"The denoising loss of {type(scheduler).__name__} (prediction type {kind!r}) is not known.",
            hint=f"Known are flow matching and {', '.join(_TARGETS)}.",
        )
    return _TARGETS[kind]


def _to_noise(schedule: NoiseSchedule, clean: Tensor, epsilon: Tensor, step: int) -> Tensor:
    return epsilon - clean


def _to_data(schedule: NoiseSchedule, clean: Tensor, epsilon: Tensor, step: int) -> Tensor:
    return clean - epsilon


def _epsilon(schedule: NoiseSchedule, clean: Tensor, epsilon: Tensor, step: int) -> Tensor:
    return epsilon


def _sample(schedule: NoiseSchedule, clean: Tensor, epsilon: Tensor, step: int) -> Tensor:
    return clean


def _velocity(schedule: NoiseSchedule, clean: Tensor, epsilon: Tensor, step: int) -> Tensor:
    return float(schedule.alphas[step]) * epsilon - float(schedule.sigmas[step]) * clean


_TARGETS: dict[str, Target] = {"epsilon": _epsilon, "sample": _sample, "v_prediction": _velocity}
