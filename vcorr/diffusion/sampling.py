"""Watches a diffusers pipeline while it samples: the step and the guidance branch of every pass of its denoisers.

Shape legend: T video frames, H x W pixels, S sampling steps.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vcorr.capture.labels import branch_of, pass_labels
from vcorr.capture.split import CONDITIONAL
from vcorr.errors import PluginError, UsageError
from vcorr.geometry import TokenGrid

if TYPE_CHECKING:
    from vcorr.capture.recorder import Recorder


class SamplingWatch:
    """Opens `recorder.step` around the denoisers' passes of the chosen steps, and of these only.

    A step begins with the first pass of the denoiser after the last step ended, and ends with the pipeline's callback,
    `step_ended`, or, for pipelines without it, with the step of their scheduler; `told_by` sees to either. The branch
    of a pass is read from the label the pipeline gives it (`denoiser.cache_context("cond")`); without a label, from
    `passes`, by its number within the step; without both it is the conditional one. A batch of branches is not this
    class's concern: `TokenLayout.branches` says which row is read, and a batch of one is the conditional branch itself.

    Args:
        denoisers: of every step the module that runs in it, mostly the same one for all.
        recorder: told of the chosen steps.
        noise: sigma / (alpha + sigma) of each chosen step, by its 0-based index.
        passes: branches in the order of the passes of a step, for pipelines that run them one after the other without
            labels.
        attach: opens the recorder's `attach` on a denoiser. It stays open over the steps in a row that this denoiser
            runs, if a chosen one is among them.
    """

    def __init__(
        self,
        denoisers: Sequence[nn.Module],
        recorder: Recorder,
        noise: Mapping[int, float],
        passes: Sequence[str] = (),
        attach: Callable[[nn.Module], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._denoisers = tuple(denoisers)
        self._recorder = recorder
        self._noise = dict(noise)
        self._passes = tuple(passes)
        self._attach = attach
        self._stretches = _stretches(self._denoisers, self._noise)
        self._outer, self._attached, self._step, self._pass = ExitStack(), ExitStack(), ExitStack(), ExitStack()
        self._index, self._passes_run = 0, 0
        self._label: str | None = None
        self._timesteps: list[Any] = []

    def __enter__(self) -> SamplingWatch:
        with ExitStack() as stack:
            for denoiser in dict.fromkeys(self._denoisers):
                before = functools.partial(self._before, denoiser)
                stack.callback(denoiser.register_forward_pre_hook(before).remove)
                stack.callback(denoiser.register_forward_hook(self._after, always_call=True).remove)
                stack.enter_context(pass_labels(denoiser, self._labelled))
            self._enter_stretch(0)
            self._outer = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._step.__exit__(kind, error, trace)
        finally:
            try:
                self._attached.__exit__(*sys.exc_info())
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
            self.step_ended(pipe, self._index, timestep, {})
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
        if index in self._noise and not self._passes_run:
            raise _another_denoiser(index)
        self._step.close()
        self._timesteps.append(timestep)
        self._index, self._passes_run = index + 1, 0
        self._enter_stretch(index + 1)
        return {}

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

    def _enter_stretch(self, index: int) -> None:
        """Attaches to the denoiser that takes over at a step, if it runs a chosen one, in place of the one before."""
        if index not in self._stretches:
            return
        self._attached.close()
        denoiser = self._stretches[index]
        if denoiser is not None:
            self._attached.enter_context(self._attach(denoiser))

    def _before(self, denoiser: nn.Module, module: nn.Module, args: Any) -> None:
        if self._index not in self._noise:
            return
        if denoiser is not self._denoisers[self._index]:
            raise _another_denoiser(self._index)
        if not self._passes_run:
            self._step.enter_context(self._recorder.step(self._index, noise=self._noise[self._index]))
        self._pass.enter_context(self._recorder.branch(self._branch()))
        self._passes_run += 1

    def _after(self, module: nn.Module, args: Any, result: Any) -> None:
        self._pass.close()

    def _branch(self) -> str:
        if self._label is not None:
            return branch_of(self._label)
        return self._passes[self._passes_run % len(self._passes)] if self._passes else CONDITIONAL

    def _labelled(self, name: str | None) -> None:
        self._label = name


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


def _another_denoiser(step: int) -> PluginError:
    return PluginError(
        f"Step {step} runs another denoiser of the pipeline than the adapter tells for its timestep.",
        hint="The adapter's `denoiser_at` has to name the component that the pipeline runs.",
    )


def _stretches(denoisers: Sequence[nn.Module], chosen: Mapping[int, float]) -> dict[int, nn.Module | None]:
    """The denoiser that takes over at a step, by that step's index; None where no chosen step follows until the next
    change.
    """
    stretches: dict[int, nn.Module | None] = {}
    for _, steps in itertools.groupby(range(len(denoisers)), key=lambda step: id(denoisers[step])):
        run = list(steps)
        stretches[run[0]] = denoisers[run[0]] if chosen.keys() & run else None
    return stretches


def _ends(timesteps: Sequence[float]) -> str:
    return f"{timesteps[0]:g} to {timesteps[-1]:g}" if timesteps else "none"
