"""Trackers on videos whose motion is known by construction."""

import cv2
import numpy as np
import pytest
from support import sliding

from vcorr.bench.tracker_errors import evaluate
from vcorr.bench.trackers import main
from vcorr.contract.errors import UsageError
from vcorr.contract.records import Clip, Queries, Tracks
from vcorr.data import query_grid
from vcorr.testing import assert_passed, check_tracker
from vcorr.trackers import ENTRIES
from vcorr.trackers.dis import Dis
from vcorr.trackers.lk import Lk
from vcorr.trackers.tracker_options import DisConfig, LkConfig

TRACKERS = [pytest.param(Dis(DisConfig()), id="dis"), pytest.param(Lk(LkConfig()), id="lk")]


def texture(height, width, seed=0, blur=1.0):
    """Returns smooth noise over the whole range of values."""
    picture = np.random.default_rng(seed).normal(size=(height, width, 3))
    picture = cv2.GaussianBlur(picture, (0, 0), blur)
    low, high = picture.min(), picture.max()
    return ((picture - low) / (high - low) * 255).astype(np.uint8)


def pan(frames, step, height=96, width=128):
    """Slides a window over one texture, so that its contents move by `step` pixels per frame."""
    reach = [abs(s) * (frames - 1) for s in step]
    sheet = texture(height + reach[1], width + reach[0])
    start = [reach[i] if step[i] > 0 else 0 for i in (0, 1)]
    corners = [(start[0] - step[0] * t, start[1] - step[1] * t) for t in range(frames)]
    return np.stack([sheet[y : y + height, x : x + width] for x, y in corners])


def test_more_points_than_opencv_reads_at_once():
    video, queries = pan(3, (1, 0)), query_grid(200, 96, 128)
    whole = Dis(DisConfig()).track(video, queries)
    part = Dis(DisConfig()).track(video, queries[-100:])
    assert np.array_equal(whole.xy[-100:], part.xy)
    assert np.array_equal(whole.visible[-100:], part.visible)


def over_background(frames, step, size=40, top=30, left=8):
    """Moves a textured square to the right by `step` pixels per frame, over a background that stands still."""
    video = np.repeat(texture(100, 140, seed=1)[None], frames, axis=0)
    square = texture(size, size, seed=2)
    for t in range(frames):
        video[t, top : top + size, left + step * t : left + step * t + size] = square
    return video


@pytest.mark.parametrize("tracker", TRACKERS)
@pytest.mark.parametrize("step", [(1, 0), (-2, 1), (3, -2), (0, 4)])
def test_whole_pixel_motion_is_followed(tracker, step):
    video = pan(6, step)
    queries = query_grid(8, 96, 128)
    inner = (queries - [64, 48])[:, None] + np.zeros((1, 6, 1)) + np.arange(6)[None, :, None] * step
    stays = (np.abs(inner) < [44, 28]).all(axis=(1, 2))
    queries = queries[stays]
    assert len(queries) > 5
    tracks = tracker.track(video, queries)
    expected = queries[:, None] + np.arange(6, dtype=np.float32)[None, :, None] * np.float32(step)
    assert tracks.visible.all()
    assert np.abs(tracks.xy - expected).max() < 0.05


@pytest.mark.parametrize("tracker", TRACKERS)
@pytest.mark.parametrize("step", [(1, 0), (-2, 1), (0, 4)])
def test_queries_of_any_frame_are_followed_both_ways(tracker, step):
    video, points = pan(6, step), query_grid(8, 96, 128)
    queries = Queries(np.arange(len(points)) % 6, points)
    steps = np.arange(6)[None, :] - queries.t[:, None]
    expected = points[:, None] + steps[..., None] * np.float32(step)
    stays = (np.abs(expected - [64, 48]) < [44, 28]).all(axis=(1, 2))
    assert set(queries.t[stays]) == set(range(6))
    tracks = tracker.track(video, queries)
    assert np.array_equal(tracks.xy[np.arange(len(points)), queries.t], points)
    assert tracks.visible[stays].all()
    assert np.abs(tracks.xy - expected)[stays].max() < 0.05


