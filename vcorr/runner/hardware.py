"""Chooses the device and the dtype of a run, and names the device for the fingerprint and the record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.runner.gaps import Gaps
from vcorr.runner.spec import RunSpec

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Hardware:
    """device: as torch names it, e.g. "cuda:1". name: the product or kind, e.g. "NVIDIA H200". dtype: of the model."""

    device: str
    name: str
    dtype: str


def choose_hardware(spec: RunSpec, gaps: Gaps) -> Hardware:
    """Returns the device and dtype that `--device` and `--dtype` name, or the best ones here for "auto".

    A device that is not here is a gap; its name is then the word that the user typed.

    Raises:
        UsageError: there is no such device or dtype.
    """
    import torch

    device = spec.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    named, count = _parse_device(device)
    dtype = _choose_dtype(spec.dtype, named.type)
    if (named.index or 0) >= count:
        gaps.add("device", _absent(device, named.type, count))
        return Hardware(device, device, dtype)
    return Hardware(device, torch.cuda.get_device_name(device) if named.type == "cuda" else named.type, dtype)


def _parse_device(device: str) -> tuple[torch.device, int]:
    """Returns the device that the words name, and the number of devices of its kind here."""
    import torch

    try:
        named = torch.device(device)
        kind = torch.get_device_module(named.type)  # "meta", for example, has none: nothing can be computed there
    except RuntimeError as error:
        raise UsageError(f"--device {device!r} is not a device.", hint="For example: cpu, cuda, cuda:1") from error
    if named.type == "cpu":
        return named, 1  # torch takes any number for the same CPU
    return named, kind.device_count() if kind.is_available() else 0


def _absent(device: str, kind: str, count: int) -> UsageError:
    if not count:
        name = kind.upper() if kind == "cuda" else kind
        return UsageError(
            f"--device {device}: no {name} device is available here.", hint="Try --device cpu, or: vcorr doctor"
        )
    here = f"There is {kind}:0 alone." if count == 1 else f"There are {kind}:0 to {kind}:{count - 1}."
    return UsageError(f"--device {device}: there is no such device.", hint=here)


def _choose_dtype(dtype: str, kind: str) -> str:
    if dtype == "auto":
        return "bfloat16" if kind == "cuda" else "float32"
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, ["auto", *DTYPES])
    return dtype
