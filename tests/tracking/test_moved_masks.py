"""Masks that points of a tracker move: by construction, and the nearest point against a slow search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.davis import frames_and_masks

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Tracks
from vcorr.metrics.mask_scores import region_similarity
from vcorr.trackers.dis import Dis
from vcorr.trackers.tracker_options import DisConfig
from vcorr.tracking.moved_masks import MOST_POINTS, move_masks, paint_labels, spread_points


class Shift:
    """Moves every point by (dx, dy) per frame, and hides what leaves the frame."""

    def __init__(self, dx, dy):
        self.step = np.array([dx, dy], np.float32)

    def track(self, video, queries):
        times = np.arange(len(video))[None] - queries.t[:, None]
        xy = queries.xy[:, None] + times[..., None] * self.step
        height, width = video.shape[1:3]
        return Tracks(xy.astype(np.float32), ((xy >= 0) & (xy <= [width, height])).all(-1), "shift")


def test_a_mask_moves_with_its_points_in_both_directions():
    video, masks = np.zeros((5, 20, 30, 3), np.uint8), np.zeros((5, 20, 30), np.uint8)
    for t in range(5):
        masks[t, 4 + t : 10 + t, 2 + 3 * t : 9 + 3 * t] = 3
    moved = move_masks(Shift(3, 1), video, masks[2], frame=2)
    assert np.array_equal(moved, masks)


def test_every_pixel_has_a_point_until_there_are_too_many():
    assert len(spread_points(128, 128)) == 128 * 128
    points = spread_points(480, 854)
    assert len(points) <= MOST_POINTS < 2 * len(points)
    assert (points % 1 == 0.5).all()
    assert (points < [854, 480]).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), points=st.integers(1, 12))
def test_a_pixel_has_the_label_of_the_nearest_visible_point(seed, points):
    random = np.random.default_rng(seed)
    places = random.choice(8 * 9, points, replace=False)
    xy = np.stack([places % 9, places // 9], axis=1)[:, None] + 0.5
    visible = random.random((points, 1)) < 0.7
    labels = random.integers(1, 5, points)
    found = paint_labels(Tracks(xy.astype(np.float32), visible, "any"), labels, 8, 9)[0]
    if not visible.any():
        assert not found.any()
        return
    seen, of_seen = xy[visible[:, 0], 0], labels[visible[:, 0]]
    for row, column in np.ndindex(8, 9):
        away = np.linalg.norm(seen - [column + 0.5, row + 0.5], axis=1)
        assert found[row, column] in of_seen[away <= away.min() + 0.2]  # OpenCV's distances are approximate


def test_optical_flow_moves_a_textured_square():
    video, masks = frames_and_masks()
    moved = move_masks(Dis(DisConfig()), video, masks[0])
    assert min(region_similarity(moved[-1] == label, masks[-1] == label) for label in (1, 2)) > 0.7


def test_a_mask_of_another_size_or_frame_is_refused():
    video = np.zeros((3, 20, 30, 3), np.uint8)
    with pytest.raises(UsageError, match="shape"):
        move_masks(Shift(0, 0), video, np.zeros((20, 31), np.uint8))
    with pytest.raises(UsageError, match="frames 0 to 2"):
        move_masks(Shift(0, 0), video, np.zeros((20, 30), np.uint8), frame=3)
