"""Where a run computes: the device, its name for the record and the fingerprint, and the dtype."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.runner.spec import RunSpec

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Hardware:
    """device: as torch names it, "cuda:1" say. name: of the kind of device, "NVIDIA H200" say. dtype: of the model."""

    device: str
    name: str
    dtype: str


def choose_hardware(spec: RunSpec) -> Hardware:
    """Returns what `--device` and `--dtype` name, or the best that is there.

    Raises:
        UsageError: there is no such device or dtype.
    """
    import torch

    device = spec.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UsageError(f"--device {device!r} is not a device.", hint="For example: cpu, cuda, cuda:1") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            f"--device {device}: no CUDA device is available here.", hint="Try --device cpu, or: vcorr doctor"
        )
    name = torch.cuda.get_device_name(device) if kind == "cuda" else kind
    return Hardware(device, name, _choose_dtype(spec.dtype, kind))


def _choose_dtype(dtype: str, kind: str) -> str:
    if dtype == "auto":
        return "bfloat16" if kind == "cuda" else "float32"
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, ["auto", *DTYPES])
    return dtype
