"""Reading videos: what is read, which notes are given, and every file that cannot be read."""

import os

import numpy as np
import pytest
from support import videos

from vcorr.contract.errors import MissingError, UsageError
from vcorr.data.video import read_video


def test_all_frames_of_a_small_video(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.numbered(12, 48, 64), fps=10)
    read = read_video(path)
    assert read.frames.shape == (12, 48, 64, 3)
    assert read.frames.dtype == np.uint8
    assert videos.numbers(read.frames) == list(range(12))
    assert read.fps == 10
    assert read.notes == ()


def test_it_is_cut_and_says_so(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.numbered(12, 48, 64))
    read = read_video(path, frames=5)
    assert videos.numbers(read.frames) == [0, 1, 2, 3, 4]
    assert read.notes == ("a.mp4: the first 5 of 12 frames were read.",)


def test_exactly_as_many_frames_as_there_are_is_no_cut(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.numbered(5, 48, 64))
    assert read_video(path, frames=5).notes == ()


def test_a_lower_frame_rate_keeps_what_is_shown_at_its_times(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.numbered(20, 32, 32), fps=20)
    assert videos.numbers(read_video(path, fps=5).frames) == [0, 4, 8, 12, 16]
    assert videos.numbers(read_video(path, fps=15).frames)[:5] == [0, 1, 2, 4, 5]
    assert read_video(path, fps=5).fps == 5
    assert read_video(path, fps=5).notes == ("a.mp4: read at 5 of its 20 frames a second.",)


def test_a_higher_frame_rate_is_refused(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.numbered(4, 32, 32), fps=10)
    with pytest.raises(UsageError, match=r"a\.mp4 has 10 frames a second; 30 would repeat") as caught:
        read_video(path, fps=30)
    assert "at most 10 frames a second" in caught.value.hint


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
def test_it_starts_later(tmp_path, suffix):
    path = videos.write(tmp_path / f"a.{suffix}", videos.numbered(20, 32, 32), fps=10)
    assert videos.numbers(read_video(path, start=0.8, frames=3).frames) == [8, 9, 10]
    assert videos.numbers(read_video(path, start=0.8, fps=5, frames=3).frames) == [8, 10, 12]


def test_a_start_after_the_end_is_refused(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.numbered(10, 32, 32), fps=10)
    with pytest.raises(UsageError, match=r"a\.mp4 has no frames after 5 s"):
        read_video(path, start=5)


def test_a_variable_rate_is_noted_and_can_be_made_even(tmp_path):
    times = [0, 100, 200, 600, 1000, 1100, 1200]
    path = videos.write(tmp_path / "a.mkv", videos.numbered(7, 32, 32), codec="ffv1", pixels="bgr0", times=times)
    read = read_video(path)
    assert len(read.frames) == 7
    assert read.fps == pytest.approx(5)
    assert read.info.variable_rate
    assert "unevenly spaced" in read.notes[0]
    even = read_video(path, fps=5)
    # at 0, 200, 400 … 1200 ms
    assert videos.numbers(even.frames) == [0, 2, 2, 3, 3, 4, 6]
    assert not even.info.variable_rate


@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (-90, (-1, 0))])
def test_rotation_metadata_is_respected(tmp_path, degrees, corner):
    video = np.zeros((3, 32, 64, 3), dtype=np.uint8)
    video[:, :8, :8] = 255  # top left: top right after a clockwise turn
    path = videos.turn(videos.write(tmp_path / "a.mp4", video), degrees)
    read = read_video(path)
    assert read.frames.shape == (3, 64, 32, 3)
    assert read.frames[0][corner].min() > 200
    assert read.frames[0][0, 0].max() < 50
    assert "turned upright by" in read.notes[0]


@pytest.mark.parametrize("size", [(33, 47), (17, 64), (2, 3)])
def test_odd_sizes(tmp_path, size):
    video = videos.noise(3, *size)
    path = videos.write(tmp_path / "a.mkv", video, codec="ffv1", pixels="bgr0")
    assert np.array_equal(read_video(path).frames, video)