@pytest.mark.parametrize("tracker", TRACKERS)
def test_other_queries_change_no_track(tracker):
    video, points = over_background(7, 3), query_grid(5, 100, 140)
    first, middle = Queries.at(points), Queries.at(points + np.float32(0.25), 3)
    both = Queries(np.concatenate([first.t, middle.t]), np.concatenate([first.xy, middle.xy]))
    together = tracker.track(video, both)
    for alone, part in ((first, slice(0, 25)), (middle, slice(25, 50))):
        expected = tracker.track(video, alone)
        assert np.array_equal(together.xy[part], expected.xy)
        assert np.array_equal(together.visible[part], expected.visible)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_the_last_frame_is_the_first_of_the_reversed_video(tracker):
    video, points = over_background(7, 3), query_grid(5, 100, 140)
    back = tracker.track(video, Queries.at(points, 6))
    there = tracker.track(np.ascontiguousarray(video[::-1]), points)
    assert np.array_equal(back.xy[:, ::-1], there.xy)
    assert np.array_equal(back.visible[:, ::-1], there.visible)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_still_video_stays_exactly_where_it_is(tracker):
    video = np.repeat(texture(64, 80)[None], 5, axis=0)
    queries = np.concatenate([query_grid(9, 64, 80), [[0, 0], [80, 64], [13.37, 42.42]]]).astype(np.float32)
    tracks = tracker.track(video, queries)
    inside = ((queries >= 6) & (queries <= [74, 58])).all(axis=1)
    assert np.array_equal(tracks.xy, np.repeat(queries[:, None], 5, axis=1))
    assert tracks.visible[inside].all()


def test_dis_sees_every_point_of_a_still_video_even_without_texture():
    video = np.full((4, 48, 48, 3), 90, dtype=np.uint8)
    queries = query_grid(6, 48, 48)
    tracks = Dis(DisConfig()).track(video, queries)
    assert tracks.visible.all()
    assert np.array_equal(tracks.xy[:, -1], queries)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_pixel_centres_are_not_confused_with_corners(tracker):
    # Enlarging about the corner (0, 0) maps raster x to 1.02 x; half a pixel of confusion would show as an offset
    picture = texture(120, 120, blur=2.0)
    zoom = 1.02
    matrix = np.array([[zoom, 0, 0.5 * (zoom - 1)], [0, zoom, 0.5 * (zoom - 1)]])
    video = np.stack([picture, cv2.warpAffine(picture, matrix, (120, 120), flags=cv2.INTER_CUBIC)])
    queries = query_grid(9, 90, 90) + np.float32(10)
    off = tracker.track(video, queries).xy[:, 1] - zoom * queries
    assert np.abs(np.median(off, axis=0)).max() < 0.01
    assert np.abs(off).max() < 0.2


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_point_that_gets_covered_is_lost_and_does_not_come_back(tracker):
    frames, step = 16, 6
    video = over_background(frames, step)
    # columns 62, 70, 78 of the background, in the middle of the rows the square sweeps over
    queries = np.array([[62.5, 50.5], [70.5, 50.5], [78.5, 50.5]], dtype=np.float32)
    tracks = tracker.track(video, queries)
    left = 8 + step * np.arange(frames)
    covered = (queries[:, :1] >= left) & (queries[:, :1] < left + 40)
    first = covered.argmax(axis=1)
    for n in range(3):
        assert tracks.visible[n, : first[n] - 2].all()
        assert not tracks.visible[n, first[n] + 1 :].any(), "seen while covered, or again after it"
        seen = tracks.visible[n]
        # The flow of the square reaches over its edge: the last frames before it arrives are not exact
        assert np.abs(tracks.xy[n][seen] - queries[n]).max() < 4
        assert np.abs(tracks.xy[n, : first[n] - 2] - queries[n]).max() < 0.3


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_point_on_the_covering_object_stays_visible(tracker):
    video = over_background(10, 4)
    query = np.array([[28.5, 50.5]], dtype=np.float32)
    tracks = tracker.track(video, query)
    assert tracks.visible.all()
    assert np.abs(tracks.xy[0, :, 0] - (28.5 + 4 * np.arange(10))).max() < 0.1


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_point_that_leaves_the_frame_is_lost(tracker):
    frames = 10
    video = pan(frames, (5, 0))
    queries = np.array([[100.5, 48.5], [60.5, 48.5]], dtype=np.float32)
    tracks = tracker.track(video, queries)
    gone = 100.5 + 5 * np.arange(frames) > 128
    assert tracks.visible[0, : gone.argmax() - 2].all()
    assert not tracks.visible[0, gone].any()
    assert tracks.visible[1].all()
    assert (tracks.xy[..., 0] <= 128).all()


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_point_that_leaves_and_would_return_stays_lost(tracker):
    there = pan(8, (5, 0))
    video = np.concatenate([there, there[-2::-1]])
    tracks = tracker.track(video, np.array([[110.5, 48.5]], dtype=np.float32))
    visible = tracks.visible[0].astype(int)
    assert visible[0] == 1
    assert visible[-1] == 0
    assert (np.diff(visible) <= 0).all()


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_cut_loses_the_points(tracker):
    video = np.concatenate([pan(3, (1, 0)), np.repeat(texture(96, 128, seed=7)[None], 3, axis=0)])
    tracks = tracker.track(video, query_grid(10, 96, 128))
    assert tracks.visible[:, 3:].mean() < 0.1


