"""Reads photographs and the stereo pair from the files of scikit-image; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vcorr import MissingError
from vcorr_tiny.photos.photographs import Photograph, photographs_of, pixels_hash

if TYPE_CHECKING:
    from vcorr_tiny.sprites.pictures import Pictures


@lru_cache(maxsize=8)
def pictures_of(split: str, device: str = "cpu") -> Pictures:
    """Reads the bank of the photographs of ``split``; the same object is returned for the same arguments.

    Raises:
        UsageError: there is no such split.
        MissingError: scikit-image is not installed, or a file is missing or has other pixels than the listed ones.
    """
    import torch

    from vcorr_tiny.sprites.pictures import Pictures

    images = {photograph.name: torch.from_numpy(read(photograph)) for photograph in photographs_of(split)}
    return Pictures(images, split, device)


def read(photograph: Photograph) -> np.ndarray:
    """Reads a photograph as RGB, (H, W, 3) uint8; grey ones have three equal channels.

    Raises:
        MissingError: scikit-image is not installed, or the file is missing or has other pixels than the listed ones.
    """
    return read_rgb(photograph.file, photograph.sha256, photograph.box)


def read_rgb(file: str, sha256: str, box: tuple[int, int, int, int] | None = None) -> np.ndarray:
    """Reads ``file`` of scikit-image as RGB, cut to ``box``, and compares its pixels with their hash.

    Raises:
        MissingError: scikit-image is not installed, or the file is missing or has other pixels.
    """
    path = data_file(file)  # first, because pillow comes with scikit-image
    from PIL import Image

    with refuse_damage(path), Image.open(path) as image:
        pixels = np.array((image if box is None else image.crop(box)).convert("RGB"))
    check_pixels(pixels, sha256, path)
    return pixels


def data_file(file: str) -> Path:
    """Returns the path of ``file`` in the data folder of scikit-image.

    Raises:
        MissingError: scikit-image is not installed, or has no such file.
    """
    try:
        found = find_spec("skimage")
    except (ImportError, ValueError):  # a finder that hides the package, or a module without a spec in its place
        found = None
    if found is None or not found.submodule_search_locations:
        raise MissingError(
            "The photographs need the package scikit-image, which is not installed.",
            hint='pip install "vcorr-tiny[photos]"',
        )
    path = Path(next(iter(found.submodule_search_locations))) / "data" / file
    if not path.is_file():
        raise MissingError(f"scikit-image has no file {path}.", hint=_REINSTALL)
    return path


@contextmanager
def refuse_damage(path: Path) -> Iterator[None]:
    """Turns whatever a decoder raises inside the context into one error that names the file.

    Raises:
        MissingError: the file at ``path`` could not be read.
    """
    try:
        yield
    except Exception as error:  # a decoder may raise nearly anything on damaged bytes
        raise MissingError(f"{path} cannot be read: {error}", hint=_REINSTALL) from error


def check_pixels(values: np.ndarray, sha256: str, path: Path) -> None:
    """Compares the values of an array that was read from ``path`` with their listed hash.

    Raises:
        MissingError: they differ.
    """
    if pixels_hash(values.tobytes(), values.shape) != sha256:
        raise MissingError(f"{path} is not the file that vcorr-tiny lists: its values differ.", hint=_REINSTALL)


_REINSTALL = "Install the tested version again: pip install --force-reinstall --no-deps scikit-image==0.26.0"
