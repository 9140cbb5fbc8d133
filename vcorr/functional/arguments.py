"""Checks arguments: tensors, and tensors or arrays to read on the host. Every error names its argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vcorr.contract.errors import UsageError

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""Dtypes in which a model may compute."""


def check_floats(name: str, value: object) -> None:
    """Checks that `value` is a dense tensor of one of `FLOATS`.

    Raises:
        UsageError: it is not; the message begins with `name`.
    """
    if not isinstance(value, Tensor) or value.dtype not in FLOATS or value.layout is not torch.strided:
        raise UsageError(f"{name}: expected a floating point torch tensor of 16, 32 or 64 bits, got {describe(value)}.")


def host_numbers(name: str, value: Tensor | ArrayLike, shape: str) -> NDArray[np.floating[Any]]:
    """Returns real numbers, a tensor or an array, as an array on the host: float32 if that holds them, else float64.

    shape: the expected shape, for the message.

    Raises:
        UsageError: the value is no such array; the message begins with `name`.
    """
    array = _host_array(value)
    if array is None or array.dtype.kind not in "fiub":  # no objects: NumPy reads None as NaN
        raise UsageError(f"{name}: expected numbers of shape {shape}, got {describe(value)}.")
    return array.astype(np.float32 if array.dtype in (np.float16, np.float32) else np.float64, copy=False)


def host_mask(name: str, value: Tensor | ArrayLike) -> NDArray[np.bool_]:
    """Returns a boolean tensor or array as an array on the host.

    Raises:
        UsageError: the value is no such array; the message begins with `name`.
    """
    array = _host_array(value)
    if array is None or array.dtype != np.bool_:  # integers would index instead of mask
        raise UsageError(f"{name}: expected bool, got {describe(value)}.")
    return array


def describe(value: object) -> str:
    """Describes a value for an error message: its dtype and shape if it has them, else its type."""
    if isinstance(value, Tensor):
        layout = "" if value.layout is torch.strided else f" {value.layout}"
        return f"{value.dtype}{layout} of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    return type(value).__name__


def _host_array(value: Tensor | ArrayLike) -> NDArray[Any] | None:
    """Returns the value as an array; None for ragged lists, sparse tensors, and tensors without data."""
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
