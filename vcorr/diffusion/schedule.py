"""Reads the noise levels of a scheduler's steps as data: z = alpha x + sigma eps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import PluginError, UsageError

if TYPE_CHECKING:  # a plan checks the number of steps, and needs no torch for it
    from torch import Tensor


@dataclass(frozen=True)
class NoiseSchedule:
    """The steps a scheduler samples with, noisiest first.

    timesteps: (S,) the denoiser's timestep at each step, in the scheduler's own dtype and on its device.
    alphas, sigmas: (S,) float64, the weights of signal and noise in z = alpha x + sigma eps. spread: standard deviation
    of the latents x in the units of the scheduler, EDM's sigma_data.
    """

    timesteps: Tensor
    alphas: NDArray[np.float64]
    sigmas: NDArray[np.float64]
    spread: float = 1.0

    def __post_init__(self) -> None:
        if not len(self.timesteps) == len(self.alphas) == len(self.sigmas):
            raise PluginError(
                f"A noise schedule has {len(self.timesteps)} timesteps, {len(self.alphas)} alphas and "
                f"{len(self.sigmas)} sigmas."
            )

    def __len__(self) -> int:
        return len(self.timesteps)

    @cached_property
    def timestep_values(self) -> tuple[float, ...]:
        """The timesteps as numbers, copied from the device once: each copy would wait for all that a GPU computes."""
        return tuple(map(float, self.timesteps.tolist()))

    @property
    def noise(self) -> NDArray[np.float64]:
        """(S,) sigma / (alpha + sigma) for latents of unit variance, in [0, 1]; 1 if nothing of the signal is left."""
        return self.sigmas / (self.alphas * self.spread + self.sigmas)

    def add_noise(self, latents: Tensor, epsilon: Tensor, step: int) -> Tensor:
        """Returns the noisy latents of a step, alpha x + sigma eps: computed in float32, in the dtype of `latents`.

        Raises:
            UsageError: there is no such step.
        """
        self.check(step)
        alpha, sigma = float(self.alphas[step]), float(self.sigmas[step])
        return (alpha * latents.float() + sigma * epsilon.to(latents.device).float()).to(latents.dtype)

    def check(self, step: int) -> None:
        """Raises UsageError unless `step`, 0-based, is a step of the schedule."""
        if not 0 <= step < len(self):
            raise UsageError(f"Step {step} does not exist: the scheduler has {len(self)} steps, 0 to {len(self) - 1}.")


def scheduler_from(config: Mapping[str, Any]) -> Any:
    """Makes a scheduler from its configuration; None if diffusers has no class of the name in `_class_name`."""
    import diffusers

    kind = getattr(diffusers, config["_class_name"], None)
    return None if kind is None else kind.from_config(dict(config))


def check_step_count(config: Mapping[str, Any], num_steps: int, fewest: int = 1) -> None:
    """Checks that a scheduler makes that many steps; some make at most as many as they were trained with.

    A schedule that ends at a given noise level (`shift_terminal`) begins at pure noise, so one step is too few for it.

    Args:
        config: of the scheduler, with the name of its class in diffusers as `_class_name`.
        num_steps: the number of sampling steps.
        fewest: the smallest number of steps that the pipeline makes.

    Raises:
        UsageError: the scheduler makes fewer steps, or does not make so few.
    """
    least = max(fewest, 2 if config.get("shift_terminal") else 1)
    if num_steps < least:
        raise UsageError(
            f"num_steps={num_steps}: this model's noise schedule has no noise levels for fewer than {least} steps.",
            hint=f"Take more: --set num_steps={least}",
        )
    if num_steps <= config.get("num_train_timesteps", num_steps):
        return
    scheduler = scheduler_from(config)
    try:
        if scheduler is not None:
            scheduler.set_timesteps(num_steps)
    except ValueError as error:
        if "train_timesteps" in str(error):  # other messages ask for an argument, such as `mu`
            raise UsageError(
                f"{config['_class_name']} cannot make {num_steps} steps: it makes at most "
                f"{config['num_train_timesteps']}.",
                hint="Take fewer: --set num_steps=50",
            ) from error


def check_levels(schedule: NoiseSchedule, name: str) -> None:
    """Raises UsageError unless all noise levels of a schedule are numbers in [0, 1]. name: of the scheduler's class."""
    wrong = ~((schedule.noise >= 0) & (schedule.noise <= 1))
    if wrong.any():
        step = int(np.argmax(wrong))
        raise UsageError(
            f"{name} has no noise level at step {step} of {len(schedule)}: it is {schedule.noise[step]:g}.",
            hint="Take another number of steps: --set num_steps=50",
        )


