"""What plugins of learned trackers share: their device, their checkpoint, and what identifies both.

Nothing here downloads anything. Options are named as in `--set tracker.device=` and `--set tracker.checkpoint=`.
"""

from __future__ import annotations

import json
import os
import pickle
import warnings
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vcorr.contract.errors import MissingError, UsageError
from vcorr.store.fingerprint import hash_file

_CUDA, _CPU = "cuda", "cpu"


def choose_tracker_device(name: str) -> torch.device:
    """Returns the device that the option `device` of a tracker names; "auto" is the first GPU, or else the CPU.

    Raises:
        UsageError: there is no such device.
    """
    if name == "auto":
        name = _CUDA if torch.cuda.is_available() else _CPU
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"tracker.device: {name!r} is not a device.", hint="For example: cpu, cuda:1") from error
    if device.type == _CUDA and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"tracker.device: there is no {name} here.", hint="Try --set tracker.device=cpu")
    return device


def find_checkpoint(given: str, usual: Iterable[Path], *, missing: str, how_to_get: str) -> Path:
    """Returns the path of a tracker's checkpoint: the one that is given, or the first that exists of the usual ones.

    Args:
        given: value of the option `checkpoint`; "" for a usual place.
        usual: where the released file is usually kept.
        missing: the message if there is none.
        how_to_get: the commands that get it, for the hint.

    Raises:
        MissingError: there is no such file.
    """
    if given:
        path = Path(os.path.expanduser(given))
        if not path.is_file():
            raise MissingError(f"tracker.checkpoint: there is no file {path}.", hint=how_to_get)
        return path
    found = next((path for path in usual if path.is_file()), None)
    if found is None:
        raise MissingError(missing, hint=how_to_get)
    return found


def read_checkpoint(path: Path, inside: str = "") -> Mapping[str, Tensor]:
    """Reads the tensors of a checkpoint by name. Pickled files may hold only tensors and plain containers.

    inside: the key under which a pickled file may hold the tensors; they may lie at its top as well.

    Raises:
        UsageError: the file holds other objects, or cannot be read.
    """
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _read_pickle(path)
    except (SafetensorError, RuntimeError, ValueError, OSError, EOFError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"tracker.checkpoint: {path} cannot be read as weights: {reason}") from error
    tensors = state.get(inside, state) if isinstance(state, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UsageError(f"tracker.checkpoint: {path} does not hold a dictionary of tensors.")
    return tensors


def identify_network(
    checkpoint: Path, package: str, device: torch.device, *, otherwise: str = "unknown"
) -> dict[str, str]:
    """Returns what the tracks of a network depend on, in addition to its options (`vcorr.TrackerBase.identity`).

    These are the SHA-256 of the checkpoint, the version of the package, with its commit if pip knows it, and the type
    of the device. otherwise: in place of the version if pip does not know the package.
    """
    return {
        "checkpoint": f"sha256:{hash_file(checkpoint)}",
        "package": _find_version(package, otherwise),
        "device": device.type,
    }


def repeat_exactly() -> AbstractContextManager[Any]:
    """Makes tracks repeatable: cuDNN then chooses its algorithms deterministically, not by measured speed."""
    flags: AbstractContextManager[Any] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags


def check_finite(name: str, *found: Tensor | NDArray[Any]) -> None:
    """Checks what the network of a tracker predicted. name: of the tracker.

    Raises:
        UsageError: a value is NaN or infinite.
    """
    if not all(bool(torch.isfinite(torch.as_tensor(values)).all()) for values in found):
        raise UsageError(f"{name} predicted NaN or infinity.", hint="Check the weights of tracker.checkpoint.")


def _find_version(package: str, otherwise: str) -> str:
    try:
        found = metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return otherwise
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id", "")
    return f"{found.version}+{commit}" if commit else found.version


def _read_pickle(path: Path) -> Any:
    """Reads what torch.save wrote, if it is tensors and plain containers alone."""
    try:
        with warnings.catch_warnings():  # torch warns about files that are refused below
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message would say how to load it without this check
        raise UsageError(
            f"tracker.checkpoint: {path} cannot be read as weights: it is not a checkpoint, or it holds objects other "
            "than tensors. These are never loaded, because reading them can run code.",
            hint="Download the weights again from their source, or save them as .safetensors.",
        ) from error
