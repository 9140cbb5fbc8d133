"""A plugin for the tests of tracking: points that walk to the right behind a post, and a tracker that has doubts.

In clip `walk-0` nothing counts: all its queries are in the last frame. In `walk-1` no point is seen after its query.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import vcorr

SIDE, FRAMES, SPEED = 64, 10, 4
POST = (24, 36)
"""Points are hidden while x is between these."""


@dataclass
class WalkConfig:
    """Options of the dataset."""

    clips: int = 10


class Walk(vcorr.DatasetBase):
    """Points on a lattice walk to the right."""

    split = "test"

    def __init__(self, config: WalkConfig) -> None:
        self._clips = config.clips

    def ids(self):
        return tuple(f"walk-{i}" for i in range(self._clips))

    def clip(self, clip_id):
        number = int(clip_id.split("-")[1])
        video = np.random.default_rng(number).integers(0, 256, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8)
        ys, xs = np.meshgrid(np.arange(5.5, SIDE, 12), np.arange(1.5 + number, 24, 3))
        start = np.stack([xs.ravel(), ys.ravel()], axis=-1).astype(np.float32)
        xy = start[:, None] + SPEED * np.arange(FRAMES, dtype=np.float32)[None, :, None] * np.float32([1, 0])
        visible = is_seen(xy)
        visible[:, 1:] &= number != 1
        asked = np.full(len(xy), FRAMES - 1 if number == 0 else 0)
        points = np.column_stack([asked, xy[np.arange(len(xy)), asked]]).astype(np.float32)
        tracks = vcorr.Tracks(xy, visible, tracker="exact")
        return vcorr.Clip(clip_id, "a walk", points, video=video, tracks=tracks, query_mode="first")


def is_seen(xy):
    """Returns where points (N, T, 2) are not behind the post."""
    return (xy[..., 0] < POST[0]) | (xy[..., 0] >= POST[1])


@dataclass
class DoubtConfig:
    """Options of the tracker. error: spread of its positions in pixels."""

    error: float = 1.0


class Doubtful:
    """Follows points with errors; its confidence is about 0.6 where the point can be seen, and about 0.3 elsewhere."""

    def __init__(self, config: DoubtConfig) -> None:
        self._error = config.error

    def track(self, video, queries):
        rng = np.random.default_rng(int(video[0, 0, 0, 0]))
        since = np.arange(len(video))[None] - queries.t[:, None]
        xy = queries.xy[:, None] + SPEED * since[..., None] * np.float32([1, 0])
        seen = is_seen(xy)
        xy = xy + rng.normal(0, self._error, xy.shape) * (since != 0)[..., None]
        confidence = np.clip(np.where(seen, 0.6, 0.3) + rng.uniform(-0.2, 0.2, seen.shape), 0, 1)
        visible = confidence > 0.7  # much too careful
        visible[since == 0] = True
        return vcorr.Tracks(xy.astype(np.float32), visible, "doubtful", confidence=confidence.astype(np.float32))


@vcorr.hookimpl
def vcorr_datasets():
    """Returns the dataset."""
    return [vcorr.DatasetEntry(name="walk", summary=".", factory=f"{__name__}:Walk", config=WalkConfig)]


@vcorr.hookimpl
def vcorr_trackers():
    """Returns the tracker."""
    return [vcorr.TrackerEntry(name="doubtful", summary=".", factory=f"{__name__}:Doubtful", config=DoubtConfig)]
