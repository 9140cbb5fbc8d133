"""Frames that are read in windows are the frames that are read at once."""

import gc

import numpy as np
import pytest
from support import videos

from vcorr.contract.errors import MissingError, UsageError
from vcorr.data.video import frame_stream, read_video
from vcorr.data.video.frame_stream import ArrayFrames, FileFrames

UNEVEN = [0, 100, 200, 340, 400, 700, 800, 900, 1000, 1010]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    video = videos.noise(10, 48, 80)
    turned = videos.turn(videos.write(folder / "turned.mp4", video), 90)
    return {
        "plain": videos.write(folder / "plain.mp4", video),
        "turned": turned,
        "odd": videos.write(folder / "odd.mkv", video[:, :47, :79], codec="ffv1", pixels="bgr0"),
        "uneven": videos.write(folder / "uneven.mp4", video, times=UNEVEN),
        # the clock starts again in frame 6, so frames are counted
        "joined": videos.write(
            folder / "joined.mkv",
            video,
            codec="ffv1",
            pixels="bgr0",
            times=[*range(0, 600, 100), 20_000, 20_100, 20_200, 20_300],
        ),
    }


@pytest.mark.parametrize("name", ["plain", "turned", "odd", "uneven", "joined"])
@pytest.mark.parametrize("options", [{}, {"fps": 5}, {"start": 0.3, "frames": 5}, {"max_side": 40}], ids=str)
def test_windows_of_a_file_are_the_parts_of_the_whole(files, name, options):
    whole, stream = read_video(files[name], **options), FileFrames(files[name], **options)
    count = len(whole.frames)
    assert np.array_equal(stream.times, whole.times)
    assert (stream.fps, stream.notes, stream.info) == (whole.fps, whole.notes, whole.info)
    assert stream.shown_size == whole.frames.shape[2:0:-1]
    for first, stop in [(0, 3), (2, count), (1, 2), (0, count), (count - 1, count), (0, 1), (1, count)]:
        assert np.array_equal(stream.read(first, stop), whole.frames[first:stop])


def test_a_file_that_lost_frames_since_it_was_opened_is_an_error(tmp_path):
    path = videos.write(tmp_path / "v.mp4", videos.noise(8, 32, 32))
    stream = FileFrames(path)
    videos.write(path, videos.noise(4, 32, 32))
    with pytest.raises(UsageError, match=r"v\.mp4 was changed while it was read"):
        stream.read(0, 8)


def test_later_frames_are_reached_in_the_same_pass(files, monkeypatch):
    whole, stream, opened = read_video(files["plain"]).frames, FileFrames(files["plain"]), []
    open_video = frame_stream.files.open_video
    monkeypatch.setattr(frame_stream.files, "open_video", lambda path: opened.append(path) or open_video(path))
    for first in (0, 3, 4, 8):
        assert np.array_equal(stream.read(first, first + 1), whole[first : first + 1])
    assert len(opened) == 1
    assert np.array_equal(stream.read(2, 4), whole[2:4])
    assert len(opened) == 2


def test_earlier_passes_through_a_file_keep_no_decoded_frames(files):
    def count_frames():
        return sum(type(one).__name__ == "VideoFrame" for one in gc.get_objects())

    stream = FileFrames(files["plain"])
    gc.collect()
    before = count_frames()
    gc.disable()
    try:
        for _ in range(6):
            stream.read(4, 6)
            stream.read(0, 1)
        assert count_frames() <= before + 4
    finally:
        gc.enable()


def test_files_that_cannot_be_read_are_refused_as_by_the_reader(tmp_path):
    with pytest.raises(MissingError, match="does not exist"):
        FileFrames(tmp_path / "none.mp4")
    with pytest.raises(UsageError, match="has a single frame"):
        FileFrames(videos.write(tmp_path / "one.mp4", videos.noise(1, 32, 32)))
    with pytest.raises(UsageError, match="at least 1 frame"):
        FileFrames(tmp_path / "none.mp4", frames=0)


def test_an_array_is_read_in_windows_too():
    video = videos.noise(6, 30, 60)
    stream = ArrayFrames(video, 4.0)
    assert np.array_equal(stream.read(2, 5), video[2:5])
    assert stream.times.tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25]
    smaller = ArrayFrames(video, max_side=20)
    assert smaller.read(1, 3).shape == (2, 10, 20, 3)
    assert (smaller.size, smaller.shown_size, smaller.fps) == ((60, 30), (20, 10), 8.0)
