"""Finds the package tapnet and the weights of TAPNext++. It never downloads anything.

The released weights are pickles. They are read once, tensors alone (`weights_only=True`), and kept as safetensors in
`weights/tapnext` of the home folder of vcorr. Later runs read this file.
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata, util
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vcorr import MissingError, StoreError, UsageError, atomic_file, hash_file, home_folder

REVISION = "c2cbab81cc06092b5f05bfe2da7bfec54e2079c9"
"""The commit of the repository of tapnet for whose interface this plugin was written."""
REPOSITORY = "https://github.com/google-deepmind/tapnet"
MODULE = "tapnet.tapnext.tapnext_torch"
WEIGHTS = {
    256: "https://storage.googleapis.com/dm-tapnet/tapnextpp/tapnextpp_ckpt.pt",
    512: "https://storage.googleapis.com/gresearch/tapnextpp/tapnextpp_512.ckpt",
}
"""Addresses of the released weights, by the size of frames."""
PREFIX = "tapnext."
"""Beginning of the names of tensors in checkpoints of the authors' training."""


def network_type(size: int) -> Any:
    """Imports the class of the network.

    size: size of frames, for the message.

    Raises:
        MissingError: tapnet or a package that it needs cannot be imported.
    """
    check_package(size)
    try:
        return importlib.import_module(MODULE).TAPNext
    except (ImportError, AttributeError, RuntimeError) as error:  # torchvision for another torch is a RuntimeError
        reason = " ".join(str(error).split())
        raise MissingError(f"{MODULE} cannot be imported: {reason}", hint=how_to_get(size)) from error


def check_package(size: int) -> None:
    """Raises MissingError, with the commands to install it, unless tapnet is there."""
    if util.find_spec("tapnet") is None:
        raise MissingError("The package tapnet is not installed.", hint=how_to_get(size))


def package_version() -> str:
    """Returns version and, if pip knows it, commit of the installed package; "unknown" if pip does not know it."""
    try:
        found = metadata.distribution("tapnet")
    except metadata.PackageNotFoundError:
        return "unknown"
    origin = json.loads(found.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id", "")
    return f"{found.version}+{commit}" if commit else found.version


def find_checkpoint(given: str, size: int) -> Path:
    """Returns the path of the checkpoint: the given one, or the released file in one of the usual folders.

    Raises:
        MissingError: there is no such file.
    """
    if given:
        path = Path(os.path.expanduser(given))
        if not path.is_file():
            raise MissingError(f"tracker.checkpoint: there is no file {path}.", hint=how_to_get(size))
        return path
    found = next((path for path in _usual_places(size) if path.is_file()), None)
    if found is None:
        name = file_name(size)
        raise MissingError(f"The weights {name} of TAPNext++ are not in {_folder()}.", hint=how_to_get(size))
    return found


def file_name(size: int) -> str:
    """Returns the name of the released file of weights."""
    return WEIGHTS[size].rpartition("/")[2]


def how_to_get(size: int) -> str:
    """Returns the commands that get the package and the weights."""
    return (
        "TAPNext++ (Apache-2.0) is not on PyPI. Get it, the two packages that it needs, and its weights:\n"
        f'  pip install --no-deps "git+{REPOSITORY}@{REVISION}"\n'
        "  pip install einops torchvision\n"
        f"  wget -P {_folder()} {WEIGHTS[size]}"
    )


def hash_of(path: Path) -> str:
    """Returns the SHA-256 of a file, which identifies weights whatever their path."""
    return f"sha256:{hash_file(path)}"


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Reads the tensors of a checkpoint by name, from the converted file if there is one.

    Raises:
        UsageError: the file holds other objects, or cannot be read.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    converted = home_folder() / "weights" / "tapnext" / f"{hash_file(path)}.safetensors"
    with suppress(UsageError):  # not converted yet, or damaged
        return _read_safetensors(converted)
    tensors = _read_pickle(path)
    _keep(tensors, converted)
    return tensors


def _read_safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        tensors: Mapping[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    return tensors


def _read_pickle(path: Path) -> Mapping[str, Tensor]:
    """Reads tensors, and nothing else, from a file of torch.save; the prefix of the authors' training is left out."""
    try:
        with warnings.catch_warnings():  # torch warns about files that are refused below
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message would say how to load it without this check
        raise UsageError(
            f"tracker.checkpoint: {path} cannot be read as weights: it is not a checkpoint, or it holds objects other "
            "than tensors. These are never loaded, because reading them can run code.",
            hint="Download the weights again from their source, or save them as .safetensors.",
        ) from error
    except (RuntimeError, ValueError, OSError, EOFError) as error:
        raise _unreadable(path, error) from error
    tensors = state.get("state_dict", state) if isinstance(state, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UsageError(f"tracker.checkpoint: {path} does not hold a dictionary of tensors.")
    return {name.removeprefix(PREFIX): value for name, value in tensors.items()}


def _unreadable(path: Path, error: Exception) -> UsageError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UsageError(f"tracker.checkpoint: {path} cannot be read as weights: {reason}")


def _keep(tensors: Mapping[str, Tensor], target: Path) -> None:
    """Writes the converted file. Where it cannot be written, the next run reads the released file again."""
    with suppress(OSError, StoreError, SafetensorError, RuntimeError):
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as temporary:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)


def _folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _usual_places(size: int) -> Iterator[Path]:
    yield _folder() / file_name(size)
    yield Path.home() / ".cache" / "tapnextpp" / file_name(size)
