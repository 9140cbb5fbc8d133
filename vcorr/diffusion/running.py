"""Runs a diffusers video model in its three modes: add noise to a video, walk a video back, and sample a video.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcorr.capture.interceptors import Edit, intercept
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import Invert, mode_of
from vcorr.contract.records import Clip, Mode, ModelCard, Reconstruction, RunSettings, Site
from vcorr.diffusion.guiding import guide_sampling
from vcorr.diffusion.inversion import check_sampler, sample_down, sampler_steps, walk_back
from vcorr.diffusion.latents import clip_noise_like
from vcorr.diffusion.loading import seed_generators
from vcorr.diffusion.sampling import SamplingWatch, frames_of
from vcorr.diffusion.size_checks import size_in_words
from vcorr.metrics.pixels import psnr

if TYPE_CHECKING:
    from vcorr.capture.captures import TokenLayout
    from vcorr.capture.latent_tokens import LatentReading
    from vcorr.capture.recorder import Recorder
    from vcorr.diffusion.borrowed import Passes
    from vcorr.diffusion.kept_inputs import KeptInputs
    from vcorr.diffusion.latent_files import LatentFiles
    from vcorr.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class Change:
    """An interceptor at some attention modules. sites: these modules. edit: see `vcorr.capture.intercept`."""

    sites: Sequence[Site]
    edit: Edit


class _Model(Protocol):
    """The members of a `DiffusersVideoModel` that the modes use; that class documents them."""

    device: str
    modes: tuple[Mode, ...]
    joins_rows: ClassVar[bool]
    batches_levels: bool

    @property
    def pipe(self) -> Any: ...

    @property
    def denoisers(self) -> tuple[str, ...]: ...

    @property
    def guidance_layers(self) -> tuple[int, ...]: ...

    def model_card(self) -> ModelCard: ...

    def setting(self, name: str) -> Any: ...

    def branch_inputs(
        self, arguments: Mapping[str, Any], latents: str, grid: TokenGrid, branch: str = "cond"
    ) -> Mapping[str, Any]: ...

    def sites(self) -> Sequence[Site]: ...

    def layout(self) -> TokenLayout: ...

    def grid(self, clip: Clip, site: Site | None) -> TokenGrid: ...

    def latent_reading(self, grid: TokenGrid) -> LatentReading: ...

    def check_makes(self, grid: TokenGrid) -> None: ...

    def accelerate_sampling(self, settings: RunSettings, *, probed: bool) -> AbstractContextManager[None]: ...

    def guidance(self, strength: float) -> Mapping[str, float]: ...

    @property
    def kept_inputs(self) -> KeptInputs: ...

    def keeping_prompts(self) -> AbstractContextManager[None]: ...

    def latent_files(self) -> LatentFiles | None: ...

    def schedule(self, num_steps: int, grid: TokenGrid) -> NoiseSchedule: ...

    def borrow(self, clip: Clip, grid: TokenGrid, settings: RunSettings) -> Passes: ...

    def call(self, clip: Clip, grid: TokenGrid, settings: RunSettings, output_type: str) -> dict[str, Any]: ...

    def scheduler_config(self) -> Mapping[str, Any]: ...

    def encode_clip(self, clip: Clip, video: NDArray[np.uint8]) -> Tensor: ...

    def decode_clip(self, clip: Clip, latents: Tensor) -> NDArray[np.uint8]: ...


def run_mode(model: _Model, clip: Clip, settings: RunSettings, recorder: Recorder) -> NDArray[np.uint8] | None:
    """Runs a model on a clip in the mode of the settings; see `DiffusersVideoModel.run`."""
    mode = mode_of(settings.mode)
    if mode.makes_video:
        return _generate(model, clip, settings, recorder)
    read = _invert if isinstance(mode, Invert) else _renoise
    files = model.latent_files() if settings.keep_latents else None
    with torch.no_grad(), model.kept_inputs.on_disk(files):
        read(model, clip, settings, recorder)
    model.pipe.maybe_free_model_hooks()
    return None


def sample_changed(
    model: _Model, clip: Clip, settings: RunSettings, recorder: Recorder, change: Change
) -> NDArray[np.uint8]:
    """Samples a video as mode `generate` does, while an interceptor changes attention at every step.

    Args:
        model: loaded.
        clip: its prompt, with the image that the model starts from, if it starts from one.
        settings: of mode generate; their steps are those that the recorder reads.
        recorder: a new one, which reads the model as the change leaves it.
        change: what is done to attention. Its calls know the step of the sampler and the guidance branches.

    Returns:
        (T, H, W, 3) uint8.

    Raises:
        UsageError: as `DiffusersVideoModel.run`.
    """
    return _generate(model, clip, settings, recorder, change)


def check_invertible(model: _Model, settings: RunSettings) -> None:
    """Checks that the pipeline can be walked back with these settings, as far as its scheduler is known.

    Raises:
        UsageError: the scheduler's steps cannot be undone, guidance was asked for, or the adapter does not decode.
    """
    scheduler = model.scheduler_config()
    if scheduler:
        check_sampler(scheduler, settings.num_steps)
    if settings.cfg not in (None, 1):
        raise UsageError(
            f"Mode invert follows the conditional branch alone, not cfg {settings.cfg:g}.",
            hint="Leave --cfg out, or say 1.",
        )
    if Invert.name not in model.modes:
        raise UsageError(
            f"Mode invert cannot decode its video: {type(model).__name__} encodes videos in a way of its own.",
            hint="Its adapter has to override `decode` as well. Other models: --mode renoise.",
        )


def _renoise(model: _Model, clip: Clip, settings: RunSettings, recorder: Recorder) -> None:
    check_noise_batch(model, settings)
    grid, video = check_video(model, clip)
    passes = model.borrow(clip, grid, settings)
    latents = model.encode_clip(clip, video)
    epsilon = clip_noise_like(latents, settings.seed, clip.id) if settings.add_noise else None
    schedule, modules = passes.schedule, list(passes.modules.values())
    reading = model.latent_reading(grid)

    def inputs(step: int) -> dict[str, Any]:
        noisy = latents if epsilon is None else schedule.add_noise(latents, epsilon, step)
        return passes.inputs(noisy, step)

    with recorder.attach(modules, model.sites(), model.layout(), partial(model.grid, clip), latents=reading):
        for steps in passes.groups(settings.steps, settings.noise_batch):
            noise, alone = [float(schedule.noise[step]) for step in steps], [inputs(step) for step in steps]
            if len(steps) == 1:
                with recorder.step(steps[0], noise=noise[0]):
                    passes.module(steps[0])(**alone[0])
                continue
            with recorder.steps(steps, noise=noise, arguments=alone):
                passes.module(steps[0])(**passes.join(alone, steps[0]))


def check_noise_batch(model: _Model, settings: RunSettings) -> None:
    """Raises UsageError if several noise levels are to share a pass and the denoiser takes one at a time."""
    if settings.noise_batch > 1 and not model.batches_levels:
        raise UsageError(
            f"{model.model_card().title} takes one noise level in a pass, not {settings.noise_batch}.",
            hint="Leave out noise_batch.",
        )


def _invert(model: _Model, clip: Clip, settings: RunSettings, recorder: Recorder) -> None:
    check_invertible(model, settings)
    grid, video = check_video(model, clip)
    passes = model.borrow(clip, grid, replace(settings, steps=tuple(range(settings.num_steps))))
    schedule, chosen = passes.schedule, frozenset(settings.steps)
    for step in chosen:
        schedule.check(step)
    steps = sampler_steps(model.pipe.scheduler, schedule)
    encoded = model.encode_clip(clip, video)

    def predict(latents: Tensor, step: int) -> Tensor:
        return passes.run(latents.to(encoded.dtype), step).float()

    def read(step: int) -> AbstractContextManager[None]:
        return recorder.step(step, noise=float(schedule.noise[step])) if step in chosen else nullcontext()

    modules = list(passes.modules.values())
    reading = model.latent_reading(grid)
    with recorder.attach(modules, model.sites(), model.layout(), partial(model.grid, clip), latents=reading):
        reached = walk_back(encoded.float(), steps, predict, read)
    again = sample_down(reached, steps, predict).to(encoded.dtype)
    made, autoencoded = (model.decode_clip(clip, latents) for latents in (again, encoded))
    recorder.reconstruction = Reconstruction(psnr(made, autoencoded), psnr(made, video), psnr(autoencoded, video))


def _generate(
    model: _Model, clip: Clip, settings: RunSettings, recorder: Recorder, change: Change | None = None
) -> NDArray[np.uint8]:
    made = clip.with_video(None)
    grid = model.grid(made, None)
    model.check_makes(grid)
    schedule = model.schedule(settings.num_steps, grid)
    for step in settings.steps:
        schedule.check(step)
    noise = {step: float(schedule.noise[step]) for step in settings.steps}
    reading = model.latent_reading(grid)
    modules = [getattr(model.pipe, name) for name in model.denoisers]
    # seed torch's own generators too, because some pipelines draw from them in spite of their `generator`
    with torch.no_grad(), seed_generators(settings.seed, model.device):
        call = {**model.call(clip, grid, settings, "np"), **_guidance(model, settings)}
        with (
            recorder.attach(modules, model.sites(), model.layout(), partial(model.grid, made), latents=reading),
            SamplingWatch(recorder, noise) as watch,
            guide_sampling(model, made, settings, recorder.watch, schedule),
            _changing(modules, model.layout(), recorder, change),
            watch.follow_steps(model.pipe) as callback,
            model.accelerate_sampling(settings, probed=recorder.is_reading),
            model.keeping_prompts(),
        ):
            output = model.pipe(**call, **callback)
    watch.check(schedule.timesteps)
    return frames_of(output, grid)


def _changing(
    modules: Sequence[Any], layout: TokenLayout, recorder: Recorder, change: Change | None
) -> AbstractContextManager[None]:
    """Applies a change inside the recorder, so that probes read q and k of the model and its changed output."""
    if change is None:
        return nullcontext()
    return intercept(modules, change.sites, change.edit, layout=layout, watch=recorder.watch)


def _guidance(model: _Model, settings: RunSettings) -> Mapping[str, float]:
    strength = settings.cfg
    if strength is None:
        return {}
    if not (math.isfinite(strength) and strength >= 0):
        raise UsageError(f"Guidance must be a number of at least 0, got {strength}.", hint="1 means none.")
    return model.guidance(strength)


def check_video(model: _Model, clip: Clip) -> tuple[TokenGrid, NDArray[np.uint8]]:
    """Checks that a clip's video has the size of the model's grid; returns both.

    Raises:
        UsageError: the clip has no video, or one of another size.
    """
    grid = model.grid(clip, None)
    if clip.video is None:
        raise UsageError(f"Clip {clip.id} has no video to read.", hint="Modes renoise and invert need data with video.")
    expected = (grid.video_frames, round(grid.height), round(grid.width))
    if clip.video.shape[:3] != expected:
        raise UsageError(
            f"Clip {clip.id} is {size_in_words(clip.video.shape)}; the model reads {size_in_words(expected)}.",
            hint="vcorr.fit_clip(clip, model.grid(clip, None)) brings it to that size.",
        )
    return grid, clip.video
