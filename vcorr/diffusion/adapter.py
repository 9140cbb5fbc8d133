"""Holds `DiffusersVideoModel`, the base class of adapters for diffusers video models.

Shape legend: T video frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import Invert, mode_of
from vcorr.contract.records import AppliedSettings, Clip, RunSettings
from vcorr.diffusion.adapter_facts import C
from vcorr.diffusion.adapter_inputs import AdapterInputs
from vcorr.diffusion.adapter_latents import AdapterLatents
from vcorr.diffusion.adapter_loading import AdapterLoading
from vcorr.diffusion.options import name_of_shift

if TYPE_CHECKING:
    from vcorr.capture.recorder import Recorder
    from vcorr.diffusion.borrowed import Passes
    from vcorr.diffusion.first_passes import FirstPasses
    from vcorr.diffusion.schedule import NoiseSchedule


class DiffusersVideoModel(AdapterLoading[C], AdapterLatents[C], AdapterInputs[C]):
    """Makes a diffusers video pipeline a `vcorr.VideoModel`.

    In renoise mode it makes one conditional forward pass per step, with arguments borrowed from the pipeline. In
    generate mode it calls the pipeline itself and reads the chosen steps on the way. The pipeline then samples with its
    own scheduler, loop and guidance.

    One class serves a family of models. The sizes of a model are the configurations in the folder that its entry names
    (`vcorr.diffusion.packaged_configs`). `network` and `config_of` read them, before and after loading. A subclass
    declares what the configurations do not say as class attributes: `pipeline_class`, `compression`, `attention`,
    `branches`, and others below if they differ from the default. A model that needs more overrides one of the methods.
    In methods that take a clip or latents, `self.pipe` is the loaded pipeline and `self.device` is where it computes.
    Subclasses import torch and diffusers inside methods only, so that their sites are known without loading anything.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if cls.per_sample:
            cls.batches_levels = False
        cls._declared_modes = vars(cls).get("modes", cls._declared_modes)
        cannot_decode = cls.encode is not DiffusersVideoModel.encode and cls.decode is DiffusersVideoModel.decode
        cls.modes = tuple(mode for mode in cls._declared_modes if not (cannot_decode and mode == Invert.name))

    # ------------------------------------------------------------------------------------- what a subclass may override

    def noise_levels(self, scheduler: Any) -> NoiseSchedule:
        """Reads the steps and noise levels of the pipeline's scheduler, which the pipeline has just set up."""
        from vcorr.diffusion.schedule import noise_levels

        return noise_levels(scheduler)

    def denoiser_at(self, timestep: float) -> str:
        """Returns the component of the pipeline that runs at a timestep: `denoiser`, unless several take turns.

        All of them have sites with the same names; in each step the sites of the component that runs are read.
        """
        return self.denoiser

    # ----------------------------------------------------------------------------------------------------------- passes

    def schedule(self, num_steps: int, grid: TokenGrid) -> NoiseSchedule:
        """Returns the steps with which the pipeline samples at the size of `grid`, and their noise levels."""
        return self._first_passes.schedule(self, num_steps, grid)

    def borrow(self, clip: Clip, grid: TokenGrid, settings: RunSettings) -> Passes:
        """Returns conditional passes for the chosen steps of a clip, with the arguments the pipeline itself would use.

        It runs the pipeline up to its first pass, once for each denoiser that the steps need.

        Raises:
            UsageError: a step does not exist, or the clip lacks the image that the model starts from.
        """
        return self._first_passes.borrow(self, clip, grid, settings)

    # --------------------------------------------------------------------------------------------------------- contract

    def run(self, clip: Clip, settings: RunSettings, recorder: Recorder) -> NDArray[np.uint8] | None:
        """Runs the model on the clip.

        Renoise mode encodes the clip. For each chosen step it adds the noise of that step and makes one conditional
        forward pass. The noise eps is drawn once per clip, from the seed and the clip's id alone; it is the same at
        every step.

        Generate mode calls the pipeline at the configured size. `settings.seed` itself seeds the generator; a run gives
        every clip a seed of its own, unless its noise is shared. Models that start from an image use frame 0 of the
        clip's video; no other frame is used.

        Invert mode encodes the clip and walks its latents back along the pipeline's own sampler with the conditional
        branch, reading the chosen steps. It then samples again from the noise it reached. How well that reproduces the
        clip goes to `recorder.reconstruction`.

        Returns:
            The sampled video, (T, H, W, 3) uint8, in generate mode; None in the other modes.

        Raises:
            UsageError: the mode or a step does not exist, the prompt is too long, or the clip has another size than
                `grid`.
        """
        from vcorr.diffusion.running import run_mode

        return run_mode(self, clip, settings, recorder)

    def accelerate_sampling(self, settings: RunSettings, *, probed: bool) -> AbstractContextManager[None]:
        """Keeps the accelerators on while the pipeline samples a video. probed: whether probes read its passes.

        Raises:
            UsageError: an accelerator skips attention that probes would read.
        """
        return self.accelerators.sampling(self, settings, probed=probed)

    def check_settings(self, settings: RunSettings) -> None:
        """Checks that the scheduler makes that many steps, and that mode `invert` can walk back along them.

        Before the pipeline is loaded, only the scheduler's configuration is checked, if there is one.

        Raises:
            UsageError: the scheduler cannot make that number of steps, an accelerator does not work in this mode, or a
                guidance does not fit the model. In mode `invert` also: its steps cannot be undone, guidance was asked
                for, or the adapter does not decode.
        """
        from vcorr.diffusion.schedule import check_step_count

        scheduler, shift = self.scheduler_config(), self.setting("flow_shift")
        check_step_count(scheduler, settings.num_steps, self.fewest_steps)
        self.accelerators.check_settings(settings)
        if scheduler and shift is not None:
            name_of_shift(scheduler, shift)
        if settings.guidance is not None:
            from vcorr.diffusion.guiding import check_guidance

            check_guidance(self, settings, self.accelerators)
        if isinstance(mode_of(settings.mode), Invert):
            from vcorr.diffusion.running import check_invertible

            check_invertible(self, settings)

    def own_settings(self, settings: RunSettings) -> AppliedSettings:
        """Returns the authors' values on the card that count in a run, and where the folder of the weights differs."""
        return self._settings.in_run(settings, self._folder_scheduler, self.unused_settings)

    def scheduler_config(self) -> Mapping[str, Any]:
        """Returns the configuration of the pipeline's scheduler, with its class as `_class_name`.

        Before the pipeline is loaded it comes from the configurations, and is empty if they lack it. An adapter that
        exchanges the scheduler while loading overrides this.
        """
        if self._pipe is None:
            return self.config_of("scheduler")
        scheduler = self._pipe.scheduler
        return {**scheduler.config, "_class_name": type(scheduler).__name__}

    @property
    def _first_passes(self) -> FirstPasses:
        from vcorr.diffusion.first_passes import FirstPasses

        self._borrowed = self._borrowed or FirstPasses()
        return self._borrowed
