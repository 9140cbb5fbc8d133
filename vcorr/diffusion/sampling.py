"""Reads the chosen steps of a diffusers pipeline while it samples.

Shape legend: T video frames, H x W pixels, S sampling steps.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcorr.capture.passes import Pass, PassListener
from vcorr.contract.errors import PluginError, UsageError
from vcorr.contract.geometry import TokenGrid

if TYPE_CHECKING:
    from vcorr.capture.recorder import Recorder


class SamplingWatch(PassListener):
    """Opens `recorder.step` around the passes of a sampler's chosen steps, and only of these.

    A step begins with the first pass of a denoiser after the previous step ended. It ends with the pipeline's callback
    at the end of a step, or, if the pipeline has none, with the scheduler's `step`; `follow_steps` arranges either.
    `recorder.watch` finds the branch and the denoiser of each pass.

    Args:
        recorder: with the denoisers attached.
        noise: sigma / (alpha + sigma) of each chosen step, by its 0-based index.
    """

    def __init__(self, recorder: Recorder, noise: Mapping[int, float]) -> None:
        self._recorder = recorder
        self._noise = dict(noise)
        self._outer, self._step = ExitStack(), ExitStack()
        self._reading = False
        self._timesteps: list[Any] = []

    def __enter__(self) -> SamplingWatch:
        watch = self._recorder.watch
        self._outer.enter_context(watch.listen(self))
        watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._step.__exit__(kind, error, trace)
        finally:
            self._outer.close()

    @contextmanager
    def follow_steps(self, pipe: Any) -> Iterator[dict[str, Any]]:
        """Makes the pipeline report the end of every step while the block runs; yields arguments for its call.

        If its call takes no `callback_on_step_end`, it wraps the scheduler's `step` instead, and yields no arguments.
        """
        if "callback_on_step_end" in inspect.signature(type(pipe).__call__).parameters:
            yield {"callback_on_step_end": self.end_step}
            return
        scheduler, own = pipe.scheduler, pipe.scheduler.step

        @functools.wraps(own)
        def step(model_output: Any, timestep: Any, *args: Any, **kwargs: Any) -> Any:
            result = own(model_output, timestep, *args, **kwargs)
            self.end_step(pipe, len(self._timesteps), timestep, {})
            return result

        scheduler.step = step
        try:
            yield {}
        finally:
            del scheduler.step

    def end_step(self, pipe: Any, index: int, timestep: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Serves as the pipeline's `callback_on_step_end`; changes nothing in the pipeline.

        Raises:
            PluginError: none of the adapter's denoisers ran in a chosen step.
        """
        if index in self._noise and not self._reading:
            raise PluginError(
                f"Step {index} ran without any of the denoisers that the adapter declares.",
                hint="The adapter's `denoisers` have to name every component that the pipeline runs.",
            )
        self._step.close()
        self._reading = False
        self._timesteps.append(timestep)
        self._recorder.watch.next_step()
        return {}

    def pass_begins(self, now: Pass) -> None:
        """Opens the step of the pass, if it is a chosen step."""
        if now.step in self._noise and not self._reading:
            self._step.enter_context(self._recorder.step(now.step, noise=self._noise[now.step]))
            self._reading = True

    def check(self, timesteps: Tensor) -> None:
        """Raises PluginError unless the pipeline sampled at `timesteps`, (S,), to which the noise levels belong."""
        sampled = [float(timestep) for timestep in self._timesteps]
        declared = timesteps.detach().cpu().double().tolist()
        if len(sampled) != len(declared) or not np.allclose(sampled, declared, rtol=1e-4, atol=1e-3):
            raise PluginError(
                f"The pipeline sampled {len(sampled)} steps, {_ends(sampled)}; the adapter's schedule has "
                f"{len(declared)}, {_ends(declared)}.",
                hint="The adapter's `schedule` has to set its scheduler up as the pipeline's call does.",
            )


def frames_of(output: Any, grid: TokenGrid) -> NDArray[np.uint8]:
    """Returns the single video of a pipeline's output of type "np": (T, H, W, 3) uint8, rounded.

    Raises:
        PluginError: the video has another size than `grid` covers.
        UsageError: the video holds NaN or infinity.
    """
    frames = np.asarray(output.frames[0], dtype=np.float32)
    expected = (grid.video_frames, round(grid.height), round(grid.width), 3)
    if frames.shape != expected:
        raise PluginError(
            f"The pipeline made a video of shape {frames.shape}; the adapter's grid says {expected}.",
            hint="Tiles that do not divide the video change its size: try without --vae-tiling.",
        )
    if not np.isfinite(frames).all():
        raise UsageError(
            "The sampled video holds NaN or infinite pixels: the numbers overflowed the dtype.",
            hint="Try --dtype bfloat16 or --dtype float32.",
        )
    pixels: NDArray[np.uint8] = np.rint(frames.clip(0, 1) * 255).astype(np.uint8)
    return pixels


def sampling_generator(seed: int) -> torch.Generator:
    """Returns the generator for sampling a clip, on the CPU."""
    return torch.Generator("cpu").manual_seed(seed)


def _ends(timesteps: Sequence[float]) -> str:
    return f"{timesteps[0]:g} to {timesteps[-1]:g}" if timesteps else "none"
