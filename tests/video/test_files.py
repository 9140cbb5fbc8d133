"""Files: names that are only names, which stream is read, and messages that say what is wrong with a file."""

import os

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import videos

import vcorr
from vcorr.contract.errors import UsageError
from vcorr.data.video import read_video
from vcorr.data.video.container import OpenVideo, frames, open_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return videos.write(tmp_path_factory.mktemp("clip") / "a.mp4", videos.numbered(4, 32, 32))


@settings(deadline=None, max_examples=40)
@given(name=st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
def test_any_name_is_a_name(clip, name):
    with_suffix = f"{name[:40]}.mp4"
    folder = clip.parent / "names"
    folder.mkdir(exist_ok=True)
    path = folder / with_suffix
    path.write_bytes(clip.read_bytes())
    assert videos.numbers(read_video(path).frames) == [0, 1, 2, 3]
    path.unlink()


@pytest.mark.parametrize("name", ["http:a.mp4", "take:2.mp4", "concat:a.mp4|b.mp4", "file:a.mp4", "%03d.mp4", "-i.mp4"])
def test_a_relative_name_with_a_colon_is_no_address(clip, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(clip.read_bytes())
    assert len(read_video(name).frames) == 4


def test_a_name_that_is_not_utf8_is_read_and_shown(clip, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    with open(path, "wb") as file:
        file.write(clip.read_bytes())
    read = read_video(path, frames=2)
    assert read.notes == (r"caf\xe9.mp4: the first 2 of 4 frames were read.",)
    with pytest.raises(UsageError, match=r"caf\\xe9\.mp4 has 10 frames a second"):
        read_video(path, fps=50)


@pytest.mark.parametrize("suffix", [".m3u8", ".mp4", ".txt", ""])
@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
        "\ufeff#EXTM3U\n{}\n",
        "ffconcat version 1.0\nfile '{}'\n",
        '<?xml version="1.0"?><MPD profiles="urn:mpeg:dash:profile:isoff-live:2011"><BaseURL>{}</BaseURL></MPD>',
    ],
)
def test_a_playlist_is_refused_whatever_its_suffix(clip, tmp_path, suffix, text):
    path = tmp_path / f"list{suffix}"
    path.write_text(text.format(clip), encoding="utf-8")
    with pytest.raises(UsageError, match="is a playlist: it names other files"):
        read_video(path)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(UsageError, match="is a pipe or a device"):
        read_video(tmp_path / "a.mp4")


@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_file_that_was_cut_off_is_reported_with_and_without_sound(tmp_path, sound, suffix):
    path = videos.write(tmp_path / f"whole{suffix}", videos.noise(40, 32, 32), sound=sound)
    assert read_video(path).notes == ()
    data = path.read_bytes()
    if suffix == ".mp4":  # the index is at the end: it is kept and only frames are lost
        path = _keep_index(data, tmp_path / "short.mp4")
    else:
        path = tmp_path / "short.mkv"
        path.write_bytes(data[: len(data) // 2])
    read = read_video(path)
    assert len(read.frames) < 30
    assert any("may be cut off" in note for note in read.notes)


def _keep_index(data, path):
    """Writes an mp4 with its index in front, as of a whole file, and half of the frames."""
    with av.open(str(path.with_name("source.mp4")), "w", options={"movflags": "+faststart"}) as out:
        path.with_name("whole-again.mp4").write_bytes(data)
        with av.open(str(path.with_name("whole-again.mp4"))) as source:
            streams = {stream.index: out.add_stream_from_template(stream) for stream in source.streams}
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream.index]
                    out.mux(packet)
    front = path.with_name("source.mp4").read_bytes()
    assert front.index(b"moov") < front.index(b"mdat")
    with av.open(str(path.with_name("source.mp4"))) as source:
        begins = sorted(packet.pos for packet in source.demux(video=0) if packet.size)
    path.write_bytes(front[: begins[20]])
    return path


def test_a_copy_that_stopped_before_its_index_is_named(clip, tmp_path):
    data = clip.read_bytes()
    short = tmp_path / "short.mp4"
    short.write_bytes(data[: data.index(b"moov") - 20])
    with pytest.raises(UsageError, match=r"short\.mp4 is cut off: its index .* is missing") as caught:
        read_video(short)
    assert "Copy the file again" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "pointer of Git LFS"),
        (bytes(9000), "begins with zeros only"),
    ],
)
def test_files_that_are_something_else_are_named(tmp_path, data, reason):
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(UsageError, match=reason):
        read_video(tmp_path / "a.mp4")


