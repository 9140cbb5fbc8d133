"""Tracks drawn over a video."""

import av
import numpy as np
import pytest
from support import videos

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Tracks
from vcorr.data.video import draw_overlay, read_video, write_overlay
from vcorr.data.video import track_drawing as overlay


def still(points, frames, visible=True):
    xy = np.repeat(np.array(points, dtype=np.float32)[:, None], frames, axis=1)
    return Tracks(xy, np.full(xy.shape[:2], visible), "test")


@pytest.mark.parametrize(("height", "width"), [(64, 96), (33, 47), (720, 1300), (1000, 555)])
def test_the_mp4_is_even_readable_and_playable(tmp_path, height, width):
    video = np.zeros((3, height, width, 3), dtype=np.uint8)
    tracks = still([[width / 2, height / 2]], 3)
    write_overlay(tmp_path / "o.mp4", video, fps=10, predicted=tracks, reference=tracks)
    with av.open(str(tmp_path / "o.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.width % 2 == stream.height % 2 == 0
    read = read_video(tmp_path / "o.mp4")
    assert len(read.frames) == 3
    assert read.fps == 10
    assert 640 <= max(read.frames.shape[1:3]) <= overlay.LARGEST_SIDE + overlay.STRIP + 1


def test_dots_are_where_the_points_are():
    video = np.zeros((2, 100, 160, 3), dtype=np.uint8)
    frame = next(iter(draw_overlay(video, predicted=still([[40.5, 25.5]], 2))))
    near = np.abs(frame.astype(int) - overlay.PREDICTED).sum(-1) < 30
    y, x = np.nonzero(near[: -overlay.STRIP])
    # 160 pixels are drawn as 640: the centre of pixel 40, 25 is at 162, 102
    assert x.mean() + 0.5 == pytest.approx(162, abs=0.3)
    assert y.mean() + 0.5 == pytest.approx(102, abs=0.3)


def test_hidden_points_are_hollow():
    video = np.zeros((1, 100, 160, 3), dtype=np.uint8)
    none = np.zeros((1, 2), dtype=np.float32)
    seen, hidden = (
        next(iter(draw_overlay(video, queries=none, reference=still([[80, 50]], 1, visible))))[198:202, 318:322]
        for visible in (True, False)
    )
    assert np.abs(seen.astype(int) - overlay.REFERENCE).max() == 0
    assert hidden.max() == 0


def test_nan_and_far_positions_are_left_out():
    video = np.zeros((2, 64, 64, 3), dtype=np.uint8)
    xy = np.array([[[5, 5], [np.nan, np.nan]], [[5, 5], [1e9, -1e9]]], dtype=np.float32)
    assert len(list(draw_overlay(video, predicted=xy))) == 2


def test_the_video_is_left_alone():
    video = videos.noise(2, 640, 640)
    before = video.copy()
    list(draw_overlay(video, predicted=still([[9, 9]], 2)))
    assert np.array_equal(video, before)


def test_of_many_points_a_coarser_grid_is_drawn():
    chosen = overlay.choose_points(400, 100)
    assert len(chosen) == 100
    assert {c % 20 for c in chosen.tolist()} == set(range(1, 20, 2))
    assert overlay.choose_points(7, 100).tolist() == list(range(7))
    assert len(overlay.choose_points(401, 100)) == 100


def test_arrays_that_do_not_fit_are_refused():
    video = np.zeros((3, 64, 64, 3), dtype=np.uint8)
    with pytest.raises(UsageError, match=r"predicted tracks must have shape \(N, 3, 2\)"):
        draw_overlay(video, predicted=still([[1, 1]], 4))
    with pytest.raises(UsageError, match="one number of points"):
        draw_overlay(video, predicted=still([[1, 1]], 3), reference=still([[1, 1], [2, 2]], 3))
