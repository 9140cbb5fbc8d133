"""Stores layer maps (T, H, W) uint8 bit for bit, and hashes them.

A map is stored like a video, as grey frames whose three channels are equal: the same code writes and checks both, and
any player shows it. FFV1 stores equal channels as one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import StoreError, UsageError
from vcorr.data.video.lossless import pixels_hash, read_lossless, write_lossless


def layers_hash(layers: NDArray[np.uint8]) -> str:
    """Returns the hex SHA-256 of a layer map (T, H, W) uint8: of its shape, written "T,H,W", and its bytes.

    Raises:
        UsageError: the array is no such map.
    """
    if layers.ndim != 3 or layers.dtype != np.uint8 or not layers.size:
        raise UsageError(f"A layer map is a uint8 array of shape (T, H, W), got {layers.dtype} {layers.shape}.")
    return pixels_hash(layers)


def write_layers(path: Path, layers: NDArray[np.uint8], fps: float) -> str:
    """Writes a layer map (T, H, W) uint8 so that `read_layers` returns the same bytes. Atomic.

    Returns:
        Its `layers_hash`.

    Raises:
        UsageError: the array is no such map, has fewer than 2 pixels on a side, or the frame rate is not positive.
        StoreError: the file cannot be written, or reading it back gives another map.
    """
    digest = layers_hash(layers)
    write_lossless(path, np.repeat(layers[..., None], 3, axis=-1), fps)
    return digest


def read_layers(path: Path, sha256: str = "") -> NDArray[np.uint8]:
    """Reads a layer map (T, H, W) uint8 that `write_layers` wrote.

    Raises:
        StoreError: the file is missing or damaged, holds a video in colour, or its `layers_hash` differs from `sha256`
            (where given).
    """
    frames = read_lossless(path)
    layers = np.ascontiguousarray(frames[..., 0])
    if (frames != layers[..., None]).any():
        raise StoreError(
            f"{path} holds a video in colour, not a layer map: grey frames whose pixels are the layers.",
            hint="Write maps with vcorr.data.video.write_layers.",
        )
    if sha256 and layers_hash(layers) != sha256:
        raise StoreError(
            f"{path} does not hold the layer map that was written (its hash is another).",
            hint="Get that file again, or repeat the command that made it.",
        )
    return layers
