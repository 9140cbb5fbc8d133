"""Borrowed passes: single passes of a denoiser with the arguments that the pipeline itself would give it.

The pipeline runs up to the first pass of its denoiser and is stopped there, before the denoiser computes anything. Its
arguments are kept: text and image conditions, rotary tables, sizes. For every further pass only latents and timestep
are exchanged.

Shape legend: B rows of a batch, C latent channels, F x h x w latents, S sampling steps.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from vcorr.capture.captures import TokenLayout
from vcorr.capture.passes import Pass, PassListener, PassWatch, describe_passes
from vcorr.contract.errors import PluginError, UsageError
from vcorr.diffusion.schedule import NoiseSchedule


@dataclass(frozen=True)
class FirstPass:
    """What a pipeline gave its denoiser, and the schedule it had set up by then.

    denoiser: the component that was called. latents: name of the argument that holds the latents. arguments: all of
    them, by name, in the order of the denoiser's signature. timestep: what the scheduler has for the step that was
    begun. schedule: all steps of the pipeline, whichever step was begun.
    """

    denoiser: str
    latents: str
    arguments: Mapping[str, Any]
    timestep: Tensor
    schedule: NoiseSchedule


@dataclass(frozen=True)
class Call:
    """A call of a pipeline, and how its passes are told apart.

    arguments: of the pipeline. denoisers: names of the components whose passes are looked for. layout: which branches
    there are, and how they come. levels: reads the schedule from a scheduler that was set up.
    """

    arguments: Mapping[str, Any]
    denoisers: Sequence[str]
    layout: TokenLayout
    levels: Callable[[Any], NoiseSchedule]


class PassOwner(Protocol):
    """What a `Passes` asks of its adapter: how arguments of the pipeline are exchanged for those of another step."""

    def denoiser_input(self, latents: Tensor, own: Tensor) -> Tensor:
        """Latents as the denoiser takes them; see `DiffusersVideoModel`."""

    def timestep_input(self, timestep: Tensor, own: Any, first: Tensor) -> Any:
        """A timestep as the denoiser takes it; see `DiffusersVideoModel`."""

    def as_latents(self, output: Tensor, latents: Tensor) -> Tensor:
        """The denoiser's output as latents; see `DiffusersVideoModel`."""


@dataclass(frozen=True)
class Passes:
    """Conditional passes of one clip, one for each step, at any latents.

    schedule: the pipeline's steps and their noise levels. denoisers: (S,) names of the components that run in them.
    modules: the components by name. first: what was borrowed for each of them. owner: the adapter.
    """

    schedule: NoiseSchedule
    denoisers: Sequence[str]
    modules: Mapping[str, nn.Module]
    first: Mapping[str, FirstPass]
    owner: PassOwner

    def module(self, step: int) -> nn.Module:
        """The denoiser that runs in a step."""
        return self.modules[self.denoisers[step]]

    def inputs(self, latents: Tensor, step: int) -> dict[str, Any]:
        """Keyword arguments of the denoiser for one pass.

        Args:
            latents: (1, C, F, h, w), noisy, in the units that the denoiser is fed (`NoiseSchedule.add_noise`).
            step: 0-based.
        """
        first = self.first[self.denoisers[step]]
        own = first.arguments
        timestep = self.schedule.timesteps[step]
        return {
            **own,
            first.latents: self.owner.denoiser_input(latents, own[first.latents]),
            TIMESTEP: self.owner.timestep_input(timestep, own[TIMESTEP], first.timestep),
        }

    def run(self, latents: Tensor, step: int) -> Tensor:
        """Makes one pass and returns the prediction, (1, C, F, h, w), in whatever the model was trained to predict.

        Args:
            latents: as of `inputs`.
            step: 0-based.
        """
        output = self.module(step)(**self.inputs(latents, step))
        found = output[0] if isinstance(output, (tuple, list)) else getattr(output, "sample", output)
        return self.owner.as_latents(found, latents)


TIMESTEP = "timestep"
"""What denoisers of diffusers call the argument with the timestep."""


