"""Finds the package tapnet and the weights of TAPNext++. It never downloads anything.

The released weights are pickles. They are read once, tensors alone (`weights_only=True`), and kept as safetensors in
`weights/tapnext` of the home folder of vcorr. Later runs read this file.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import util
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

import vcorr
from vcorr import MissingError, StoreError, UsageError, atomic_file, hash_file, home_folder, read_checkpoint

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


def find_checkpoint(given: str, size: int) -> Path:
    """Returns the path of the checkpoint: the given one, or the released file in one of the usual folders.

    Raises:
        MissingError: there is no such file.
    """
    return vcorr.find_checkpoint(
        given,
        _usual_places(size),
        missing=f"The weights {file_name(size)} of TAPNext++ are not in {_folder()}.",
        how_to_get=how_to_get(size),
    )


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


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Reads the tensors of a checkpoint by name, from the converted file if there is one.

    Raises:
        UsageError: the file holds other objects, or cannot be read.
    """
    if path.suffix == ".safetensors":
        return read_checkpoint(path)
    converted = home_folder() / "weights" / "tapnext" / f"{hash_file(path)}.safetensors"
    with suppress(UsageError):  # not converted yet, or damaged
        return read_checkpoint(converted)
    found = read_checkpoint(path, "state_dict")
    tensors = {name.removeprefix(PREFIX): value for name, value in found.items()}
    _keep(tensors, converted)
    return tensors


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
