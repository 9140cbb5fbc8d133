"""Noise schedules of bare schedulers, as a pipeline would set them up."""

from __future__ import annotations

from typing import Any

from vcorr.diffusion.schedule import NoiseSchedule, noise_levels


def noise_schedule(scheduler: Any, num_steps: int, **options: Any) -> NoiseSchedule:
    """The schedule of a scheduler for that many steps; options of `set_timesteps`. The scheduler is left as it was."""
    own = type(scheduler).from_config(scheduler.config)
    own.set_timesteps(num_steps, **options)
    return noise_levels(own)
