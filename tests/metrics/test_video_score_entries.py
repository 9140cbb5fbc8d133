"""The metrics of generated videos keep the contract, and say the direction in which their columns are better."""

import numpy as np
import pytest

from vcorr.contract.records import Tracks
from vcorr.contract.tasks import GENERATION
from vcorr.contract.video_tracks import VideoTracks
from vcorr.plugins.builtin import video_metrics
from vcorr.testing import assert_passed, check_metric

BETTER = {
    "track_survival": True,
    "cycle_error": False,
    "track_jerk": False,
    "acceleration_outliers": False,
    "warp_error": False,
    "flicker": False,
    "subject_drift": False,
    "dynamic_degree": True,
}


@pytest.mark.parametrize("entry", video_metrics(), ids=lambda entry: entry.name)
def test_each_keeps_the_contract(entry):
    assert (entry.task, entry.default) == (GENERATION, True)
    assert_passed(check_metric(entry))


def test_directions_are_those_of_the_docs():
    made = [entry.create() for entry in video_metrics()]
    assert {column: metric.higher_is_better for metric in made for column in metric.columns} == BETTER


def test_a_broken_video_scores_worse_than_a_smooth_one():
    """Tracks and pixels that tremble: every score but the guard and the drift sees it."""
    rng = np.random.default_rng(0)
    t = np.arange(8)
    xy = np.stack([40 + 2.0 * t, np.full(8, 40.0)], -1) + rng.uniform(0, 20, (6, 1, 2))
    seen = np.ones((6, 8), bool)
    seen[:3, 4:] = False
    smooth = Tracks(xy.astype(np.float32), np.ones((6, 8), bool), "made")
    rough = Tracks((xy + rng.normal(0, 3, xy.shape)).astype(np.float32), seen, "made")
    still = np.broadcast_to(rng.integers(0, 255, (64, 64, 3), np.uint8), (8, 64, 64, 3)).copy()
    flashing = np.where(t[:, None, None, None] % 2, still // 2, still).astype(np.uint8)
    good, bad = VideoTracks(smooth, smooth), VideoTracks(rough, smooth)
    for entry in video_metrics():
        metric = entry.create()
        sign = 1 if metric.higher_is_better else -1
        better, worse = metric.score_video(still, good), metric.score_video(flashing, bad)
        for column in set(metric.columns) - {"dynamic_degree", "acceleration_outliers"}:
            assert sign * better[column].value > sign * worse[column].value, column