@pytest.mark.parametrize("tracker", TRACKERS)
def test_one_frame_and_no_queries(tracker):
    video = texture(32, 40)[None]
    tracks = tracker.track(video, np.float32([[3, 3], [50, 3]]))
    assert tracks.visible[:, 0].tolist() == [True, False]
    empty = tracker.track(np.repeat(video, 3, axis=0), np.zeros((0, 2), dtype=np.float32))
    assert empty.xy.shape == (0, 3, 2)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_large_frames_are_tracked_smaller_and_answered_in_their_own_pixels(tracker):
    small = pan(3, (2, 1), 100, 140)
    large = np.stack([cv2.resize(f, (1400, 1000), interpolation=cv2.INTER_CUBIC) for f in small])
    tracks = tracker.track(large, np.float32([[700, 500]]))
    assert tracks.visible.all()
    assert np.abs(tracks.xy[0, :, :] - [[700, 500], [720, 510], [740, 520]]).max() < 1


@pytest.mark.parametrize("tracker", TRACKERS)
@pytest.mark.parametrize(
    ("video", "queries"),
    [
        (np.zeros((3, 32, 32), np.uint8), np.zeros((1, 2), np.float32)),
        (np.zeros((3, 32, 32, 3), np.float32), np.zeros((1, 2), np.float32)),
        (np.zeros((0, 32, 32, 3), np.uint8), np.zeros((1, 2), np.float32)),
        (np.zeros((3, 8, 32, 3), np.uint8), np.zeros((1, 2), np.float32)),
        (np.zeros((3, 32, 32, 3), np.uint8), np.float32([[1, np.nan]])),
        (np.zeros((3, 32, 32, 3), np.uint8), np.float32([[3, 1, 1]])),
        (np.zeros((3, 32, 32, 3), np.uint8), np.zeros((1, 4), np.float32)),
    ],
)
def test_what_cannot_be_tracked_is_refused(tracker, video, queries):
    with pytest.raises(UsageError):
        tracker.track(video, queries)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Dis(DisConfig(preset="slow")),
        lambda: Dis(DisConfig(threshold=0)),
        lambda: Dis(DisConfig(finest_scale=9)),
        lambda: Lk(LkConfig(window=1)),
        lambda: Lk(LkConfig(cycle=-1)),
    ],
)
def test_options_out_of_range_are_refused(make):
    with pytest.raises(UsageError):
        make()


