"""Hashes the content of a clip (column `data_hash`). Only rows with the same hash are compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip, RunSettings

LENGTH = 16
"""Hexadecimal characters of a hash: 64 bits are enough to distinguish clips, and every row stores them."""


def hash_of_video(clip: Clip, masks: NDArray[np.uint8] | None = None) -> str:
    """Returns the hash of a clip that a model reads: its video, queries and own tracks, as the dataset gives them.

    Where the layers of the points, or a layer map, are known, they follow. Other clips keep the hash that they had
    before layers could be known. masks: the labels of its frames, where masks are measured.
    """
    tracks = () if clip.tracks is None else (clip.tracks.xy, clip.tracks.visible)
    labels = () if masks is None else ("masks", masks)
    return _hash("video", clip.video, clip.queries.t, clip.queries.xy, *tracks, *_layers(clip), *labels)


def hash_of_prompt(clip: Clip, settings: RunSettings, grid: TokenGrid) -> str:
    """Returns the hash of a clip that a model generates: prompt, seed, size, first frame if any, and queries."""
    size = (grid.video_frames, grid.height, grid.width)
    image = None if clip.video is None else clip.video[:1]
    return _hash("prompt", clip.prompt, settings.seed, size, image, clip.queries.t, clip.queries.xy)


def hash_of_tracks(row: Mapping[str, Any]) -> str:
    """Returns the hash of one row of a tracks table: of its video, by the hash in the row, its queries and tracks."""
    return _hash(
        "tracks", row["video"], *(np.asarray(row[name]) for name in ("query_frames", "queries", "xy", "visible"))
    )


def _layers(clip: Clip) -> Iterator[Any]:
    """Yields the parts of a clip's hash that say its layers."""
    if clip.tracks is not None and clip.tracks.layer is not None:
        yield from ("layer", clip.tracks.layer.astype(np.int32))
    if clip.layers is not None:
        yield from ("layers", clip.layers)


def _hash(*parts: Any) -> str:
    """Hashes arrays by type, shape and bytes, and plain values as JSON."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        else:
            digest.update(json.dumps(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()[:LENGTH]
