"""Brings a clip to the size that a model reads: resizes and cuts its video, queries, tracks and layer map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import Clip, Queries, Tracks
from vcorr.data.video_sizes import resize_video

RESIZE = "area when smaller, bicubic when larger"
"""The resize filters; they are part of the fingerprint of predictions."""


def fit_clip(clip: Clip, grid: TokenGrid) -> Clip:
    """Returns the clip at the grid's height, width and number of frames; the same object if it has that size already.

    Queries and tracks are scaled with the pixels. Each pixel of the layer map gets the layer at its centre; the layer
    of a point stays. Frames after the last one of the grid are cut off.

    Raises:
        UsageError: the clip has no video, fewer frames than the grid, or a query in a frame that would be cut off.
    """
    if clip.video is None:
        raise UsageError(f"Clip {clip.id} has no video, which this mode needs.")
    frames, height, width = clip.video.shape[:3]
    target = (grid.video_frames, round(grid.height), round(grid.width))
    if frames < target[0]:
        raise UsageError(f"Clip {clip.id} has {frames} frames; the model reads {target[0]}.")
    check_queries_kept(clip, target[0])
    if (frames, height, width) == target:
        return clip
    scale = np.array([target[2] / width, target[1] / height], dtype=np.float32)
    tracks = None if clip.tracks is None else _fit_tracks(clip.tracks, target[0], scale)
    video = resize_video(clip.video[: target[0]], target[1], target[2])
    layers = None if clip.layers is None else _resize_layers(clip.layers[: target[0]], target[1], target[2])
    queries = Queries(clip.queries.t, clip.queries.xy * scale)
    return replace(clip, video=video, queries=queries, tracks=tracks, layers=layers)


def check_queries_kept(clip: Clip, frames: int) -> None:
    """Checks that every query is in one of the first `frames` frames, the only ones that a model reads.

    Raises:
        UsageError: a query is in a later frame.
    """
    late = clip.queries.t[clip.queries.t >= frames]
    if len(late):
        raise UsageError(
            f"Clip {clip.id}: the model reads the first {frames} frames, and {len(late)} of {len(clip.queries)} "
            f"queries are in later ones, the first in frame {late[0]} (counted from 0).",
            hint="Choose queries in the frames that are read, or a size of the model with more frames.",
        )


def _fit_tracks(tracks: Tracks, frames: int, scale: NDArray[np.float32]) -> Tracks:
    # a boundary distance has no direction, so it is scaled by the geometric mean of the scales of x and y
    boundary = None if tracks.boundary is None else tracks.boundary * np.sqrt(scale.prod())
    return replace(tracks, xy=tracks.xy[:, :frames] * scale, visible=tracks.visible[:, :frames], boundary=boundary)


def _resize_layers(layers: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Returns a layer map (T, H, W) uint8 resized to (T, height, width): the layer at the centre of each new pixel."""
    rows, columns = (
        np.floor((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for new, old in zip((height, width), layers.shape[1:], strict=True)
    )
    return layers[:, rows[:, None], columns]