def test_the_number_of_threads_changes_nothing():
    video, queries = pan(4, (3, 2)), query_grid(10, 96, 128)
    before = cv2.getNumThreads()
    found = []
    try:
        for threads in (1, 3):
            cv2.setNumThreads(threads)
            found.append(Dis(DisConfig()).track(video, queries))
            assert cv2.getNumThreads() == threads
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(found[0].xy, found[1].xy)
    assert np.array_equal(found[0].visible, found[1].visible)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_contract_of_trackers(entry):
    assert_passed(check_tracker(entry))
    tracks = entry.create().track(np.repeat(texture(32, 32)[None], 2, axis=0), np.float32([[9, 9]]))
    assert (tracks.tracker, tracks.version) == (entry.name, entry.version)
    assert "Apache-2.0" in entry.licence


class Shifted:
    """The exact tracks, moved by one pixel, the last frame called hidden."""

    def __init__(self, clip):
        self.clip = clip

    def track(self, video, queries):
        xy = self.clip.tracks.xy + np.float32([1, 0])
        visible = self.clip.tracks.visible.copy()
        visible[:, -1] = False
        return type(self.clip.tracks)(xy, visible, "shifted")


def test_the_report_by_construction():
    clip = sliding_clip()
    frames = len(clip.video)
    report = evaluate(Shifted(clip), [clip, clip])
    seen = int(clip.tracks.visible[clip.tracks.visible[:, 0], 1:].sum())
    assert report.seen.n == 2 * seen
    assert report.kept.median == report.kept.mean == pytest.approx(1)
    # one pixel is 256 / width pixels of 256
    unit = 256 / clip.video.shape[2]
    assert report.kept.within == tuple(float(unit < limit) for limit in (1, 2, 4, 8))
    assert report.precision == 1
    if clip.tracks.visible.all():
        assert report.recall == pytest.approx((frames - 2) / (frames - 1))


def test_the_report_counts_every_frame_but_the_query_s():
    """Uses two points in 4 frames with queries in frames 1 and 3; the second one is hidden in its own frame."""
    xy, visible = np.zeros((2, 4, 2), np.float32), np.ones((2, 4), bool)
    xy[0, 1], visible[1, 3] = [300, 300], False  # off, but not counted: it is the query itself
    exact = Tracks(np.zeros((2, 4, 2), np.float32), visible, "exact")
    clip = Clip("c", "", np.float32([[1, 0, 0], [3, 0, 0]]), np.zeros((4, 256, 256, 3), np.uint8), exact)

    class Said:
        def track(self, video, queries):
            return Tracks(xy, np.ones((2, 4), bool), "said")

    report = evaluate(Said(), [clip])
    assert (report.seen.n, report.seen.mean) == (3, 0)


def test_the_command_prints_a_table(plugins, capsys):
    plugins()
    assert main(["--data", "token-slide", "--limit", "1", "--trackers", "lk"]) == 0
    printed = capsys.readouterr().out
    assert "| `lk` |" in printed
    assert main(["--data", "token-sldie"]) == 2
    assert "Did you mean 'token-slide'" in capsys.readouterr().err


def test_the_command_takes_options_of_the_dataset(plugins, capsys):
    plugins()
    asked = ["--data", "token-slide", "--limit", "1", "--trackers", "lk"]
    assert main([*asked, "--set", "data.clips=1"]) == 0
    assert capsys.readouterr().out.startswith("token-slide clips=1, split ")
    for text, said in {
        "data.clisp=1": "data.clisp",
        "clips=1": "is not data.KEY=VALUE",
        "data.clips": "is not data",
    }.items():
        assert main([*asked, "--set", text]) == 2
        assert said in capsys.readouterr().err


def sliding_clip():
    data = next(iter(sliding.vcorr_datasets())).create()
    return data.clip(data.ids()[0])