def test_4k_is_made_smaller_where_asked_and_says_so(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.numbered(2, 2160, 3840), codec="mpeg4")
    read = read_video(path, max_side=960)
    assert read.frames.shape == (2, 540, 960, 3)
    matrix, size = read.notes
    assert "names no colour matrix; BT.601 was used" in matrix
    assert size == "a.mp4: made smaller from 3840x2160 to 960x540 while it was read."
    assert read_video(path).frames.shape == (2, 2160, 3840, 3)


def test_no_more_frames_than_fit_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("vcorr.data.video.video_reader.MEMORY", 5 * 32 * 32 * 3)
    path = videos.write(tmp_path / "a.mp4", videos.numbered(9, 32, 32))
    assert len(read_video(path).frames) == 5
    assert len(read_video(path, frames=7).frames) == 7


def test_a_missing_file(tmp_path):
    with pytest.raises(MissingError, match=r"no\.mp4 does not exist"):
        read_video(tmp_path / "no.mp4")


def test_a_folder(tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        read_video(tmp_path)


def test_an_empty_file(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(UsageError, match=r"a\.mp4 is empty \(0 bytes\)"):
        read_video(tmp_path / "a.mp4")


@pytest.mark.parametrize("data", [b"hello, I am no video\n" * 50, os.urandom(5000)])
def test_no_video_at_all(tmp_path, data):
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(UsageError, match=r"a\.mp4 cannot be read as a video"):
        read_video(tmp_path / "a.mp4")


def test_only_sound(tmp_path):
    with pytest.raises(UsageError, match=r"a\.wav holds no video, only audio"):
        read_video(videos.write_sound(tmp_path / "a.wav"))


def test_one_frame(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.numbered(1, 32, 32))
    with pytest.raises(UsageError, match=r"a\.mp4 has a single frame"):
        read_video(path)
    assert len(read_video(path, min_frames=1).frames) == 1


def test_a_picture_is_one_frame(tmp_path):
    path = videos.write(tmp_path / "a.png", videos.noise(1, 32, 32), codec="png", pixels="rgb24")
    with pytest.raises(UsageError, match=r"a\.png has a single frame"):
        read_video(path)


def test_damage_in_the_middle_names_the_frame(tmp_path):
    path = videos.write(tmp_path / "a.avi", videos.noise(20, 64, 64), codec="mpeg4")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match=r"a\.avi is damaged after [2-9] frames") as caught:
        read_video(path)
    assert "data.frames=" in caught.value.hint
    whole = int(caught.value.hint.rsplit("=")[-1])
    assert len(read_video(path, frames=whole).frames) == whole


@pytest.mark.parametrize("arguments", [{"frames": 0}, {"fps": 0.0}, {"fps": float("nan")}, {"start": -1.0}])
def test_arguments_out_of_range(tmp_path, arguments):
    path = videos.write(tmp_path / "a.mp4", videos.numbered(3, 32, 32))
    with pytest.raises(UsageError):
        read_video(path, **arguments)


def test_a_file_that_was_cut_off_is_noted(tmp_path):
    path = videos.write(tmp_path / "whole.mkv", videos.noise(40, 32, 32))
    assert read_video(path).notes == ()
    data = path.read_bytes()
    short = tmp_path / "short.mkv"
    short.write_bytes(data[: len(data) // 2])
    read = read_video(short)
    (note,) = read.notes
    assert note.startswith("short.mkv: its header says ")
    assert note.endswith("but it ends much earlier; it may be cut off.")
    assert 10 < len(read.frames) < 30
    asked_for = read_video(short, frames=5).info
    assert not asked_for.promised


def test_a_slower_rate_gives_no_number_of_frames_to_compare_with(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.numbered(12, 48, 64), fps=10)
    assert read_video(path, fps=5, frames=3).notes == (
        "a.mp4: the first 3 frames were read.",
        "a.mp4: read at 5 of its 10 frames a second.",
    )
