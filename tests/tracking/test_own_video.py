"""Following points through a video of one's own: positions, files, overlay, and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from support import videos

import vcorr
from vcorr.contract.errors import MissingError, UsageError
from vcorr.contract.records import Queries
from vcorr.data.video import read_video
from vcorr.tracking.own_video import open_frames, write_point_overlay
from vcorr.tracking.point_text import parse_points
from vcorr.tracking.tracked_points import PointRow, TrackedPoints

FRAMES, HEIGHT, WIDTH = 8, 62, 101


def pan(frames=FRAMES, height=HEIGHT, width=WIDTH, step=2):
    """Moves a smooth texture by `step` pixels to the right per frame."""
    reach = step * (frames - 1)
    coarse = np.random.default_rng(3).uniform(0, 255, (height // 6 + 2, (width + reach) // 6 + 2, 3))
    sheet = np.kron(coarse, np.ones((6, 6, 1)))[:height, : width + reach]
    sheet = (sheet + np.roll(sheet, 3, 0) + np.roll(sheet, 3, 1)) / 3
    return np.stack([sheet[:, reach - step * t : reach - step * t + width] for t in range(frames)]).astype(np.uint8)


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("panned")
    return videos.write(folder / "pan.mkv", pan(), codec="ffv1", pixels="bgr0")


@pytest.fixture(scope="module")
def tracks(clip_file):
    return vcorr.track(clip_file, ["40,30", "50.5,20@4"], tracker="lk")


def predict(xy, frame, step=2):
    return np.stack([xy[0] + step * (np.arange(FRAMES) - frame), np.full(FRAMES, xy[1])], axis=-1)


def test_points_are_followed_before_and_after_their_own_frames(tracks):
    assert np.abs(tracks.xy[0] - predict((40, 30), 0)).max() < 0.3
    assert np.abs(tracks.xy[1] - predict((50.5, 20), 4)).max() < 0.3
    assert tracks.visible.all()
    assert tracks.queries == Queries(np.array([0, 4]), np.array([[40, 30], [50.5, 20]]))
    assert (tracks.fps, tracks.size, tracks.tracker, tracks.confidence) == (10, (WIDTH, HEIGHT), "lk", None)
    assert tracks.times == pytest.approx(np.arange(FRAMES) / 10)


@pytest.mark.parametrize("points", [Queries.at(np.array([[40.0, 30]])), [(40, 30)], np.array([[0, 40, 30]]), "40,30"])
def test_a_file_and_an_array_and_all_forms_of_points_give_the_same(tracks, points):
    found = vcorr.track(pan(), points, tracker="lk", fps=10)
    assert np.array_equal(found.xy[0], tracks.xy[0])
    assert (found.times, found.fps) == (pytest.approx(tracks.times), 10)


def test_a_file_that_is_turned_is_followed_in_its_upright_pixels(tmp_path):
    path = videos.turn(videos.write(tmp_path / "t.mp4", pan(height=64, width=96), options={"crf": "1"}), 90)
    assert read_video(path).frames.shape[1:3] == (96, 64)
    found = vcorr.track(path, "30,40", tracker="lk")
    # what moves to the right moves down once the picture is turned by 90 degrees clockwise
    down = np.stack([np.full(FRAMES, 30), 40 + 2 * np.arange(FRAMES)], axis=-1)
    assert np.abs(found.xy[0] - down).max() < 0.3
    assert found.size == (64, 96)


def test_frames_that_are_made_smaller_give_positions_in_the_original(clip_file, tracks):
    smaller = vcorr.track(clip_file, "40,30", tracker="lk", options={"data": {"max_side": 70}})
    assert np.abs(smaller.xy - tracks.xy[:1]).max() < 0.6
    assert smaller.size == (WIDTH, HEIGHT)
    assert smaller.xy[0, 0].tolist() == [40, 30]


def test_windows_give_nearly_the_same_for_one_step_after_the_other(clip_file, tracks):
    found = vcorr.track(clip_file, tracks.queries, tracker="lk", options={"data": {"window": 3}})
    assert np.array_equal(found.visible, tracks.visible)
    assert np.abs(found.xy - tracks.xy).max() < 1e-4


def test_a_grid_covers_the_first_frame_and_few_frames_may_be_read(clip_file):
    found = vcorr.track(clip_file, grid=3, tracker="lk", fps=5, start=0.2, frames=3)
    assert found.xy.shape == (9, 3, 2)
    assert np.array_equal(found.queries.xy, vcorr.query_grid(3, HEIGHT, WIDTH))
    assert found.times == pytest.approx([0.2, 0.4, 0.6])


def test_the_table_has_a_row_per_point_and_frame(tracks):
    table = tracks.to_arrow()
    assert table.num_rows == 2 * FRAMES
    row = table.slice(FRAMES + 4, 1).to_pylist()[0]
    assert row == {
        "query": 1, "frame": 4, "time": pytest.approx(0.4), "x": 50.5, "y": 20.0, "visible": True,
        "confidence": None, "is_query": True,
    }  # fmt: skip
    assert table["is_query"].to_pylist().count(True) == 2
    assert table.schema.metadata[b"vcorr.size"] == f"{WIDTH}x{HEIGHT}".encode()
    assert table.schema.names == list(PointRow.__dataclass_fields__)


def test_files_hold_the_same_in_three_forms(tracks, tmp_path):
    sure = TrackedPoints(**{**vars(tracks), "confidence": np.full((2, FRAMES), 0.25, np.float32)})
    for suffix in (".arrow", ".csv", ".npz"):
        sure.save(tmp_path / f"t{suffix}")
    table = pa.ipc.open_file(tmp_path / "t.arrow").read_all()
    assert table.equals(sure.to_arrow())
    csv = pa.csv.read_csv(tmp_path / "t.csv")
    assert csv.column_names == table.column_names
    assert csv["x"].to_numpy() == pytest.approx(table["x"].to_numpy())
    assert csv["visible"].to_pylist() == table["visible"].to_pylist()
    with np.load(tmp_path / "t.npz") as arrays:
        # TAP-Vid: 256 pixels are the whole width and height
        assert arrays["points"] * 256 == pytest.approx(tracks.xy * 256 / np.array([WIDTH, HEIGHT]), abs=1e-4)
        assert np.array_equal(arrays["occluded"], ~tracks.visible)
        assert arrays["query_points"].tolist() == [[0, 30, 40], [4, 20, 50.5]]
        assert (arrays["points"].dtype, arrays["occluded"].dtype) == (np.float32, bool)
        assert (arrays["size"].tolist(), float(arrays["fps"])) == ([HEIGHT, WIDTH], 10)
        assert (arrays["confidence"] == 0.25).all()
    with pytest.raises(UsageError, match=r"\.arrow, \.csv, \.npz; got 't.txt'"):
        tracks.save(tmp_path / "t.txt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.arrow", "t.csv", "t.npz"]


def test_the_overlay_shows_each_point_in_its_colour_on_the_original_frames(clip_file, tracks, tmp_path):
    write_point_overlay(tmp_path / "o.mp4", open_frames(clip_file), tracks)
    drawn = read_video(tmp_path / "o.mp4")
    assert (len(drawn.frames), drawn.fps) == (FRAMES, 10)
    factor = 7  # 101 pixels are drawn as 707
    for n, colour in enumerate([(230, 159, 0), (86, 180, 233)]):
        x, y = (tracks.xy[n, 6] * factor).round().astype(int)
        assert np.abs(drawn.frames[6][y, x].astype(int) - colour).max() < 40


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ("", "No points to track were given"),
        ("120", "'120' is no point"),
        ("120,80@", "is no point"),
        ("12,8@-1", "is no point"),
        ("1e3,8", "is no point"),
        ("nan,8", "is no point"),
        ("1,2,3", "is no point"),
        ("12,8@99999999999", "in frame 99999999999, which no video has"),
        ("102,8", "Point 102,8 lies outside the frame of 101x62 pixels"),
        ("-1,8", "Point -1,8 lies outside"),
        ("12,8@8", "in frame 8, but the video has 8 frames"),
        ([], "No points to track were given"),
        ([(1, 2), (1, 2, 3)], "points must be pairs"),
        (5, "points must be pairs"),
        ([(1, float("nan"))], "finite"),
        (np.zeros((0, 2)), "No points to track were given"),
    ],
)
def test_points_that_cannot_be_followed_are_refused(clip_file, points, said):
    with pytest.raises(UsageError, match=said):
        vcorr.track(clip_file, points, tracker="lk")


def test_points_on_the_border_and_several_in_one_text_are_read():
    found = parse_points(["0,0 101,62@3", "  .5,7.@0"])
    assert found == Queries(np.array([0, 3, 0]), np.array([[0, 0], [101, 62], [0.5, 7]]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "Neither a model nor a tracker was named"),
        ({"tracker": "lk", "model": "tiny"}, "Both a model and a tracker were named"),
        ({"tracker": "liquid"}, "Unknown tracker 'liquid'"),
        ({"tracker": "lk", "grid": 3}, "either points or a grid"),
        ({"tracker": "lk", "options": {"data": {"window": 1}}}, "at least 2 frames, got 1"),
        ({"tracker": "lk", "options": {"tracker": {"windw": 3}}}, "tracker.windw"),
        ({"tracker": "lk", "options": {"trackr": {"window": 3}}}, "Unknown part in options 'trackr'"),
        ({"tracker": "lk", "options": {"tracker": 3}}, "must be a mapping of names to values, got 3"),
        ({"tracker": "lk", "layers": 3}, "--layers does not apply: tracker 'lk'"),
        ({"model": "tiny", "seed": -1}, "seed"),
        ({"model": "tiny", "seed": 1.5}, "seed"),
        ({"model": "tiny", "layers": []}, "layers is empty"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(clip_file, arguments, said):
    with pytest.raises(UsageError, match=said):
        vcorr.track(clip_file, "40,30", **arguments)


@pytest.mark.parametrize(
    ("video", "error", "said"),
    [
        ("none.mp4", MissingError, "does not exist"),
        (np.zeros((1, 32, 32, 3), np.uint8), UsageError, "at least 2 frames"),
        (np.zeros((4, 32, 32), np.uint8), UsageError, "must be uint8 of shape"),
        (np.zeros((4, 32, 32, 3), np.float32), UsageError, "must be uint8 of shape"),
        ([1, 2], UsageError, "path of a file or a numpy array"),
        (np.zeros((4, 8, 32, 3), np.uint8), UsageError, "too small to track in"),
    ],
)
def test_videos_that_cannot_be_read_are_refused(video, error, said):
    with pytest.raises(error, match=said):
        vcorr.track(video, "4,4", tracker="lk")


@pytest.mark.parametrize(
    ("arguments", "said"), [({"grid": 2.5}, "whole number"), ({"grid": 2, "frames": 1}, "2 frames")]
)
def test_a_grid_and_a_number_of_frames_that_make_no_sense_are_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        vcorr.track(np.zeros((4, 32, 32, 3), np.uint8), tracker="lk", **arguments)
