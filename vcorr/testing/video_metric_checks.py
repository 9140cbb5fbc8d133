"""Checks the contract of a `vcorr.VideoMetric` on an invented video, in which a texture moves to the right.

N points, T frames; positions are (x, y) in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.records import Score, Tracks
from vcorr.contract.video_tracks import VideoTracks
from vcorr.testing.report import CheckFunction, expect
from vcorr.testing.score_form import check_primary, check_score_form, expect_same

FRAMES, HEIGHT, WIDTH, SPEED = 5, 32, 48, 2
"""Size of the invented video, and pixels per frame by which its texture moves."""


class VideoMetricSuite:
    """The checks of one metric of videos."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._video, self._tracks = make_sliding_video()

    def checks(self) -> Sequence[tuple[str, CheckFunction]]:
        """Returns the checks by name."""
        return [
            ("scores have the right form", self.form),
            ("the order of the points does not matter", self.order),
            ("columns do not change with the data", self.columns),
            ("a column is primary", self.primary),
            ("same tracks, same scores", self.repeat),
            ("tracks are not changed", self.side_effects),
        ]

    def form(self) -> str:
        """Checks names, types and ranges of the scores."""
        return check_score_form(self._metric, self._score(self._video, self._tracks))

    def order(self) -> None:
        """Checks the scores of the same points in another order."""
        order = np.random.default_rng(1).permutation(len(self._tracks.forward.xy))
        turned = VideoTracks(*(_reorder(one, order) for one in (self._tracks.forward, self._tracks.backward)))
        same = self._score(self._video, self._tracks)
        expect_same(same, self._score(self._video, turned), "with points in another order")

    def columns(self) -> None:
        """Checks the names of the columns for a frozen video, and for tracks that are never visible."""
        columns, frozen = set(self._score(self._video, self._tracks)), np.repeat(self._video[:1], FRAMES, axis=0)
        both = (self._tracks.forward, self._tracks.backward)
        lost = VideoTracks(*(replace(one, visible=np.zeros_like(one.visible)) for one in both))
        others = {"a frozen video": self._score(frozen, self._tracks), "nothing visible": self._score(frozen, lost)}
        for case, scores in others.items():
            expect(set(scores) == columns, f"{case}: columns {sorted(scores)} instead of {sorted(columns)}.")

    def primary(self) -> str:
        """Checks that one of the columns is the primary one."""
        return check_primary(self._metric, self._score(self._video, self._tracks))

    def repeat(self) -> None:
        """Checks that a second call gives the same scores."""
        first = self._score(self._video, self._tracks)
        expect_same(first, self._score(self._video, self._tracks), "the second time")

    def side_effects(self) -> None:
        """Checks that the metric does not write into its arguments."""
        video, (before, tracks) = self._video.copy(), make_sliding_video()
        self._score(video, tracks)
        same = np.array_equal(video, before) and all(
            np.array_equal(getattr(getattr(tracks, way), name), getattr(getattr(self._tracks, way), name))
            for way in ("forward", "backward")
            for name in ("xy", "visible")
        )
        expect(same, "the metric wrote into its arguments.")

    def _score(self, video: NDArray[np.uint8], tracks: VideoTracks) -> Mapping[str, Score]:
        scores: Mapping[str, Score] = self._metric.score_video(video, tracks)
        return scores


def make_sliding_video() -> tuple[NDArray[np.uint8], VideoTracks]:
    """Returns a video of moving noise, (T, H, W, 3) uint8, with exact tracks of nine of its points, forth and back."""
    texture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    video = np.stack([np.roll(texture, SPEED * t, axis=1) for t in range(FRAMES)])
    x, y = np.meshgrid([8.5, 16.5, 24.5], [8.5, 16.5, 24.5])
    start = np.stack([x.ravel(), y.ravel()], axis=-1).astype(np.float32)
    steps = np.arange(FRAMES, dtype=np.float32)[None, :, None] * np.array([SPEED, 0], np.float32)
    xy = start[:, None] + steps
    visible = np.ones(xy.shape[:2], dtype=np.bool_)
    forward, backward = (
        Tracks(xy, visible, "exact", query_frame=np.full(len(xy), frame, np.int32)) for frame in (0, FRAMES - 1)
    )
    return video, VideoTracks(forward, backward)


def _reorder(tracks: Tracks, order: NDArray[np.intp]) -> Tracks:
    frames = None if tracks.query_frame is None else tracks.query_frame[order]
    return replace(tracks, xy=tracks.xy[order], visible=tracks.visible[order], query_frame=frames)
