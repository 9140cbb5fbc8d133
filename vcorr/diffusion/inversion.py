"""Inverts a real video: walks it back along the model's own sampler, and samples again from the noise it reaches.

A step of DDIM (without added noise) and a step of flow matching's Euler scheme are linear:
next latents = keep · latents + move · output, with two numbers per step and the network's output at the latents. A step
back solves this for the latents. The output in it belongs to the unknown latents, so a step back is an equation; two
passes solve it (`walk_back`).

Shape legend: S sampling steps, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcorr.contract.errors import PluginError, UsageError
from vcorr.diffusion.schedule import NoiseSchedule, scheduler_from

DDIM = ("CogVideoXDDIMScheduler", "DDIMScheduler")
FLOW = ("FlowMatchEulerDiscreteScheduler",)

Predict = Callable[[Tensor, int], Tensor]
"""Takes latents (1, C, F, h, w) float32 and a step; returns the network's output, of the same shape."""

Read = Callable[[int], AbstractContextManager[Any]]
"""Opened around one pass of a step."""

SMALLEST = 1e-6
"""A step that keeps less than this share of its latents cannot be undone."""


@dataclass(frozen=True)
class SamplerSteps:
    """The steps of a sampler as numbers, noisiest first: next latents = keep · latents + move · output.

    keep, move: (S,) float64.
    """

    keep: NDArray[np.float64]
    move: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.keep)

    def down(self, latents: Tensor, output: Tensor, step: int) -> Tensor:
        """Returns the latents after a step."""
        return float(self.keep[step]) * latents + float(self.move[step]) * output

    def up(self, latents: Tensor, output: Tensor, step: int) -> Tensor:
        """Returns the latents before a step that ended at `latents`, if the network's output there is `output`."""
        return (latents - float(self.move[step]) * output) / float(self.keep[step])


def check_sampler(config: Mapping[str, Any], num_steps: int) -> None:
    """Checks that the steps of a scheduler can be undone, from its configuration alone.

    Args:
        config: of the scheduler, with the name of its class in diffusers as `_class_name`.
        num_steps: S, the number of sampling steps.

    Raises:
        UsageError: the class is neither in `DDIM` nor in `FLOW`; an option makes its steps random or not linear; or a
            step keeps nothing of its latents.
    """
    _check_kind(config)
    if config["_class_name"] in DDIM:  # a step of the others keeps all of its latents
        _check_kept(config["_class_name"], _own_steps(scheduler_from(config), num_steps))


def _check_kind(config: Mapping[str, Any]) -> None:
    name = config["_class_name"]
    if name not in (*DDIM, *FLOW):
        raise UsageError(
            f"Mode invert cannot walk back along {name}.",
            hint=f"It knows {', '.join((*DDIM, *FLOW))}; run this model with --mode renoise.",
        )
    # CogVideoX's own DDIM has these two options in its configuration but ignores them
    options = ("stochastic_sampling",) if name in FLOW else ("clip_sample", "thresholding") * (name == "DDIMScheduler")
    for option in options:
        if config.get(option):
            raise UsageError(
                f"Mode invert cannot walk back along {name} with {option}: its steps cannot be undone.",
                hint="Run this model with --mode renoise.",
            )


def sampler_steps(scheduler: Any, schedule: NoiseSchedule) -> SamplerSteps:
    """Returns the steps of a scheduler as numbers; `schedule` holds its timesteps and noise levels.

    The scheduler is left as it was.

    Raises:
        UsageError: as `check_sampler`.
        PluginError: the schedule has other timesteps than the scheduler.
    """
    name = type(scheduler).__name__
    _check_kind({**scheduler.config, "_class_name": name})
    steps = (_flow_steps if name in FLOW else _ddim_steps)(scheduler, schedule)
    _check_kept(name, steps)
    return steps


def _check_kept(name: str, steps: SamplerSteps) -> None:
    lost = np.flatnonzero(~(np.abs(steps.keep) > SMALLEST) | ~np.isfinite(steps.move))
    if len(lost):
        raise UsageError(
            f"Mode invert cannot undo step {lost[0]} of {len(steps)} of {name}: nothing of its latents is left "
            "after it.",
            hint="Take more steps: --set num_steps=50",
        )


def walk_back(latents: Tensor, steps: SamplerSteps, predict: Predict, read: Read) -> Tensor:
    """Returns the noise from which the sampler makes `latents`, by walking back over all steps, the cleanest first.

    A step back is an equation, because the network's output in it belongs to the unknown latents. The first guess uses
    the output at the previous, cleaner level. The network runs at this guess, which gives a second guess, and again at
    the second guess. The line through both outputs gives the latents (a secant step). This is exact if the network is
    linear with one factor. The second output alone would overshoot, because a network removes more noise from latents
    that are too noisy.

    Args:
        latents: (1, C, F, h, w) float32, clean.
        steps: of the sampler.
        predict: one pass of the network.
        read: opened around the second pass of every step, where probes read.

    Returns:
        (1, C, F, h, w) float32, at the noise level of the first step.
    """
    output = predict(latents, len(steps) - 1)
    for step in reversed(range(len(steps))):
        first = steps.up(latents, output, step)
        second = steps.up(latents, predict(first, step), step)
        with read(step):
            output = predict(second, step)
        latents = _secant(first, second, steps.up(latents, output, step))
    return latents


def _secant(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """Solves x = g(x) from x0 = first, g(x0) = second and g(second) = third, as if g were linear with one factor."""
    before, after = second - first, third - second
    bend = after - before
    power = (bend * bend).sum()
    share = (after * bend).sum() / power if power > 0 else power  # 0 where nothing moves
    return third - share * after


def sample_down(latents: Tensor, steps: SamplerSteps, predict: Predict) -> Tensor:
    """Samples from the noise `latents`, (1, C, F, h, w) float32, without guidance; returns the clean latents."""
    for step in range(len(steps)):
        latents = steps.down(latents, predict(latents, step), step)
    return latents


def _flow_steps(scheduler: Any, schedule: NoiseSchedule) -> SamplerSteps:
    levels = np.append(schedule.sigmas, 0.0)  # the last step ends at the data
    move = np.diff(levels)
    if scheduler.config.get("invert_sigmas"):  # such a scheduler counts, and predicts, from noise to signal
        move = -move
    return SamplerSteps(np.ones(len(move)), move)


def _ddim_steps(scheduler: Any, schedule: NoiseSchedule) -> SamplerSteps:
    own = type(scheduler).from_config(scheduler.config)
    steps = _own_steps(own, len(schedule))
    timesteps = own.timesteps.tolist()
    if timesteps != schedule.timesteps.tolist():
        raise PluginError(
            f"{type(scheduler).__name__} makes other timesteps than the adapter's schedule, {timesteps[0]} to "
            f"{timesteps[-1]}.",
            hint="The adapter's `schedule` has to set its scheduler up as the pipeline's call does.",
        )
    return steps


def _own_steps(own: Any, num_steps: int) -> SamplerSteps:
    """Runs the scheduler's own steps on zeros and ones, which gives its numbers for any spacing and prediction type."""
    own.set_timesteps(num_steps)
    timesteps = own.timesteps.tolist()
    one, nothing = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    keep = [float(own.step(nothing, timestep, one, return_dict=False)[0]) for timestep in timesteps]
    move = [float(own.step(one, timestep, nothing, return_dict=False)[0]) for timestep in timesteps]
    return SamplerSteps(np.array(keep), np.array(move))
