"""Borrows the first passes of an adapter's pipeline, and keeps what later clips can use again.

An adapter holds a `FirstPasses` and gives itself to each call: two objects that hold one another would keep the weights
in memory until Python collects garbage.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip, RunSettings
from vcorr.diffusion.borrowed import Call, FirstPass, Passes, first_pass
from vcorr.diffusion.kept_inputs import encoders_state
from vcorr.diffusion.loading import seed_generators
from vcorr.diffusion.schedule import NoiseSchedule

_MOST_KEPT = 4
"""Number of borrowed passes that are kept: chunks of a clip have two sizes at most, and a model up to two denoisers."""


class FirstPasses:
    """The schedules and first passes of one loaded pipeline. In all methods, `model` is its `DiffusersVideoModel`."""

    def __init__(self) -> None:
        self._schedules: dict[tuple[int, TokenGrid], NoiseSchedule] = {}
        self._kept: dict[Hashable, FirstPass] = {}

    def schedule(self, model: Any, num_steps: int, grid: TokenGrid) -> NoiseSchedule:
        """Returns the steps with which the pipeline samples at the size of `grid`, and their noise levels."""
        if (num_steps, grid) not in self._schedules:
            blank = None if not model.needs_image else _blank(grid)
            clip = Clip("schedule", "", np.zeros((0, 2), np.float32), blank)
            first = _borrow_first(model, clip, grid, RunSettings(steps=(), num_steps=num_steps), 0)
            self._schedules[num_steps, grid] = first.schedule
        return self._schedules[num_steps, grid]

    def borrow(self, model: Any, clip: Clip, grid: TokenGrid, settings: RunSettings) -> Passes:
        """Returns conditional passes for the chosen steps; `DiffusersVideoModel.borrow` describes them.

        Raises:
            UsageError: a step does not exist, or the clip lacks the image that the model starts from.
        """
        first = self._find(model, clip, grid, settings, 0)
        schedule = first.schedule
        for step in settings.steps:
            schedule.check(step)
        names = list(map(model.denoiser_at, schedule.timestep_values))
        needed = dict.fromkeys(names[step] for step in settings.steps)
        found = {
            name: first if name == first.denoiser else self._find(model, clip, grid, settings, names.index(name))
            for name in needed
        }
        return Passes(schedule, names, {name: getattr(model.pipe, name) for name in found}, found, model)

    def _find(self, model: Any, clip: Clip, grid: TokenGrid, settings: RunSettings, start: int) -> FirstPass:
        """Returns a first pass; a tracker's chunks of one size, which are stills without an image, share it."""
        if model.needs_image or not clip.stills:
            return _borrow_first(model, clip, grid, settings, start)
        key = (clip.prompt, grid, settings, start, encoders_state(model.pipe, model.denoisers))
        if key not in self._kept:
            while len(self._kept) >= _MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = _borrow_first(model, clip, grid, settings, start)
        return self._kept[key]


def _borrow_first(model: Any, clip: Clip, grid: TokenGrid, settings: RunSettings, start: int) -> FirstPass:
    unguided = {} if model.embedded_guidance else {model.guidance_argument: 1.0}
    with torch.no_grad(), seed_generators(settings.seed, model.device), model.keeping_prompts():
        arguments = {**model.call(clip, grid, settings, "latent"), **unguided}
        call = Call(arguments, model.denoisers, model.layout(), model.noise_levels)
        first = first_pass(model.pipe, call, start)
    return replace(first, arguments=model.branch_inputs(first.arguments, first.latents, grid))


def _blank(grid: TokenGrid) -> NDArray[np.uint8]:
    """Returns a black image of the grid's size, (1, H, W, 3), for uses in which the content does not matter."""
    return np.zeros((1, round(grid.height), round(grid.width), 3), np.uint8)
