"""Inversion: a real video walked back along the model's own sampler, and sampled again from the noise it reaches.

A sampler step of DDIM (without added noise) and of flow matching's Euler scheme is linear in what it is given:
next latents = keep · latents + move · prediction, with two numbers per step. Solved for the latents, that is a step
back. The prediction in it is the one the network would make at the very latents that are looked for, so a step back is
an equation, which two passes solve (`walk_back`).

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
"""Latents (1, C, F, h, w) float32 and a step to the network's prediction, of the same shape."""

Read = Callable[[int], AbstractContextManager[Any]]
"""Opened around one pass of a step."""

SMALLEST = 1e-6
"""A step that keeps less than this share of its latents cannot be undone."""


@dataclass(frozen=True)
class SamplerSteps:
    """What a sampler does in each step, noisiest first: next latents = keep · latents + move · prediction.

    keep, move: (S,) float64.
    """

    keep: NDArray[np.float64]
    move: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.keep)

    def down(self, latents: Tensor, prediction: Tensor, step: int) -> Tensor:
        """The latents after a step."""
        return float(self.keep[step]) * latents + float(self.move[step]) * prediction

    def up(self, latents: Tensor, prediction: Tensor, step: int) -> Tensor:
        """The latents before a step that ended at `latents`, if the network predicts `prediction` at them."""
        return (latents - float(self.move[step]) * prediction) / float(self.keep[step])


def check_sampler(config: Mapping[str, Any], num_steps: int) -> None:
    """Checks that so many steps of a scheduler can be undone; nothing but its configuration is needed.

    Args:
        config: of the scheduler, with the name of its class in diffusers as `_class_name`.
        num_steps: S, the sampling steps.

    Raises:
        UsageError: it is of another kind, has an option that makes its steps random or not linear, or a step keeps
            nothing of its latents.
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
    # CogVideoX's own DDIM has these two options in its configuration and does not look at them
    options = ("stochastic_sampling",) if name in FLOW else ("clip_sample", "thresholding") * (name == "DDIMScheduler")
    for option in options:
        if config.get(option):
            raise UsageError(
                f"Mode invert cannot walk back along {name} with {option}: its steps cannot be undone.",
                hint="Run this model with --mode renoise.",
            )


def sampler_steps(scheduler: Any, schedule: NoiseSchedule) -> SamplerSteps:
    """The steps of a scheduler, whose timesteps and noise levels `schedule` has. The scheduler is left as it was.

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
    """The noise from which the sampler makes `latents`, reached over all levels between, cleanest first.

    A step back is an equation, since the prediction in it belongs to the latents that are looked for. The first guess
    takes the prediction of the level below; the network is asked there, and again at what that gives; the line through
    both answers gives the latents (a secant step). Where the network is linear with one factor, that is exact. Taking
    the second answer as it is would overshoot: a network answers latents that are too noisy by taking more noise away.

    Args:
        latents: (1, C, F, h, w) float32, clean.
        steps: of the sampler.
        predict: one pass of the network.
        read: opened around the second pass of every step: where probes read.

    Returns:
        (1, C, F, h, w) float32, as noisy as the first step takes it.
    """
    prediction = predict(latents, len(steps) - 1)
    for step in reversed(range(len(steps))):
        first = steps.up(latents, prediction, step)
        second = steps.up(latents, predict(first, step), step)
        with read(step):
            prediction = predict(second, step)
        latents = _secant(first, second, steps.up(latents, prediction, step))
    return latents


def _secant(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """Where x = g(x), from x0 = first, g(x0) = second and g(second) = third, as if g were linear with one factor."""
    before, after = second - first, third - second
    bend = after - before
    power = (bend * bend).sum()
    share = (after * bend).sum() / power if power > 0 else power  # 0 where nothing moves
    return third - share * after


def sample_down(latents: Tensor, steps: SamplerSteps, predict: Predict) -> Tensor:
    """Samples from the noise `latents`, (1, C, F, h, w) float32, without guidance; the clean latents."""
    for step in range(len(steps)):
        latents = steps.down(latents, predict(latents, step), step)
    return latents


def _flow_steps(scheduler: Any, schedule: NoiseSchedule) -> SamplerSteps:
    levels = np.append(schedule.sigmas, 0.0)  # the last step arrives at the data
    move = np.diff(levels)
    if scheduler.config.get("invert_sigmas"):  # counted from noise to signal, and predicting that way round
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
    """What the scheduler's own step makes of one and nothing: it knows how it spaces levels and what is predicted."""
    own.set_timesteps(num_steps)
    timesteps = own.timesteps.tolist()
    one, nothing = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    keep = [float(own.step(nothing, timestep, one, return_dict=False)[0]) for timestep in timesteps]
    move = [float(own.step(one, timestep, nothing, return_dict=False)[0]) for timestep in timesteps]
    return SamplerSteps(np.array(keep), np.array(move))
