"""The checks of metrics of generated videos: a sound metric passes, and each fault is found."""

from __future__ import annotations

import numpy as np
import pytest

import vcorr
from vcorr.contract.errors import UsageError
from vcorr.contract.records import Score, Tracks
from vcorr.contract.video_tracks import VideoTracks
from vcorr.runner.metric_trial import check_columns
from vcorr.runner.parts import Part
from vcorr.testing import check_metric
from vcorr.testing.video_metric_checks import SPEED, make_sliding_video


class Survival(vcorr.MetricBase):
    """Share of points that are still visible in the last frame, and mean motion per frame."""

    higher_is_better = True
    columns = ("survival", "motion")
    primary = "survival"

    def score_video(self, video, tracks):
        seen = tracks.forward.visible[:, -1]
        motion = np.linalg.norm(np.diff(tracks.forward.xy, axis=1), axis=-1)
        return {"survival": Score(float(seen.mean()), len(seen)), "motion": Score(float(motion.mean()), motion.size)}


class FirstPoint(Survival):
    def score_video(self, video, tracks):
        x = float(tracks.forward.xy[0, 0, 0])
        return {"survival": Score(x, 1), "motion": Score(x, 1)}


class OnlyVisible(Survival):
    def score_video(self, video, tracks):
        found = super().score_video(video, tracks)
        return found if tracks.forward.visible.any() else {"survival": found["survival"]}


class Growing(Survival):
    calls = 0

    def score_video(self, video, tracks):
        self.calls += 1
        return {
            name: Score(score.value + self.calls, score.n) for name, score in super().score_video(0, tracks).items()
        }


class Writing(Survival):
    def score_video(self, video, tracks):
        video[:] = 0
        return super().score_video(video, tracks)


class Numbers(Survival):
    def score_video(self, video, tracks):
        return {name: score.value for name, score in super().score_video(video, tracks).items()}


class Undeclared(Survival):
    columns = ()


class TwoPrimaries(Survival):
    columns = ()
    primary = ""


def test_a_sound_metric_of_videos_passes() -> None:
    assert not check_metric(Survival()).failures


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (FirstPoint, "the order of the points does not matter"),
        (OnlyVisible, "columns do not change with the data"),
        (Growing, "same tracks, same scores"),
        (Writing, "tracks are not changed"),
        (Numbers, "scores have the right form"),
        (TwoPrimaries, "a column is primary"),
    ],
)
def test_a_fault_of_a_metric_of_videos_is_found(wrong, name) -> None:
    assert name in {failure.name for failure in check_metric(wrong()).failures}


def test_the_invented_video_moves_as_its_tracks_say() -> None:
    video, tracks = make_sliding_video()
    for start, path in zip(tracks.forward.xy[:, 0], tracks.forward.xy, strict=True):
        colours = {tuple(video[t, int(y), int(x)]) for t, (x, y) in enumerate(path)}
        assert len(colours) == 1, start
    assert np.array_equal(np.diff(tracks.forward.xy[..., 0]), np.full((9, len(video) - 1), SPEED))


def test_both_ways_have_the_same_points_and_frames() -> None:
    def tracks(points, frames):
        return Tracks(np.zeros((points, frames, 2), np.float32), np.ones((points, frames), bool), "t")

    with pytest.raises(UsageError, match=r"forward has the shape \(3, 4, 2\), backward \(3, 5, 2\)"):
        VideoTracks(tracks(3, 4), tracks(3, 5))


def test_columns_of_a_metric_of_videos_are_learnt_by_a_trial() -> None:
    entry = vcorr.MetricEntry(name="odd", summary=".", factory=f"{__name__}:Undeclared", task="generation")
    (learnt,) = check_columns([Part(entry, "test 1", None)])
    assert learnt.columns == ("survival", "motion")
