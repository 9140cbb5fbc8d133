"""Looks into calls of a pipeline of the user's own: where its tokens are, and when a call begins."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

from torch import nn

from vcorr.capture.passes import PassWatch
from vcorr.contract.errors import UsageError
from vcorr.notebook.layouts import Layout, Placement, place_by_hand, place_by_plugin


def check_pipeline(pipe: Any, caller: str) -> None:
    """Checks that an argument is a pipeline, and not its denoiser. caller: the function that got it, as in "guide()".

    Raises:
        UsageError: it is not.
    """
    if isinstance(pipe, nn.Module) or not hasattr(pipe, "scheduler"):
        raise UsageError(
            f"{caller}: expected a diffusers pipeline, got {type(pipe).__name__}.",
            hint=f"Give it the pipeline itself, not its denoiser: {caller.replace('()', '(pipe, ...)')}",
        )


def place_on_pipeline(pipe: Any, layout: str | Layout, size: tuple[int, int, int] | None) -> Placement:
    """Places a layout on the denoisers of a pipeline.

    Args:
        pipe: a diffusers pipeline.
        layout: the name of a model that vcorr knows, or a layout by hand.
        size: (T, H, W) of the video, for models whose latents do not show it.

    Raises:
        UsageError: the model is unknown, or the layout does not fit.
    """
    if isinstance(layout, str):
        return place_by_plugin(pipe, layout, size=size)
    names = [name for name in ("transformer", "transformer_2", "unet") if getattr(pipe, name, None) is not None]
    return place_by_hand([getattr(pipe, name) for name in names], layout)


@contextmanager
def restart_with_calls(scheduler: Any, watch: PassWatch) -> Iterator[None]:
    """Counts steps from 0 again whenever a call of the pipeline sets its steps, while the block runs.

    A copy of the scheduler that the pipeline makes meanwhile sets its own steps, and restarts nothing.
    """
    members = vars(scheduler)
    before, own = members.get("set_timesteps"), type(scheduler).set_timesteps

    @functools.wraps(own)  # pipelines inspect its signature
    def set_timesteps(this: Any, *args: Any, **kwargs: Any) -> Any:
        if this is not scheduler:
            return own(this, *args, **kwargs)
        result = own(this, *args, **kwargs) if before is None else before(*args, **kwargs)
        watch.start(counted=True)
        return result

    # a bound method, because copies of the scheduler bind their copies of it
    members["set_timesteps"] = MethodType(set_timesteps, scheduler)
    try:
        yield
    finally:
        if before is None:
            del members["set_timesteps"]
        else:
            members["set_timesteps"] = before
