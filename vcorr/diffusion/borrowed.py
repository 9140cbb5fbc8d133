"""Borrows passes: single passes of a denoiser with the arguments that the pipeline itself would give it.

The pipeline runs up to the first pass of its denoiser and stops there, before the denoiser computes anything. The
arguments of that pass are kept: text and image conditions, rotary tables, sizes. Every later pass exchanges only the
latents and the timestep.

Shape legend: C latent channels, F x h x w latents, S sampling steps.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from vcorr.capture.captures import TokenLayout
from vcorr.capture.passes import Pass, PassListener, PassWatch, describe_passes
from vcorr.contract.errors import PluginError, UsageError
from vcorr.diffusion.schedule import NoiseSchedule, check_levels


@dataclass(frozen=True)
class FirstPass:
    """The arguments of a pipeline's first pass, and the schedule that it had set up by then.

    denoiser: the component that was called. latents: name of the argument that holds the latents. arguments: all
    arguments, by name, in the order of the denoiser's signature. timestep: of the step that began, from the scheduler.
    schedule: all steps of the pipeline, whichever step began.
    """

    denoiser: str
    latents: str
    arguments: Mapping[str, Any]
    timestep: Tensor
    schedule: NoiseSchedule


@dataclass(frozen=True)
class Call:
    """A call of a pipeline, and how to recognise its conditional passes.

    arguments: of the pipeline. denoisers: names of the components whose passes count. layout: the guidance branches,
    and how they come. levels: reads the schedule from a scheduler that has been set up.
    """

    arguments: Mapping[str, Any]
    denoisers: Sequence[str]
    layout: TokenLayout
    levels: Callable[[Any], NoiseSchedule]


class PassOwner(Protocol):
    """The members of an adapter that `Passes` uses to exchange latents and timesteps; see `DiffusersVideoModel`."""

    frame_inputs: ClassVar[tuple[str, ...]]

    def denoiser_input(self, latents: Tensor, own: Tensor) -> Tensor:
        """Brings latents into the denoiser's form."""

    def timestep_input(self, timestep: Tensor, own: Any, first: Tensor) -> Any:
        """Brings a timestep into the denoiser's form."""

    def as_latents(self, output: Tensor, latents: Tensor) -> Tensor:
        """Returns the denoiser's output as latents."""


@dataclass(frozen=True)
class Passes:
    """Conditional passes of one clip, one per step, with any latents.

    schedule: the pipeline's steps and their noise levels. denoisers: (S,) names of the components that run in the
    steps. modules: these components, by name. first: the borrowed pass of each component. owner: the adapter.
    """

    schedule: NoiseSchedule
    denoisers: Sequence[str]
    modules: Mapping[str, nn.Module]
    first: Mapping[str, FirstPass]
    owner: PassOwner

    def module(self, step: int) -> nn.Module:
        """Returns the denoiser that runs in a step."""
        return self.modules[self.denoisers[step]]

    def inputs(self, latents: Tensor, step: int) -> dict[str, Any]:
        """Returns the keyword arguments of the denoiser for one pass.

        Args:
            latents: (1, C, F, h, w), noisy, in the denoiser's units (`NoiseSchedule.add_noise`).
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

    def groups(self, steps: Sequence[int], most: int) -> list[tuple[int, ...]]:
        """Splits steps into groups of at most `most` that follow each other and run in the same denoiser."""
        found: list[tuple[int, ...]] = []
        for step in steps:
            fits = found and len(found[-1]) < most and self.denoisers[found[-1][0]] == self.denoisers[step]
            found[-1:] = [(*found[-1], step)] if fits else [*found[-1:], (step,)]
        return found

    def join(self, inputs: Sequence[Mapping[str, Any]], step: int) -> dict[str, Any]:
        """Returns the arguments of one pass whose batch holds the rows of several passes of one denoiser.

        Args:
            inputs: of each pass, as `inputs` returns them.
            step: one of the steps.

        Raises:
            UsageError: the denoiser takes one timestep for the whole batch.
        """
        return join_rows(inputs, self.first[self.denoisers[step]].latents, self.owner.frame_inputs)

    def run(self, latents: Tensor, step: int) -> Tensor:
        """Runs one pass and returns the network's output, (1, C, F, h, w): noise, velocity or data, as it was trained.

        Args:
            latents: as in `inputs`.
            step: 0-based.
        """
        output = self.module(step)(**self.inputs(latents, step))
        found = output[0] if isinstance(output, (tuple, list)) else getattr(output, "sample", output)
        return self.owner.as_latents(found, latents)


TIMESTEP = "timestep"
"""The name of the timestep's argument in diffusers' denoisers."""


def first_pass(pipe: Any, call: Call, start: int = 0) -> FirstPass:
    """Runs a pipeline until it calls its denoiser for the conditional branch, and returns the arguments of that call.

    That pass itself does not run; passes of other branches before it do. The pipeline and its scheduler are left as
    they were, also after an exception.

    Args:
        pipe: a diffusers pipeline.
        call: its arguments, and how to recognise a conditional pass.
        start: the first step of its loop. In a pipeline whose denoisers take turns, this selects the denoiser.

    Raises:
        UsageError: the scheduler cannot make that many steps, or has no such step.
        PluginError: the pipeline never calls the denoiser, or does not set up its scheduler before.
    """
    schedules: list[NoiseSchedule] = []
    modules = [getattr(pipe, name) for name in call.denoisers]
    try:
        with ExitStack() as stack:
            stack.enter_context(_start_at(pipe.scheduler, start, call.levels, schedules))
            watch = stack.enter_context(PassWatch(modules, call.layout))
            stack.enter_context(watch.listen(_StopAtConditional()))
            pipe(**call.arguments)
    except _ReachedError as stopped:
        if not schedules:
            raise _not_borrowed(f"{type(pipe).__name__} calls its denoiser before it sets up its scheduler.") from None
        reached = stopped.reached
        names = parameters(modules[reached.denoiser])
        arguments = {**dict(zip(names, reached.args, strict=False)), **reached.kwargs}
        schedule = schedules[-1]
        denoiser = call.denoisers[reached.denoiser]
        return FirstPass(denoiser, names[0], arguments, schedule.timesteps[start], schedule)
    denoisers = " or ".join(call.denoisers)
    raise _not_borrowed(
        f"{type(pipe).__name__} ended without a conditional pass of {denoisers}; {describe_passes(watch)}."
    )


def parameters(module: nn.Module) -> list[str]:
    """Returns the names of the arguments of a module's forward, compiled or not; the first one holds the latents."""
    original = getattr(module, "_orig_mod", module)
    return list(inspect.signature(type(original).forward).parameters)[1:]


