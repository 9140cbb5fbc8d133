"""Chooses the device and the dtype of a run, and names the device for the fingerprint and the record."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.runner.devices import check_workers, read_device_list, share_devices, share_passes_on
from vcorr.runner.gaps import Gaps
from vcorr.runner.shared_passes import read_ranks
from vcorr.runner.spec import RunSpec

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Hardware:
    """device: as torch names it, e.g. "cuda:1". name: the product or kind, e.g. "NVIDIA H200". dtype: of the model.

    shared: the devices whose processes share the clips, one item per process; empty if one process works alone.
    In one process of several, its own device as the user knows it. ranks: number of processes that share each pass
    of the model (`--parallel`); they are then the processes of `shared`.
    """

    device: str
    name: str
    dtype: str
    shared: tuple[str, ...] = ()
    ranks: int = 1

    @property
    def label(self) -> str:
        """The device as the user knows it. A process of several sees its own GPU alone, as "cuda"."""
        return self.shared[0] if len(self.shared) == 1 else self.device


def choose_hardware(spec: RunSpec, gaps: Gaps) -> Hardware:
    """Returns the devices and the dtype that `--device` and `--dtype` name, or the best ones here for "auto".

    A device that is not here is a gap; its name is then the word that the user typed.

    Raises:
        UsageError: there is no such device or dtype, or `--workers` or `--parallel` does not fit the devices.
    """
    ranks = read_ranks(spec.parallel)
    automatic = spec.device == "auto"
    text = _choose_device() if automatic else spec.device
    listed = read_device_list(text)
    if text == "cpu":  # needs no torch, whose import takes longer than all else that a finished run needs
        dtype = _choose_dtype(spec.dtype, text)
        return Hardware(text, text, dtype, _share(spec, listed, automatic=automatic), ranks)
    found = [_parse_device(device) for device in listed]
    dtype = _choose_dtype(spec.dtype, found[0][0].type)
    for device, (named, count) in zip(listed, found, strict=True):
        if (named.index or 0) >= count:
            gaps.add("device", _absent(device, named.type, count))
            return Hardware(device, device, dtype, ranks=ranks)
    shared = _share(spec, listed, automatic=automatic)
    return Hardware(listed[0], _name_device(listed, found[0][0]), dtype, shared, ranks)


def _share(spec: RunSpec, listed: Sequence[str], *, automatic: bool) -> tuple[str, ...]:
    """Returns the devices of this machine that share the clips; none for one process.

    Processes of a cluster have devices of their own, so `--workers` may then be more than this machine has.

    Raises:
        UsageError: `--workers` or `--parallel` does not fit the devices.
    """
    if spec.parallel is not None:
        return share_passes_on(listed, read_ranks(spec.parallel), automatic=automatic)
    if spec.executor != RunSpec.executor:
        check_workers(spec.workers)
        return ()
    shared = share_devices(listed, spec.workers, automatic=automatic)
    return shared if len(shared) > 1 else ()


def _name_device(listed: Sequence[str], first: torch.device) -> str:
    """Returns the product of the devices, or the kind of a device that has no product.

    Raises:
        UsageError: they are of several products, which may give other last digits.
    """
    import torch

    if first.type != "cuda":
        return first.type
    names = {torch.cuda.get_device_name(device): device for device in listed}
    if len(names) > 1:
        found = " and ".join(f"{device} is {name}" for name, device in names.items())
        raise UsageError(
            f"--device {','.join(listed)}: {found}, and one run has one kind of device.",
            hint="Name devices of one kind; vcorr doctor lists them.",
        )
    return next(iter(names))


def _lacks_cuda() -> bool:
    """Returns whether torch is installed without CUDA, as its own version file says; False if that is not known."""
    if "torch" in sys.modules:
        return False  # it can say so itself
    found = importlib.util.find_spec("torch")
    version = Path(found.origin).with_name("version.py") if found and found.origin else None
    if version is None or not version.is_file():
        return False
    said = runpy.run_path(str(version))
    return all(said.get(name, "unknown") is None for name in ("cuda", "hip"))


def _choose_device() -> str:
    """Returns the device of `--device auto`."""
    if _lacks_cuda():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


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
