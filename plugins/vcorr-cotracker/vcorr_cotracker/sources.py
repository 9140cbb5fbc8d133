"""Finds the package cotracker and its weights. It never downloads anything."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any

import torch

import vcorr
from vcorr import MissingError, identify_network

REVISION = "82e02e8029753ad4ef13cf06be7f4fc5facdda4d"
"""The commit of CoTracker's repository for whose interface this plugin was written."""
REPOSITORY = "https://github.com/facebookresearch/co-tracker"
HUB_REPOSITORY = "facebook/cotracker3"
HUB_CHECKOUT = "facebookresearch_co-tracker_main"
"""Folder with CoTracker's code, inside the folder of torch.hub, after a call of torch.hub.load."""


def predictor_module(file_name: str) -> Any:
    """Imports `cotracker.predictor`, from the installed package or from torch.hub's download.

    The import seeds torch's generators, so this function restores their state. file_name: file of the weights, for the
    message.

    Raises:
        MissingError: there is neither.
    """
    with _importable(file_name), keep_generators():
        return importlib.import_module("cotracker.predictor")


def check_package(file_name: str) -> None:
    """Raises MissingError, with the commands to install it, unless cotracker can be imported."""
    with _importable(file_name):
        pass


def identify(checkpoint: Path, device: torch.device) -> dict[str, str]:
    """Returns checkpoint, package and device as `vcorr.identify_network`; "torch.hub" for torch.hub's download."""
    otherwise = "torch.hub" if _comes_from_hub() else "unknown"
    return identify_network(checkpoint, "cotracker", device, otherwise=otherwise)


def _comes_from_hub() -> bool:
    """Returns whether cotracker comes from torch.hub; the result is the same before and after the import."""
    imported = sys.modules.get("cotracker")
    if imported is None:
        return util.find_spec("cotracker") is None
    checkout = Path(torch.hub.get_dir()) / HUB_CHECKOUT
    return any(Path(place).resolve().is_relative_to(checkout.resolve()) for place in imported.__path__)


def find_checkpoint(given: str, file_name: str) -> Path:
    """Returns the path of the checkpoint: the given one, or the file in Hugging Face's cache or in torch.hub's.

    Raises:
        MissingError: there is no such file.
    """
    return vcorr.find_checkpoint(
        given,
        _find_in_caches(file_name),
        missing=f"CoTracker's weights {file_name} are neither in Hugging Face's cache nor in torch.hub's.",
        how_to_get=how_to_get(file_name),
    )


def how_to_get(file_name: str) -> str:
    """Returns the commands that get the package and the weights."""
    return (
        f"CoTracker (CC-BY-NC-4.0) is not on PyPI. Get it and its weights:\n"
        f"  pip install git+{REPOSITORY}@{REVISION}\n"
        f"  hf download {HUB_REPOSITORY} {file_name}"
    )


@contextmanager
def keep_generators() -> Iterator[None]:
    """Restores torch's random state after the block, so that loading a tracker does not change what a model samples."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def _importable(file_name: str) -> Iterator[None]:
    """Makes `import cotracker` possible inside the block.

    Raises:
        MissingError: the package is neither installed nor in torch.hub.
    """
    if "cotracker" in sys.modules or util.find_spec("cotracker") is not None:
        yield
        return
    checkout = Path(torch.hub.get_dir()) / HUB_CHECKOUT
    if not (checkout / "cotracker").is_dir():
        raise MissingError("The package cotracker is not installed.", hint=how_to_get(file_name))
    sys.path.insert(0, str(checkout))
    try:
        yield
    finally:
        sys.path.remove(str(checkout))


def _find_in_caches(file_name: str) -> Iterator[Path]:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(HUB_REPOSITORY, file_name)
    if isinstance(found, str):
        yield Path(found)
    yield Path(torch.hub.get_dir()) / "checkpoints" / file_name