def noise_levels(scheduler: Any) -> NoiseSchedule:
    """Reads the steps and their noise levels from a diffusers scheduler that has been set up.

    The levels describe the latents that the pipeline's loop gives to the denoiser, after `scale_model_input`:

    - flow matching: z = (1 - s) x + s eps with its own sigma s, in whichever direction the scheduler counts;
    - schedulers with sigmas (Euler, ancestral, Heun, LMS, DPM-Solver, UniPC, DEIS; with Karras' or another spacing,
      also at fractional timesteps): z = (x + s eps) / sqrt(s^2 + 1);
    - EDM: z = (x + s eps) / sqrt(s^2 + d^2), with d the scheduler's `sigma_data`, the standard deviation of x;
    - `alphas_cumprod` at whole timesteps (DDPM, DDIM, PNDM and similar ones).

    Raises:
        PluginError: the scheduler is none of these.
    """
    if _keeps_sigmas(scheduler):
        return _flow_schedule(scheduler) if is_flow_matching(scheduler) else _sigma_schedule(scheduler)
    if hasattr(scheduler, "alphas_cumprod") and not scheduler.timesteps.is_floating_point():
        return _cumulative_schedule(scheduler)
    raise PluginError(
        f"The noise levels of {type(scheduler).__name__} cannot be read: it has neither one sigma per timestep nor "
        "alphas_cumprod for whole timesteps.",
        hint="The model's adapter has to override `noise_levels`.",
    )


def _keeps_sigmas(scheduler: Any) -> bool:
    """Returns whether there is one sigma per timestep, and one more at which the last step ends.

    This excludes schedulers that also denoise between their sigmas (DPM2), since the timestep does not show where.
    """
    sigmas, between = getattr(scheduler, "sigmas", None), getattr(scheduler, "sigmas_interpol", None)
    return sigmas is not None and between is None and len(sigmas) == len(scheduler.timesteps) + 1


def is_flow_matching(scheduler: Any) -> bool:
    """Returns whether a diffusers scheduler is of flow matching: latents (1 - s) data + s noise."""
    config = scheduler.config
    flow_prediction = config.get("prediction_type") == "flow_prediction"
    return type(scheduler).__name__.startswith("FlowMatch") or bool(config.get("use_flow_sigmas")) or flow_prediction


def _flow_schedule(scheduler: Any) -> NoiseSchedule:
    sigmas = _read_sigmas(scheduler)
    if scheduler.config.get("invert_sigmas"):  # such a scheduler counts from noise to signal
        sigmas = 1 - sigmas
    return NoiseSchedule(scheduler.timesteps, 1 - sigmas, sigmas)


def _sigma_schedule(scheduler: Any) -> NoiseSchedule:
    sigmas = _read_sigmas(scheduler)
    spread = float(scheduler.config.sigma_data) if hasattr(scheduler, "precondition_inputs") else 1.0
    scale = 1 / np.sqrt(sigmas**2 + spread**2)
    return NoiseSchedule(scheduler.timesteps, scale, sigmas * scale, spread)


def _cumulative_schedule(scheduler: Any) -> NoiseSchedule:
    kept = _float64(scheduler.alphas_cumprod)[scheduler.timesteps.cpu().numpy()]
    return NoiseSchedule(scheduler.timesteps, np.sqrt(kept), np.sqrt(1 - kept))


def _read_sigmas(scheduler: Any) -> NDArray[np.float64]:
    """Returns the sigmas of the timesteps, without the one at which the last step ends."""
    return _float64(scheduler.sigmas)[: len(scheduler.timesteps)]


def _float64(values: Any) -> NDArray[np.float64]:
    import torch

    return torch.as_tensor(values).detach().cpu().to(torch.float64).numpy()