def _write_two(path, sizes, default, *, cover=()):
    """Writes several video streams; number `default` is the default one, and those in `cover` are cover pictures."""
    with av.open(str(path), "w") as out:
        streams = []
        for index, side in enumerate(sizes):
            stream = out.add_stream("mjpeg" if index in cover else "libx264", rate=10)
            stream.height = stream.width = side
            stream.pix_fmt = "yuvj420p" if index in cover else "yuv420p"
            stream.disposition = 0x400 if index in cover else int(index == default)
            streams.append(stream)
        for index, stream in enumerate(streams):
            video = videos.numbered(1 if index in cover else 4, sizes[index], sizes[index])
            for image in video:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(stream.encode())
    return path


@pytest.mark.parametrize("default", [0, 1, 2])
def test_the_default_video_is_read_and_named(tmp_path, default):
    sizes = [32, 64, 48]
    read = read_video(_write_two(tmp_path / "a.mkv", sizes, default))
    assert read.frames.shape[1] == sizes[default]
    side = sizes[default]
    assert read.notes == (f"a.mkv: it holds 3 videos; number {default + 1} was read, the default one ({side}x{side}).",)


def test_a_cover_is_never_read(tmp_path):
    read = read_video(_write_two(tmp_path / "a.mp4", [96, 32], 1, cover={0}))
    assert (len(read.frames), read.frames.shape[1], read.notes) == (4, 32, ())


def test_a_file_with_only_a_cover_is_refused(tmp_path):
    path = _write_two(tmp_path / "a.mp4", [32], -1, cover={0})
    with pytest.raises(UsageError, match="holds no video, only a cover picture"):
        read_video(path)


def test_the_reader_is_public_and_has_the_members_of_the_contract(clip):
    read = vcorr.read_video(str(clip), fps=5, start=0.1, frames=2)
    assert videos.numbers(read.frames) == [1, 3]
    assert (read.frames.dtype, read.fps, read.times.shape) == (np.uint8, 5, (2,))
    assert read.notes == ("a.mp4: read at 5 of its 10 frames a second.",)


def declare_gif(width, height, frames):
    """Returns a GIF that declares a size, with pictures of one pixel."""
    size = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    picture = b"!\xf9\x04\x04\x0a\0\0\0" + b"," + bytes(4) + b"\x01\0\x01\0\0" + b"\x02\x02\x44\x01\0"
    return b"GIF89a" + size + b"\x80\0\0" + b"\0\0\0\xff\xff\xff" + picture * frames + b";"


def test_a_declared_size_is_refused_before_memory_is_taken(tmp_path):
    path = tmp_path / "a.gif"
    path.write_bytes(declare_gif(12000, 12000, 17))
    assert path.stat().st_size < 500
    with pytest.raises(UsageError, match=r"a\.gif declares frames of 12000x12000 pixels; .* at most 67 million"):
        read_video(path)
    path.write_bytes(declare_gif(200, 100, 17))
    assert read_video(path).frames.shape == (17, 100, 200, 3)


def test_frames_that_grow_beyond_what_is_read_are_an_error(tmp_path, monkeypatch):
    path = videos.write(tmp_path / "a.mp4", videos.noise(3, 64, 64))
    monkeypatch.setattr("vcorr.data.video.container._check_size", lambda path, stream: None)
    monkeypatch.setattr("vcorr.data.video.container.MOST_PIXELS", 1000)
    with pytest.raises(UsageError, match=r"a\.mp4 is damaged after 0 frames"):
        read_video(path)


class LateStreams:
    """A container whose loop fails after the last packet, as PyAV's does for streams that begin in the middle."""

    def __init__(self, container):
        self.container = container

    def demux(self, stream):
        yield from self.container.demux(stream)
        raise IndexError("list index out of range")

    def decode(self, stream):
        for packet in self.demux(stream):
            yield from packet.decode()


def test_a_stream_that_begins_in_the_middle_is_no_error(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.numbered(12, 48, 64))
    with open_video(path) as opened:
        late = OpenVideo(LateStreams(opened.container), opened.stream, "")
        assert len(list(frames(path, late))) == 12
