"""The filters, by construction and against a slow reference."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.folders import row

from vcorr import TokenGrid, Tracks
from vcorr.contract.errors import UsageError
from vcorr.data.clip_filters import Filters, judge, moving_share, visible_share

GRID = TokenGrid(frames=5, rows=8, cols=4, stride=(16, 8))


def tracks(xy, visible):
    return Tracks(np.float32(xy), np.array(visible), tracker="exact")


def still(points=4, frames=5):
    return np.full((points, frames, 2), 20, dtype=np.float32), np.ones((points, frames), dtype=bool)


def test_more_than_one_stride_of_its_own_axis_counts_as_moving():
    xy, visible = still()
    xy[0, 2] += [16, 0]
    xy[1, 2] += [0, 8.5]
    xy[2, 2] += [16.5, 0]
    assert moving_share(tracks(xy, visible), GRID) == 0.5


def test_only_what_is_seen_counts():
    xy, visible = still()
    xy[:2, 3] += 50
    visible[0, 3] = False  # moves where nobody sees it
    visible[3, 0] = False  # cannot be asked for
    found = tracks(xy, visible)
    assert moving_share(found, GRID) == 1 / 3
    assert visible_share(found) == 18 / 20


def test_nothing_to_see():
    xy, visible = still()
    found = tracks(xy, np.zeros_like(visible))
    assert (moving_share(found, GRID), visible_share(found)) == (0.0, 0.0)


def test_each_threshold_gives_its_reason():
    judged = judge(row(), GRID, Filters(min_moving=0, min_visible=0))
    assert (judged.status, judged.reason) == ("ok", "")
    assert judged.moving_share == pytest.approx(2 / 3)  # one of three leaves the frame before it has moved that far
    assert judged.visible_share == pytest.approx(11 / 15)
    strict = judge(row(), GRID, Filters(min_moving=0.9, min_visible=0.8))
    assert strict.status == "rejected"
    moving, visible = strict.reason.split("; ")
    assert moving == "0.667 of the points move by more than a token, under 0.9"
    assert visible == "0.733 of the points and frames can be seen, under 0.8"
    assert judge(strict, GRID, Filters()).status == "ok"


def test_a_share_that_is_exactly_the_threshold_is_enough():
    xy, visible = still()
    xy[:2, 2] += [0, 9]
    visible[:, 4] = False
    found = row(queries=xy[:, 0], query_frames=np.zeros(4, np.int32), xy=xy, visible=visible)
    judged = judge(found, GRID, Filters(min_moving=0.5, min_visible=0.8))
    assert (judged.status, judged.moving_share, judged.visible_share) == ("ok", 0.5, 0.8)
    above = judge(found, GRID, Filters(min_moving=0.501, min_visible=0.801))
    assert above.reason.count("under") == 2


def test_zero_keeps_everything_and_one_keeps_what_is_complete():
    xy, visible = still()
    nothing = row(queries=xy[:, 0], query_frames=np.zeros(4, np.int32), xy=xy, visible=np.zeros_like(visible))
    assert judge(nothing, GRID, Filters(min_moving=0, min_visible=0)).status == "ok"
    xy[:, 1] += [17, 0]
    everything = row(queries=xy[:, 0], query_frames=np.zeros(4, np.int32), xy=xy, visible=visible)
    assert judge(everything, GRID, Filters(min_moving=1, min_visible=1)).status == "ok"


@pytest.mark.parametrize("change", [{"min_moving": -0.1}, {"min_visible": 1.1}, {"min_moving": math.nan}])
def test_thresholds_are_shares(change):
    with pytest.raises(UsageError, match="must be a share in"):
        Filters(**change)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), points=st.integers(1, 6), frames=st.integers(1, 5))
def test_against_a_loop(data, points, frames):
    flat = data.draw(st.lists(st.integers(0, 40), min_size=points * frames * 2, max_size=points * frames * 2))
    xy = np.float32(flat).reshape(points, frames, 2)
    seen = data.draw(st.lists(st.booleans(), min_size=points * frames, max_size=points * frames))
    visible = np.array(seen).reshape(points, frames)
    moving = asked = 0
    for n in range(points):
        if not visible[n, 0]:
            continue
        asked += 1
        far = False
        for t in range(1, frames):
            dx, dy = (xy[n, t] - xy[n, 0]) / [16, 8]
            far = far or (bool(visible[n, t]) and math.hypot(dx, dy) > 1)
        moving += far
    found = tracks(xy, visible)
    assert moving_share(found, GRID) == (moving / asked if asked else 0)
    assert visible_share(found) == pytest.approx(sum(seen) / len(seen))
