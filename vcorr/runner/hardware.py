"""Chooses the device and the dtype of a run, and names the device for the fingerprint and the record."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.runner.gaps import Gaps
from vcorr.runner.spec import RunSpec

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Hardware:
    """device: as torch names it, e.g. "cuda:1". name: the product or kind, e.g. "NVIDIA H200". dtype: of the model."""

    device: str
    name: str
    dtype: str


def choose_hardware(spec: RunSpec, gaps: Gaps) -> Hardware:
    """Returns the device and dtype that `--device` and `--dtype` name, or the best ones here for "auto".

    A CUDA device that is not here is a gap; its name is then the word that the user typed.

    Raises:
        UsageError: there is no such device or dtype.
    """
    import torch

    device = spec.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        named = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"--device {device!r} is not a device.", hint="For example: cpu, cuda, cuda:1") from error
    dtype = _choose_dtype(spec.dtype, named.type)
    if named.type != "cuda":
        return Hardware(device, named.type, dtype)
    if (named.index or 0) >= torch.cuda.device_count():
        gaps.add("device", _absent(device, torch.cuda.device_count()))
        return Hardware(device, device, dtype)
    return Hardware(device, torch.cuda.get_device_name(device), dtype)


def _absent(device: str, count: int) -> UsageError:
    if not count:
        return UsageError(
            f"--device {device}: no CUDA device is available here.", hint="Try --device cpu, or: vcorr doctor"
        )
    return UsageError(f"--device {device}: there is no such device.", hint=f"There are cuda:0 to cuda:{count - 1}.")


def _choose_dtype(dtype: str, kind: str) -> str:
    if dtype == "auto":
        return "bfloat16" if kind == "cuda" else "float32"
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, ["auto", *DTYPES])
    return dtype
