"""Scores how far the look of a generated video drifts from its first frame, by a descriptor of whole frames.

The descriptor may come from a backbone. The plain one here needs no weights: it counts colours and directions of edges,
wherever they are in the frame, so it does not see where things are. Shapes: T frames, D numbers per descriptor.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Score

Floats = NDArray[np.float64]

COLOUR_BINS, EDGE_BINS = 4, 8
"""Bins per channel of the counted colours, and of the directions of edges."""


def score_drift(descriptors: ArrayLike) -> Score:
    """Returns the mean over later frames of 1 minus the cosine between descriptors, in [0, 2].

    The cosine is the mean of two: with frame 0, and with the frame before. Less is better; n is the number of later
    frames. NaN, with n = 0, for a video of one frame. Source: subject consistency of VBench (arXiv 2311.17982), which
    takes features of DINO and reports the cosine.

    Args:
        descriptors: (T, D).

    Raises:
        UsageError: the shape is another one, or a descriptor is zero or not finite.
    """
    values = np.asarray(descriptors, dtype=np.float64)
    lengths = np.linalg.norm(values, axis=-1, keepdims=True) if values.ndim == 2 else np.zeros(1)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise UsageError(f"descriptors must be (T, D), finite and not zero; got the shape {values.shape}.")
    units = values / lengths
    first, before = units[1:] @ units[0], (units[1:] * units[:-1]).sum(axis=1)
    drift = 1 - (first + before) / 2
    return Score(float(np.maximum(drift, 0).mean()) if len(drift) else math.nan, len(drift))


def describe_plainly(video: NDArray[np.uint8]) -> Floats:
    """Returns square roots of the shares of colours and of edges of every frame, (T, 72), for a video (T, H, W, 3).

    64 colours, and 8 directions of edges weighted by their strength. A cosine of such descriptors is the mean of two
    Bhattacharyya coefficients, one of colours and one of edges.
    """
    return np.stack([np.sqrt(np.concatenate([count_colours(frame), count_edges(frame)])) for frame in video])


def count_colours(frame: NDArray[np.uint8]) -> Floats:
    """Returns the share of each of 4 x 4 x 4 colours in a frame (H, W, 3), (64,)."""
    level = (frame.astype(np.int64) * COLOUR_BINS) // 256
    index = (level[..., 0] * COLOUR_BINS + level[..., 1]) * COLOUR_BINS + level[..., 2]
    return np.bincount(index.ravel(), minlength=COLOUR_BINS**3) / index.size


def count_edges(frame: NDArray[np.uint8]) -> Floats:
    """Returns the share of edge strength in each of 8 directions, (8,); equal shares where there is no edge."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    x, y = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    turn = np.arctan2(y, x) / (2 * math.pi) + 0.5
    index = np.minimum((turn * EDGE_BINS).astype(np.int64), EDGE_BINS - 1)
    strength = np.bincount(index.ravel(), weights=np.hypot(x, y).ravel(), minlength=EDGE_BINS)
    total = strength.sum()
    return strength / total if total > 0 else np.full(EDGE_BINS, 1 / EDGE_BINS)
