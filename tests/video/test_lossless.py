"""Videos kept bit-exactly."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import videos

from vcorr.contract.errors import StoreError, UsageError
from vcorr.data.video import read_lossless, read_video, video_hash, write_lossless
from vcorr.data.video.lossless import encode


@settings(max_examples=12, deadline=None, derandomize=True)
@given(frames=st.integers(1, 4), height=st.integers(2, 40), width=st.integers(2, 40))
def test_noise_of_any_size_comes_back_bit_for_bit(tmp_path_factory, frames, height, width):
    path = tmp_path_factory.mktemp("kept") / "v.mkv"
    video = videos.noise(frames, height, width)
    sha = write_lossless(path, video, 8)
    assert np.array_equal(read_lossless(path, sha), video)


@pytest.mark.parametrize("fps", [8, 30, 23.976, 29.97, 7.5])
def test_the_frame_rate_is_kept(tmp_path, fps):
    write_lossless(tmp_path / "v.mkv", videos.noise(5, 16, 16), fps)
    assert read_video(tmp_path / "v.mkv").fps == pytest.approx(fps, rel=1e-3)


def test_every_colour_survives(tmp_path):
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, 52, -1, 3)
    write_lossless(tmp_path / "v.mkv", colours, 8)
    assert np.array_equal(read_lossless(tmp_path / "v.mkv"), colours)


def test_views_with_strides_are_written_as_they_look(tmp_path):
    video = videos.noise(4, 20, 30)[::-1, ::2, ::-1]
    write_lossless(tmp_path / "v.mkv", video, 8)
    assert np.array_equal(read_lossless(tmp_path / "v.mkv"), video)


def test_the_same_video_is_the_same_file(tmp_path):
    for name in ("a", "b"):
        write_lossless(tmp_path / f"{name}.mkv", videos.noise(3, 16, 16), 8)
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


def test_the_hash_is_of_shape_and_bytes():
    video = videos.noise(2, 3, 5)
    assert video_hash(video) == hashlib.sha256(b"2,3,5,3" + video.tobytes()).hexdigest()
    assert video_hash(video) != video_hash(video.reshape(2, 5, 3, 3))


def test_what_is_written_is_read_back_before_it_counts(tmp_path, monkeypatch):
    monkeypatch.setattr("vcorr.data.video.lossless._read", lambda path: videos.noise(2, 16, 16, seed=9))
    with pytest.raises(StoreError, match="differs from what was written to it"):
        write_lossless(tmp_path / "v.mkv", videos.noise(2, 16, 16), 8)
    assert list(tmp_path.iterdir()) == []


def test_another_video_in_its_place_is_noticed(tmp_path):
    sha = write_lossless(tmp_path / "v.mkv", videos.noise(2, 16, 16), 8)
    write_lossless(tmp_path / "v.mkv", videos.noise(2, 16, 16, seed=1), 8)
    with pytest.raises(StoreError, match="its hash is another"):
        read_lossless(tmp_path / "v.mkv", sha)


def test_damage_in_the_middle_is_noticed(tmp_path):
    sha = write_lossless(tmp_path / "v.mkv", videos.noise(8, 64, 64), 8)
    data = bytearray((tmp_path / "v.mkv").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "v.mkv").write_bytes(bytes(data))
    with pytest.raises(StoreError, match=r"v\.mkv"):
        read_lossless(tmp_path / "v.mkv", sha)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(StoreError, match="does not exist"):
        read_lossless(tmp_path / "v.mkv")
    (tmp_path / "v.mkv").write_bytes(b"no")
    with pytest.raises(StoreError, match="cannot be read"):
        read_lossless(tmp_path / "v.mkv")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(StoreError, match="cannot be written"):
        write_lossless(tmp_path / "no" / "v.mkv", videos.noise(2, 16, 16), 8)


@pytest.mark.parametrize(
    "video",
    [
        np.zeros((2, 4, 4, 3)),
        np.zeros((2, 4, 4), np.uint8),
        np.zeros((0, 4, 4, 3), np.uint8),
        np.zeros((2, 4, 1, 3), np.uint8),
        np.zeros((2, 1, 4, 3), np.uint8),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, video):
    with pytest.raises(UsageError, match=r"uint8 array of shape|2 pixels wide"):
        write_lossless(tmp_path / "v.mkv", video, 8)


def test_no_frame_rate_is_refused(tmp_path):
    with pytest.raises(UsageError, match="frame rate"):
        write_lossless(tmp_path / "v.mkv", videos.noise(2, 16, 16), 0)
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_pyav_lacks_is_named(tmp_path):
    how = {"codec": "no-such", "pixels": "yuv420p", "container": "mp4", "options": {}}
    with pytest.raises(UsageError, match="This PyAV has no encoder no-such"):
        encode(str(tmp_path / "a.mp4"), videos.noise(2, 8, 8), 10, **how)
