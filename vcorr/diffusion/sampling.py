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
    """Opens `recorder.step` around the passes of the chosen steps of a sampler, and of these only.

    A step begins with the first pass of a denoiser after the last step ended, and ends with the pipeline's callback,
    `step_ended`, or, for pipelines without it, with the step of their scheduler; `told_by` sees to either. Which branch
    a pass is, and which denoiser runs, is the concern of `recorder.watch`.

    Args:
        recorder: with the denoisers attached; it is told of the chosen steps.
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
    def told_by(self, pipe: Any) -> Iterator[dict[str, Any]]:
        """Arguments of the pipeline's call with which this watch is told of the end of every step.

        While the block runs, a pipeline whose call takes no `callback_on_step_end` tells it by its scheduler's `step`.
        """
        if "callback_on_step_end" in inspect.signature(type(pipe).__call__).parameters:
            yield {"callback_on_step_end": self.step_ended}
            return
        scheduler, own = pipe.scheduler, pipe.scheduler.step

        @functools.wraps(own)
        def step(model_output: Any, timestep: Any, *args: Any, **kwargs: Any) -> Any:
            result = own(model_output, timestep, *args, **kwargs)
            self.step_ended(pipe, len(self._timesteps), timestep, {})
            return result

        scheduler.step = step
        try:
            yield {}
        finally:
            del scheduler.step

    def step_ended(self, pipe: Any, index: int, timestep: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """The pipeline's `callback_on_step_end`; changes nothing.

        Raises:
            PluginError: no denoiser of the adapter's ran in a chosen step.
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
        """Opens the step that the pass belongs to, where it is a chosen one."""
        if now.step in self._noise and not self._reading:
            self._step.enter_context(self._recorder.step(now.step, noise=self._noise[now.step]))
            self._reading = True

    def check(self, timesteps: Tensor) -> None:
        """Raises PluginError unless the pipeline sampled at `timesteps`, (S,), which the noise levels belong to."""
        sampled = [float(timestep) for timestep in self._timesteps]
        declared = timesteps.detach().cpu().double().tolist()
        if len(sampled) != len(declared) or not np.allclose(sampled, declared, rtol=1e-4, atol=1e-3):
            raise PluginError(
                f"The pipeline sampled {len(sampled)} steps, {_ends(sampled)}; the adapter's schedule has "
                f"{len(declared)}, {_ends(declared)}.",
                hint="The adapter's `schedule` has to set its scheduler up as the pipeline's call does.",
            )


def frames_of(output: Any, grid: TokenGrid) -> NDArray[np.uint8]:
    """The one video of a pipeline's output of type "np": (T, H, W, 3) uint8, rounded.

    Raises:
        PluginError: it is of another size than `grid` covers.
        UsageError: it holds NaN or infinity.
    """
    frames = np.asarray(output.frames[0], dtype=np.float32)
    expected = (grid.video_frames, round(grid.height), round(grid.width), 3)
    if frames.shape != expected:
        raise PluginError(
            f"The pipeline made a video of shape {frames.shape}; the adapter's grid tells {expected}.",
            hint="Tiles that do not divide the video change its size: try without --vae-tiling.",
        )
    if not np.isfinite(frames).all():
        raise UsageError(
            "The sampled video holds NaN or infinite pixels: the numbers left the range of the dtype.",
            hint="Try --dtype bfloat16 or --dtype float32.",
        )
    pixels: NDArray[np.uint8] = np.rint(frames.clip(0, 1) * 255).astype(np.uint8)
    return pixels


def sampling_generator(seed: int) -> torch.Generator:
    """The generator a clip is sampled with: on the CPU, the same for every clip of a seed."""
    return torch.Generator("cpu").manual_seed(seed)


def _ends(timesteps: Sequence[float]) -> str:
    return f"{timesteps[0]:g} to {timesteps[-1]:g}" if timesteps else "none"