def rows_of_branch(
    arguments: Mapping[str, Any], latents: str, branch: int, of: int, *, rows: int = 1, per_frame: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns the arguments of one branch from a pass that holds all branches in a batch; all of them from others.

    Args:
        arguments: of the pass.
        latents: name of the argument with the latents.
        branch: index of the branch in the batch.
        of: number of branches.
        rows: batch rows of the latents of one branch.
        per_frame: names of arguments that have F batch rows per branch, whatever the latents have.
    """
    if of == 1 or len(arguments[latents]) != rows * of:
        return dict(arguments)

    def take_branch(name: str, value: Any) -> Any:
        batched = isinstance(value, Tensor) and value.ndim > 0 and (name in per_frame or len(value) == rows * of)
        return value.chunk(of)[branch] if batched else value

    return {name: take_branch(name, value) for name, value in arguments.items()}


def join_rows(inputs: Sequence[Mapping[str, Any]], latents: str, per_frame: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the arguments of a pass whose batch holds the rows of several passes, one after the other.

    Tensors whose first axis is as long as the first axis of the latents have batch rows, also inside tuples and
    mappings. All else is the same in every pass. A timestep without a batch axis gets one.

    Args:
        inputs: the arguments of each pass, by name.
        latents: name of the argument with the latents.
        per_frame: names of arguments that have F batch rows, whatever the latents have.

    Raises:
        UsageError: the timestep is a number, so that there is one for the whole batch.
    """
    rows = len(inputs[0][latents])

    def join(name: str, *values: Any) -> Any:
        first = values[0]
        batched = isinstance(first, Tensor) and first.ndim > 0 and (name in per_frame or len(first) == rows)
        return torch.cat(values) if batched else first

    joined = {name: tree_map(partial(join, name), *(each[name] for each in inputs)) for name in inputs[0]}
    return {**joined, TIMESTEP: _join_timesteps([each[TIMESTEP] for each in inputs], rows)}


def _join_timesteps(values: Sequence[Any], rows: int) -> Tensor:
    if not all(isinstance(value, Tensor) for value in values):
        raise UsageError(
            "The denoiser takes one timestep for its whole batch, as a number.", hint="Leave out noise_batch."
        )
    return torch.cat([value.expand(rows) if value.numel() == 1 and value.ndim < 2 else value for value in values])


def exchange_timestep(timestep: Tensor, own: Any, first: Tensor) -> Any:
    """Replaces the timestep `first` by `timestep` wherever `own`, an argument of the pipeline, holds it.

    Shape and dtype stay. An argument with one timestep per token keeps its zeros, which mark tokens without noise.

    Raises:
        PluginError: `own` does not hold `first`, because the pipeline changes timesteps before it passes them on.
    """
    if not isinstance(own, Tensor):
        return type(own)(float(timestep))
    first, timestep = first.to(own.device, own.dtype), timestep.to(own.device, own.dtype)
    matches = own == first
    if not bool(matches.any()):
        raise PluginError(
            f"The pipeline gives its denoiser the timestep {own.flatten()[0]:g} where its scheduler has {first:g}.",
            hint="The adapter has to convert one into the other: override `timestep_input`.",
        )
    return torch.where(matches, timestep, own)


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
def _start_at(
    scheduler: Any, start: int, levels: Callable[[Any], NoiseSchedule], schedules: list[NoiseSchedule]
) -> Iterator[None]:
    """Makes the scheduler's loop begin with step `start` while the block runs, and appends its full schedule.

    `schedules` gets the schedule each time the pipeline sets the steps. Afterwards the scheduler is as it was.
    """
    before, own = dict(vars(scheduler)), scheduler.set_timesteps

    @functools.wraps(own)  # pipelines inspect its signature
    def set_timesteps(*args: Any, **kwargs: Any) -> None:
        try:
            own(*args, **kwargs)
        except ValueError as error:
            raise UsageError(f"{type(scheduler).__name__} cannot make these steps: {error}") from error
        schedules.append(levels(scheduler))
        check_levels(schedules[-1], type(scheduler).__name__)
        schedules[-1].check(start)
        if start:
            scheduler.timesteps = scheduler.timesteps[start:]

    scheduler.set_timesteps = set_timesteps
    try:
        yield
    finally:
        vars(scheduler).clear()
        vars(scheduler).update(before)


def _not_borrowed(message: str) -> PluginError:
    return PluginError(message, hint="The adapter has to make its passes itself: override `borrow`.")
