"""Watches a diffusers pipeline while it samples: the step and the guidance branch of every pass of its denoiser.

Shape legend: T video frames, H x W pixels, S sampling steps.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vcorr.errors import PluginError, UsageError
from vcorr.geometry import TokenGrid

if TYPE_CHECKING:
    from vcorr.capture.recorder import Recorder

CONDITIONAL = "cond"
BATCHED = "cond_uncond"
"""What diffusers labels a pass that holds all branches in one batch; the token layout says which row is which."""


class SamplingWatch:
    """Opens `recorder.step` around the denoiser's passes of the chosen steps, and of these only.

    A step begins with the first pass of the denoiser after the last step ended, and ends with the pipeline's callback,
    `step_ended`, or, for pipelines without it, with the step of their scheduler; `told_by` sees to either. The branch
    of a pass is read from the label the pipeline gives it (`denoiser.cache_context("cond")`); without a label, from
    `passes`, by its number within the step; without both it is the conditional one. A batch of branches is not this
    class's concern: `TokenLayout.branches` says which row is read, and a batch of one is the conditional branch itself.

    Args:
        denoiser: the module whose passes count.
        recorder: told of the chosen steps.
        noise: sigma / (alpha + sigma) of each chosen step, by its 0-based index.
        passes: branches in the order of the passes of a step, for pipelines that run them one after the other without
            labels.
    """

    def __init__(
        self, denoiser: nn.Module, recorder: Recorder, noise: Mapping[int, float], passes: Sequence[str] = ()
    ) -> None:
        self._denoiser = denoiser
        self._recorder = recorder
        self._noise = dict(noise)
        self._passes = tuple(passes)
        self._outer, self._step, self._pass = ExitStack(), ExitStack(), ExitStack()
        self._index, self._passes_run = 0, 0
        self._label: str | None = None
        self._timesteps: list[Any] = []

    def __enter__(self) -> SamplingWatch:
        with ExitStack() as stack:
            stack.callback(self._denoiser.register_forward_pre_hook(self._before).remove)
            stack.callback(self._denoiser.register_forward_hook(self._after, always_call=True).remove)
            stack.enter_context(_relabelled(self._denoiser, self._labelled))
            self._outer = stack.pop_all()
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
            self.step_ended(pipe, self._index, timestep, {})
            return result

        scheduler.step = step
        try:
            yield {}
        finally:
            del scheduler.step

    def step_ended(self, pipe: Any, index: int, timestep: Any, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """The pipeline's `callback_on_step_end`; changes nothing."""
        self._step.close()
        self._timesteps.append(timestep)
        self._index, self._passes_run = index + 1, 0
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

    def _before(self, module: nn.Module, args: Any) -> None:
        if self._index not in self._noise:
            return
        if not self._passes_run:
            self._step.enter_context(self._recorder.step(self._index, noise=self._noise[self._index]))
        self._pass.enter_context(self._recorder.branch(self._branch()))
        self._passes_run += 1

    def _after(self, module: nn.Module, args: Any, result: Any) -> None:
        self._pass.close()

    def _branch(self) -> str:
        if self._label is not None:
            return CONDITIONAL if self._label == BATCHED else self._label
        return self._passes[self._passes_run % len(self._passes)] if self._passes else CONDITIONAL

    @contextmanager
    def _labelled(self, name: str) -> Iterator[None]:
        before, self._label = self._label, name
        try:
            yield
        finally:
            self._label = before


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


@contextmanager
def _relabelled(denoiser: nn.Module, labelled: Callable[[str], Any]) -> Iterator[None]:
    """Lets `labelled` know the names given to `denoiser.cache_context` while the block runs."""
    original = getattr(denoiser, "cache_context", None)
    if original is None:
        yield
        return

    @contextmanager
    def cache_context(name: str, **fields: Any) -> Iterator[None]:
        with labelled(name), original(name, **fields):
            yield

    denoiser.cache_context = cache_context  # type: ignore[assignment]
    try:
        yield
    finally:
        del denoiser.cache_context


def _ends(timesteps: Sequence[float]) -> str:
    return f"{timesteps[0]:g} to {timesteps[-1]:g}" if timesteps else "none"
