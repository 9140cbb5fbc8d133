"""Scores how points move in a generated video, from their tracks alone: no reference is needed. numpy only.

Positions are scaled to a 256x256 frame, and time is counted in frames. So scores of videos of one frame rate compare,
whatever their size. Shapes: N points, T frames, W windows of neighbouring frames. Every query is in frame 0. A score is
NaN, with n = 0, where no point can be judged: the tracker follows none for as many frames as it needs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Score, Tracks
from vcorr.metrics.frame_units import PCK_SIDE, frame_unit

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BORDER = 4.0
"""Pixels of a 256x256 frame: a point that is lost so near to the border of the frame has left it."""
CYCLE_CAP = 16.0
"""Largest cycle error of a point, in pixels of a 256x256 frame: TAP-Vid's largest threshold."""
LEAST_OUTLIER, OUTLIER_FACTOR = 2.0, 5.0
"""An acceleration is an outlier above 2 pixels of a 256x256 frame per frame², and above 5 times the clip's median."""
STRIDE = 4
"""Frames over which the dynamic degree measures a displacement, so that trembling does not count as motion."""


def score_survival(forward: Tracks, size: tuple[int, int]) -> Score:
    """Returns the mean over points of the share of later frames until the tracker loses the point, in [0, 1].

    A point that is seen again was not lost. A point that leaves the frame was not lost either: it survives. It leaves
    if one more step of the last velocity ends outside the frame, or within 4 pixels of its border. More is better; n is
    the number of points that are visible in frame 0. Source: PointOdyssey (arXiv 2307.15055) counts the frames until a
    track fails against its reference; here, the tracker's own loss takes the place of the failure.

    Args:
        forward: tracks of the queries in frame 0.
        size: (height, width) of the video in pixels.
    """
    xy, visible = to_small(forward, size), forward.visible
    frames = visible.shape[1]
    judged = visible[:, 0] & (frames > 1)
    last = frames - 1 - np.argmax(visible[:, ::-1], axis=1)
    shares = np.where(find_leaving(xy, last), 1.0, last / max(frames - 1, 1))
    return mean_score(shares[judged])


def find_leaving(xy: Floats, last: NDArray[np.int64]) -> Bools:
    """Returns which points leave the frame after their last visible frame, (N,).

    Args:
        xy: (N, T, 2) pixels of a 256x256 frame.
        last: (N,), the last frame in which each point is visible.
    """
    rows = np.arange(len(xy))
    here, before = xy[rows, last], xy[rows, np.maximum(last - 1, 0)]
    following = here + (here - before)
    return np.asarray(((following < BORDER) | (following > PCK_SIDE - BORDER)).any(axis=1))


def score_cycle(forward: Tracks, backward: Tracks, size: tuple[int, int]) -> Score:
    """Returns the mean distance between a query and the end of its way there and back, in pixels of a 256x256 frame.

    The way back starts where the point is in the last frame, and ends in frame 0. Only points that are visible in the
    last frame count. A distance is at most 16 pixels; this is also the error of a point that the way back loses. Less
    is better; n is the number of points. Source: forward-backward error, Kalal et al., ICPR 2010.

    Args:
        forward: tracks of the queries in frame 0.
        backward: tracks of the last positions, with their queries in the last frame.
        size: (height, width) of the video in pixels.

    Raises:
        UsageError: the tracks differ in shape.
    """
    if forward.xy.shape != backward.xy.shape:
        raise UsageError(f"The way back has tracks of shape {backward.xy.shape}, the way there {forward.xy.shape}.")
    reached = forward.visible[:, 0] & forward.visible[:, -1]
    gap = (to_small(forward, size) - to_small(backward, size))[reached, 0]
    distance = np.minimum(np.linalg.norm(gap, axis=1), CYCLE_CAP)
    return mean_score(np.where(backward.visible[reached, 0], distance, CYCLE_CAP))


def score_jerk(forward: Tracks, size: tuple[int, int]) -> Score:
    """Returns the mean length of the third difference of positions, in pixels of a 256x256 frame per frame³.

    Less is better; n is the number of windows of four frames in which a point is visible throughout. Motion of constant
    acceleration has none. Source: Flash and Hogan, Journal of Neuroscience 5 (1985), for the squared jerk.
    """
    return mean_score(differences(forward, size, 3))


def score_outliers(forward: Tracks, size: tuple[int, int]) -> Score:
    """Returns the share of accelerations that are outliers, in [0, 1].

    An acceleration is the length of the second difference of positions over three frames in which a point is visible.
    It is an outlier above 2 pixels of a 256x256 frame per frame², and above 5 times the clip's median. The median rises
    where everything shakes, so shaking is seen by the jerk. Less is better; n is the number of accelerations.
    """
    found = differences(forward, size, 2)
    limit = max(LEAST_OUTLIER, OUTLIER_FACTOR * float(np.median(found))) if len(found) else math.nan
    return mean_score((found > limit).astype(np.float64))


def score_dynamics(forward: Tracks, size: tuple[int, int]) -> Score:
    """Returns how much moves: the mean distance over four frames, in pixels of a 256x256 frame per frame.

    It is a guard and no quality: a video in which nothing moves has the best of all other scores. A score that improves
    while this one falls has won nothing. In shorter videos, the distance is over the whole video. n is the number of
    windows in which a point is visible throughout. Source: the idea is dynamic degree of VBench (arXiv 2311.17982),
    which takes the largest optical flow; here it is the motion of tracks.
    """
    xy, visible = to_small(forward, size), forward.visible
    stride = min(STRIDE, visible.shape[1] - 1)
    if stride < 1:
        return mean_score(np.empty(0))
    moved = np.linalg.norm(xy[:, stride:] - xy[:, :-stride], axis=2) / stride
    return mean_score(moved[find_windows(visible, stride + 1)])


def differences(tracks: Tracks, size: tuple[int, int], order: int) -> Floats:
    """Returns the lengths (W,) of differences of positions over order + 1 frames in which a point is visible.

    order: 1 for velocities, 2 for accelerations, 3 for jerks. Unit: pixels of a 256x256 frame per frame^order.
    """
    if tracks.visible.shape[1] <= order:
        return np.empty(0)
    lengths = np.linalg.norm(np.diff(to_small(tracks, size), n=order, axis=1), axis=2)
    return np.asarray(lengths[find_windows(tracks.visible, order + 1)])


def find_windows(visible: Bools, length: int) -> Bools:
    """Returns whether a point is visible in all of the `length` frames that begin at a frame, (N, T - length + 1)."""
    count = visible.shape[1] - length + 1
    return np.asarray(np.logical_and.reduce([visible[:, start : start + count] for start in range(length)]))


def to_small(tracks: Tracks, size: tuple[int, int]) -> Floats:
    """Returns positions (N, T, 2) in pixels of a 256x256 frame. size: (height, width) of the video."""
    height, width = size
    return np.asarray(tracks.xy, dtype=np.float64) / frame_unit(width, height)


def mean_score(values: NDArray[Any]) -> Score:
    """Returns the mean of numbers (P,) as a score of P items; NaN with n = 0 without items."""
    return Score(float(values.mean()) if len(values) else math.nan, len(values))
