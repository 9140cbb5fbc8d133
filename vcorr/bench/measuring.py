"""Runs measurements of models with random weights, and says how far they are; a failure becomes a row with a reason."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch

from vcorr.contract.errors import UsageError, VcorrError
from vcorr.diffusion import DiffusersVideoModel
from vcorr.plugins.registry import Registry
from vcorr.runner.parts import Part, model_part
from vcorr.runner.spec import RunSpec

Progress = Callable[[str], None]
"""Takes a short text that says what is measured now."""
Row = TypeVar("Row", bound=Any)
"""A dataclass with a field `error`."""


def say_nothing(text: str) -> None:
    """Shows no progress."""


def choose_model(spec: RunSpec, registry: Registry) -> tuple[Part, DiffusersVideoModel[Any]]:
    """Returns the model of a spec, and an adapter of it without its network.

    Raises:
        UsageError: its name or an option is unknown, or it has no denoiser to build.
    """
    model = model_part(spec, registry)
    adapter: Any = model.create()
    if not isinstance(adapter, DiffusersVideoModel):
        raise UsageError(
            f"{model.entry.label} is not a diffusers video model, so there is no denoiser to build and time.",
            hint="See: vcorr list models",
        )
    return model, adapter


def measure_or_explain(blank: Row, device: str, measure: Callable[[], Row]) -> Row:
    """Returns what `measure` returns, computed without gradients.

    A failure, such as a lack of device memory, gives `blank` with the reason in `error`. It is not raised, so that the
    results of other models are kept. The memory of the device is free afterwards.
    """
    try:
        with torch.no_grad():
            return measure()
    except torch.OutOfMemoryError as error:
        return replace(blank, error=f"out of memory: {str(error).splitlines()[0]}")
    except VcorrError as error:
        return replace(blank, error=error.message)
    finally:
        gc.collect()
        if torch.device(device).type == "cuda":
            torch.cuda.empty_cache()
