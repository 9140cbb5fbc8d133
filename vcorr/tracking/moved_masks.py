"""Moves a mask with points that a tracker follows: the baseline of label propagation, and its floor without motion.

Points on a regular grid over the frame of the mask carry the label of their pixel. In another frame, every pixel has
the label of the nearest point that is visible there. Points of the background are followed as well.

Shape legend: N points, T frames, H x W pixels.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.protocols import Tracker
from vcorr.contract.records import Queries, Tracks

MOST_POINTS = 1 << 14
"""Points that are followed at most; in larger frames they are some pixels apart."""


def move_masks(tracker: Tracker, video: NDArray[np.uint8], labels: NDArray[Any], frame: int = 0) -> NDArray[Any]:
    """Returns the labels (T, H, W) of all frames of a video, from the labels of one frame.

    Args:
        tracker: follows the points, before and after their frame.
        video: (T, H, W, 3) uint8.
        labels: (H, W), of the frame `frame`.
        frame: number of that frame.

    Raises:
        UsageError: the labels have another size, or there is no such frame.
    """
    check_mask(video, labels, frame)
    points = spread_points(*labels.shape)
    columns, rows = points.astype(np.intp).T
    tracks = tracker.track(video, Queries.at(points, frame))
    moved = paint_labels(tracks, labels[rows, columns], *labels.shape)
    moved[frame] = labels
    return moved


def check_mask(video: NDArray[np.uint8], labels: NDArray[Any], frame: int) -> None:
    """Checks that `labels` (H, W) fit the frame `frame` of a video; raises UsageError if not."""
    if not 0 <= frame < len(video):
        raise UsageError(f"The mask belongs to frame {frame}; the video has frames 0 to {len(video) - 1}.")
    if labels.shape != video.shape[1:3]:
        raise UsageError(f"The mask has shape {labels.shape}, the frames of its video {video.shape[1:3]}.")


def spread_points(height: int, width: int) -> NDArray[np.float32]:
    """Returns pixel centres (N, 2) on a regular grid: every pixel, or as many as `MOST_POINTS` allows."""
    step = math.ceil(math.sqrt(height * width / MOST_POINTS))
    y, x = np.meshgrid(np.arange(step // 2, height, step), np.arange(step // 2, width, step), indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32) + 0.5


def paint_labels(tracks: Tracks, labels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """Returns at each pixel the label of the nearest visible point, (T, H, W); 0 in frames without one.

    labels: (N,), of the points. Of points in one pixel, the last one counts.
    """
    out = np.zeros((tracks.xy.shape[1], height, width), dtype=labels.dtype)
    for t in range(len(out)):
        pixels = np.floor(tracks.xy[:, t]).astype(np.int64)
        seen = tracks.visible[:, t] & ((pixels >= 0) & (pixels < [width, height])).all(axis=1)
        if seen.any():
            out[t] = _paint(pixels[seen], labels[seen], height, width)
    return out


def _paint(pixels: NDArray[np.int64], labels: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    own = np.zeros((height, width), dtype=labels.dtype)
    empty = np.ones((height, width), dtype=np.uint8)
    columns, rows = pixels.T
    own[rows, columns], empty[rows, columns] = labels, 0
    _, nearest = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    of_region = np.zeros(int(nearest.max()) + 1, dtype=labels.dtype)
    of_region[nearest[rows, columns]] = own[rows, columns]
    return np.asarray(of_region[nearest])