def first_pass(pipe: Any, call: Call, start: int = 0) -> FirstPass:
    """Runs a pipeline until it calls its denoiser for the conditional branch, and returns what it gave it.

    That pass is not made, and the pipeline and its scheduler are left as they were, whatever happens. Passes of other
    branches that come before the conditional one are made.

    Args:
        pipe: a diffusers pipeline.
        call: what it is called with.
        start: the step that its loop begins with; a pipeline whose denoisers take turns then starts with another one.

    Raises:
        UsageError: the scheduler cannot make that many steps, or has no such step.
        PluginError: the pipeline never calls the denoiser, or sets up no scheduler.
    """
    schedules: list[NoiseSchedule] = []
    modules = [getattr(pipe, name) for name in call.denoisers]
    try:
        with ExitStack() as stack:
            stack.enter_context(_starting_at(pipe.scheduler, start, call.levels, schedules))
            watch = stack.enter_context(PassWatch(modules, call.layout))
            stack.enter_context(watch.listen(_StopAtConditional()))
            pipe(**call.arguments)
    except _ReachedError as stopped:
        if not schedules:
            raise _unread(f"{type(pipe).__name__} calls its denoiser before it sets up its scheduler.") from None
        reached = stopped.reached
        names = parameters(modules[reached.denoiser])
        arguments = {**dict(zip(names, reached.args, strict=False)), **reached.kwargs}
        schedule = schedules[-1]
        denoiser = call.denoisers[reached.denoiser]
        return FirstPass(denoiser, names[0], arguments, schedule.timesteps[start], schedule)
    denoisers = " or ".join(call.denoisers)
    raise _unread(f"{type(pipe).__name__} ended without a conditional pass of {denoisers}; {describe_passes(watch)}.")


def parameters(module: nn.Module) -> list[str]:
    """Names of the arguments of a module's forward, compiled or not; the first one holds the latents."""
    original = getattr(module, "_orig_mod", module)
    return list(inspect.signature(type(original).forward).parameters)[1:]


def rows_of_branch(
    arguments: Mapping[str, Any], latents: str, branch: int, of: int, *, rows: int = 1, per_frame: Sequence[str] = ()
) -> dict[str, Any]:
    """The arguments of one branch of a pass in which the pipeline batched all of them; of other passes, all there is.

    Args:
        arguments: of the pass.
        latents: name of the argument with the latents.
        branch: index of the branch in the batch.
        of: how many branches there are.
        rows: of the latents of one branch.
        per_frame: arguments that have F rows for each branch, whatever the latents have.
    """
    if of == 1 or len(arguments[latents]) != rows * of:
        return dict(arguments)

    def chosen(name: str, value: Any) -> Any:
        batched = isinstance(value, Tensor) and value.ndim > 0 and (name in per_frame or len(value) == rows * of)
        return value.chunk(of)[branch] if batched else value

    return {name: chosen(name, value) for name, value in arguments.items()}


def exchanged_timestep(timestep: Tensor, own: Any, first: Tensor) -> Any:
    """Puts `timestep` wherever `own`, the argument of a pipeline, has the timestep `first`.

    Shape and dtype stay, so that a timestep for every token with zeros for the tokens that are given keeps its zeros.

    Raises:
        PluginError: `own` does not hold `first`: the pipeline changes timesteps on the way.
    """
    if not isinstance(own, Tensor):
        return type(own)(float(timestep))
    first, timestep = first.to(own.device, own.dtype), timestep.to(own.device, own.dtype)
    held = own == first
    if not bool(held.any()):
        raise PluginError(
            f"The pipeline gives its denoiser the timestep {own.flatten()[0]:g} where its scheduler has {first:g}.",
            hint="The adapter has to say how one becomes the other: `timestep_input`.",
        )
    return torch.where(held, timestep, own)


class _ReachedError(Exception):
    """Stops a pipeline at a pass of its denoiser."""

    def __init__(self, reached: Pass) -> None:
        super().__init__("The pipeline reached its denoiser.")
        self.reached = reached


class _StopAtConditional(PassListener):
    """Raises `_ReachedError` at the first conditional pass."""

    def pass_begins(self, now: Pass) -> None:
        if now.conditional:
            raise _ReachedError(now)


@contextmanager
def _starting_at(
    scheduler: Any, start: int, levels: Callable[[Any], NoiseSchedule], schedules: list[NoiseSchedule]
) -> Iterator[None]:
    """While the block runs, the scheduler's steps are read into `schedules` as they are set, and begin with `start`.

    The scheduler is left as it was.
    """
    before, own = dict(vars(scheduler)), scheduler.set_timesteps

    @functools.wraps(own)  # pipelines look at its signature
    def set_timesteps(*args: Any, **kwargs: Any) -> None:
        try:
            own(*args, **kwargs)
        except ValueError as error:
            raise UsageError(f"{type(scheduler).__name__} cannot make these steps: {error}") from error
        schedules.append(levels(scheduler))
        schedules[-1].check(start)
        if start:
            scheduler.timesteps = scheduler.timesteps[start:]

    scheduler.set_timesteps = set_timesteps
    try:
        yield
    finally:
        vars(scheduler).clear()
        vars(scheduler).update(before)


def _unread(message: str) -> PluginError:
    return PluginError(message, hint="The adapter has to make its passes itself: `borrow`.")
