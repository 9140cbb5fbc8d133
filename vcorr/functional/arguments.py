"""Arguments as they come: tensors to check, tensors or arrays to read on the host. Every refusal names its argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vcorr.contract.errors import UsageError

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""What a model computes in."""


def check_floats(name: str, value: object) -> None:
    """Checks that `value` is a dense tensor of one of `FLOATS`.

    Raises:
        UsageError: the message begins with `name`.
    """
    if not isinstance(value, Tensor) or value.dtype not in FLOATS or value.layout is not torch.strided:
        raise UsageError(
            f"{name}: expected a floating point torch tensor of 16, 32 or 64 bits, got {described(value)}."
        )


def host_numbers(name: str, value: Tensor | ArrayLike, shape: str) -> NDArray[np.floating[Any]]:
    """A tensor or array of real numbers on the host: float32 if it has no more digits than that, else float64.

    shape: what is expected, for the message.

    Raises:
        UsageError: the message begins with `name`.
    """
    array = _host_array(value)
    if array is None or array.dtype.kind not in "fiub":  # objects neither: NumPy reads None as NaN
        raise UsageError(f"{name}: expected numbers of shape {shape}, got {described(value)}.")
    return array.astype(np.float32 if array.dtype in (np.float16, np.float32) else np.float64, copy=False)


def host_mask(name: str, value: Tensor | ArrayLike) -> NDArray[np.bool_]:
    """A boolean tensor or array on the host.

    Raises:
        UsageError: the message begins with `name`.
    """
    array = _host_array(value)
    if array is None or array.dtype != np.bool_:  # integers would index instead of mask
        raise UsageError(f"{name}: expected bool, got {described(value)}.")
    return array


def described(value: object) -> str:
    """The value's kind for an error message: its dtype and shape if it has any, else its type."""
    if isinstance(value, Tensor):
        layout = "" if value.layout is torch.strided else f" {value.layout}"
        return f"{value.dtype}{layout} of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return type(value).__name__


def _host_array(value: Tensor | ArrayLike) -> NDArray[Any] | None:
    """None where there is no array to be had: ragged lists, tensors that are sparse or hold no data."""
    if isinstance(value, Tensor):
        if value.layout is not torch.strided or value.is_meta:
            return None
        value = value.detach().cpu()
        half = value.is_floating_point() and value.dtype not in (torch.float32, torch.float64)
        return np.asarray((value.float() if half else value).numpy())
    try:
        return np.asarray(value)
    except ValueError:
        return None
