"""Says whether the fused kernels run: chosen by device and dtype, or forced by `VCORR_KERNELS` or `use_kernels`.

If they cannot run where they would be chosen, plain torch computes, and one warning per reason says so.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from vcorr.contract.errors import UsageError, first_line
from vcorr.kernels.paths_used import note_path
from vcorr.kernels.tilings import TileSizeError, interprets

Mode = Literal["auto", "plain", "fused"]
"""auto: fused on a GPU that can run the kernels, else plain. plain: always plain torch. fused: fused, or an error."""

KERNELS_VARIABLE = "VCORR_KERNELS"
"""The environment variable with the mode; `use_kernels` goes before it."""

LOWEST_CAPABILITY = (8, 0)
"""The first NVIDIA generation with products of bfloat16 (Ampere)."""

WIDEST = 8192
"""The largest width of a vector. Offsets of channels within a token fit in 32 bits far beyond it."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)

_chosen: ContextVar[Mode | None] = ContextVar("_chosen", default=None)


class FusedWarning(UserWarning):
    """The fused kernels do not run on this device, and plain torch computes the same."""


@contextmanager
def use_kernels(mode: Mode) -> Iterator[None]:
    """Sets the mode inside a `with` block, for this thread or task.

    Raises:
        UsageError: the mode is unknown.
    """
    token = _chosen.set(_check_mode(mode, "mode"))
    try:
        yield
    finally:
        _chosen.reset(token)


def kernels_mode() -> Mode:
    """Returns the mode that holds here.

    Raises:
        UsageError: the environment variable has an unknown value.
    """
    return _chosen.get() or _check_mode(os.environ.get(KERNELS_VARIABLE) or "auto", KERNELS_VARIABLE)


def takes(*tensors: Tensor) -> bool:
    """Says whether the fused kernels compute on these tensors; in mode auto, the first False of a kind warns.

    Raises:
        UsageError: the mode is fused, and the kernels cannot run.
    """
    choice = choose_path(tensors[0].device, *tensors)
    if choice.reason:
        say_once(choice.reason)
    if not choice.fused:
        note_path("plain")
    return choice.fused


class Choice(NamedTuple):
    """fused: whether the fused kernels compute. reason: why they cannot; "" if they do, or if plain torch is meant."""

    fused: bool
    reason: str


def choose_path(device: torch.device, *tensors: Tensor) -> Choice:
    """Chooses what computes on a device.

    Raises:
        UsageError: the mode is fused, and the kernels cannot run.
    """
    mode = kernels_mode()
    if mode == "plain" or (mode == "auto" and device.type != "cuda"):
        return Choice(False, "")
    reason = _refuse_tensors(tensors) or refuse_device(device)
    if reason and mode == "fused":
        raise _cannot_run(reason)
    return Choice(not reason, reason)


def give_up(error: Exception, device: torch.device) -> None:
    """Says that plain torch computes in place of kernels that failed after their first try.

    If no tile fits, other sizes may still run. After any other error, the device gets no fused kernels in this process.

    Raises:
        UsageError: the mode is fused.
    """
    reason = str(error)
    if not isinstance(error, TileSizeError):
        reason = f"they failed on {device} with {type(error).__name__}: {first_line(error)}"
        _failed[device] = reason
    if kernels_mode() == "fused":
        raise _cannot_run(reason) from error
    say_once(reason)
    note_path("plain")


_failed: dict[torch.device, str] = {}


def _cannot_run(reason: str) -> UsageError:
    return UsageError(
        f"{KERNELS_VARIABLE}: the fused kernels cannot run here: {reason}.",
        hint=f"Plain torch computes the same: {KERNELS_VARIABLE}=plain",
    )


def refuse_device(device: torch.device) -> str:
    """Returns why the kernels cannot run on a device; "" if they can. A GPU is tried once per process."""
    if device in _failed:
        return _failed[device]
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed (python -m pip install triton)"
    if device.type == "cpu":
        return "" if interprets() else "Triton runs on a CPU only in its interpreter (TRITON_INTERPRET=1)"
    if device.type != "cuda" or torch.version.hip:
        return f"they were written for NVIDIA GPUs, not for {device.type}{' with ROCm' if torch.version.hip else ''}"
    found = torch.cuda.get_device_capability(device)
    if found < LOWEST_CAPABILITY:
        return f"{torch.cuda.get_device_name(device)} has compute capability {found[0]}.{found[1]}, below 8.0"
    return _try_device(device.index if device.index is not None else torch.cuda.current_device())


def say_once(reason: str) -> None:
    """Warns that plain torch computes, and why; once per reason and process."""
    if reason not in _said:
        _said.add(reason)
        warnings.warn(f"Plain torch matches tokens, without fused kernels: {reason}.", FusedWarning, stacklevel=3)


_said: set[str] = set()


def _check_mode(mode: str, name: str) -> Mode:
    for known in get_args(Mode):
        if mode == known:
            return known  # type: ignore[no-any-return]
    raise UsageError(f"{name}: expected auto, plain or fused, got {mode!r}.")


def _refuse_tensors(tensors: tuple[Tensor, ...]) -> str:
    for tensor in tensors:
        if tensor.dtype not in DTYPES:
            return f"they take float32, bfloat16 and float16, not {str(tensor.dtype).removeprefix('torch.')}"
        if tensor.shape[-1] > WIDEST:
            return f"they take vectors of up to {WIDEST} channels, not {tensor.shape[-1]}"
    return ""


def _try_device(index: int) -> str:
    """Runs a small case on a GPU; returns what went wrong, such as a compiler that is not installed."""
    if index not in _tried:
        if torch.cuda.is_current_stream_capturing():  # the try waits for the device, which would end the recording
            return "a CUDA graph is recorded before their first use (match tokens once before it)"
        from vcorr.kernels.self_check import find_fault

        _tried[index] = find_fault(torch.device("cuda", index))
    return _tried[index]


_tried: dict[int, str] = {}
