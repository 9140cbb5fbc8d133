"""Keeps latents of videos in files between runs (`keep_latents`): `latents/KEY.safetensors` below `home_folder()`.

A key is a hash of all that decides the values: the weights, the settings and dtype of the autoencoder, the device, the
packages, and the pixels. The file holds these facts too. The files that were used last stay, up to a size.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vcorr.store.atomic_files import atomic_file, cannot_write, make_folder, remove_temporaries

MOST_BYTES = 20 * 2**30
"""Size of all files: 9,500 clips of CogVideoX's 13 x 16 x 60 x 90 in bfloat16. Older ones are deleted."""
_PACKAGES = ("vcorr", "torch", "diffusers")
_SUFFIX = ".safetensors"


class LatentFiles:
    """A folder of latents. facts: what decides the values besides the autoencoder's state and the video."""

    def __init__(self, folder: Path, facts: Mapping[str, Any], most_bytes: int = MOST_BYTES) -> None:
        versions = {name: metadata.version(name) for name in _PACKAGES}
        self._folder, self._facts, self._most_bytes = folder, {**facts, "versions": versions}, most_bytes

    def read(self, facts: Mapping[str, Any], device: str) -> Tensor | None:
        """Returns the latents of these facts on a device; None if there is no whole file of them."""
        from safetensors import SafetensorError, safe_open

        path = self._path(facts)
        try:
            with safe_open(path, framework="pt") as file:
                stored, tensor = file.metadata(), file.get_tensor("latents")
            if stored["facts"] != self._text(facts) or stored["hash"] != _hash(tensor):
                return None
            axes = json.loads(stored["axes"])
            if sorted(axes) != list(range(tensor.ndim)):
                return None
            latents: Tensor = tensor.to(device).permute([axes.index(axis) for axis in range(tensor.ndim)])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, AttributeError):
            return None
        with contextlib.suppress(OSError):  # the folder may be of another user
            os.utime(path)  # the files used last stay
        return latents

    def write(self, facts: Mapping[str, Any], latents: Tensor) -> None:
        """Stores latents, and deletes the files that were not used for longest beyond the size.

        Raises:
            StoreError: the file cannot be written.
        """
        from safetensors.torch import save

        make_folder(self._folder)
        path = self._path(facts)
        # in the order in which they are in memory, which can decide how a kernel rounds
        axes = sorted(range(latents.ndim), key=latents.stride, reverse=True)
        stored = latents.detach().cpu().permute(axes).contiguous()
        about = {"facts": self._text(facts), "axes": json.dumps(axes), "hash": _hash(stored)}
        with atomic_file(path) as temporary:
            Path(temporary).write_bytes(save({"latents": stored}, about))
        remove_temporaries(self._folder)
        self._trim()

    def _trim(self) -> None:
        try:
            found = sorted(self._stats(), key=lambda one: one[1].st_mtime_ns)
            total = sum(stat.st_size for _, stat in found)
            for path, stat in found[:-1]:
                if total <= self._most_bytes:
                    break
                path.unlink(missing_ok=True)
                total -= stat.st_size
        except OSError as error:
            raise cannot_write(self._folder, error) from error

    def _stats(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):  # another process has deleted it
                found.append((path, path.stat()))
        return found

    def _text(self, facts: Mapping[str, Any]) -> str:
        return json.dumps({**self._facts, **facts}, sort_keys=True, default=str)

    def _path(self, facts: Mapping[str, Any]) -> Path:
        return self._folder / f"{hashlib.blake2b(self._text(facts).encode(), digest_size=20).hexdigest()}{_SUFFIX}"


def _hash(tensor: Tensor) -> str:
    """Returns a hash of the bytes of a contiguous tensor on the CPU."""
    return hashlib.blake2b(tensor.reshape(-1).view(torch.uint8).numpy().data, digest_size=16).hexdigest()


@functools.cache
def hash_code(package: str) -> str | None:
    """Returns a hash of the source of a package that is imported; None if it has no files, as in a notebook."""
    file = getattr(sys.modules.get(package), "__file__", None)
    if file is None or package == "__main__":
        return None
    path, digest = Path(file), hashlib.blake2b(digest_size=16)
    for each in sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]:
        digest.update(each.read_bytes())
    return digest.hexdigest()


def device_facts(device: str) -> str:
    """Returns the kind of a device, since kernels of other devices round in other ways."""
    kind = torch.device(device)
    return torch.cuda.get_device_name(kind) if kind.type == "cuda" else kind.type
