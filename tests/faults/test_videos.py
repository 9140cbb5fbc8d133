"""Drawn videos: every codec, container, rate and orientation comes back as it was, and damage is never silent."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from av.video.stream import VideoStream
from hypothesis import given
from hypothesis import strategies as st
from support import videos
from support.scale import draw_cases

import vcorr
from vcorr.contract.errors import VcorrError
from vcorr.data.video import ReadVideo

FRAMES, HEIGHT, WIDTH = 12, 48, 64

PIXELS = {
    "libx264": "yuv420p",
    "mpeg4": "yuv420p",
    "ffv1": "yuv444p",
    "libvpx-vp9": "yuv420p",
    "mjpeg": "yuvj420p",
    "prores_ks": "yuv422p10le",
    "gif": "rgb8",
}
CODECS = {
    "mp4": ("libx264", "mpeg4", "ffv1", "libvpx-vp9", "mjpeg"),
    "mov": ("libx264", "mpeg4", "mjpeg", "prores_ks"),
    "mkv": ("libx264", "mpeg4", "ffv1", "libvpx-vp9", "mjpeg", "prores_ks"),
    "avi": ("libx264", "mpeg4", "ffv1", "libvpx-vp9", "mjpeg"),
    "webm": ("libvpx-vp9",),
    "ts": ("libx264", "mpeg4"),
    "flv": ("libx264", "libvpx-vp9"),
    "gif": ("gif",),
}
"""Containers with the codecs that FFmpeg writes into them."""

TICKS = {"mkv": 1e-3, "webm": 1e-3, "flv": 1e-3, "gif": 1e-2}
"""Seconds to which containers round times; others round to 1/90,000 s at most."""

ORIENTED = ("mp4", "mov", *(("mkv",) if hasattr(VideoStream, "set_display_matrix") else ()))
"""Containers that can be written with a display matrix; Matroska needs PyAV 18."""

EIGHT = [(s, 0, 0, t) for s in (1, -1) for t in (1, -1)] + [(0, s, t, 0) for s in (1, -1) for t in (1, -1)]
RATES = [Fraction(8), Fraction(25), Fraction(24000, 1001), Fraction(30000, 1001), Fraction(60000, 1001)]


@dataclass(frozen=True)
class Kind:
    """How a video is written."""

    container: str
    codec: str
    rate: Fraction = Fraction(10)
    matrix: tuple[int, int, int, int] = EIGHT[0]
    sound: bool = False


KINDS = [Kind(container, codec) for container, codecs in CODECS.items() for codec in codecs]


@st.composite
def kinds(draw) -> Kind:
    base = draw(st.sampled_from(KINDS))
    matrix = draw(st.sampled_from(EIGHT)) if base.container in ORIENTED else EIGHT[0]
    return Kind(base.container, base.codec, draw(st.sampled_from(RATES)), matrix)


@cache
def picture() -> np.ndarray:
    """Returns (T, H, W, 3): four corners of different brightness, and a centre that says the number of the frame."""
    video = np.zeros((FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)
    half = (slice(0, HEIGHT // 2), slice(HEIGHT // 2, HEIGHT)), (slice(0, WIDTH // 2), slice(WIDTH // 2, WIDTH))
    for n, (rows, columns) in enumerate((r, c) for r in half[0] for c in half[1]):
        video[:, rows, columns] = (40, 90, 150, 210)[n]
    for t in range(FRAMES):
        video[t, 16:32, 16:48] = 10 + 20 * t
    return video


def write(path: Path, kind: Kind) -> Path:
    how = {"fps": kind.rate, "codec": kind.codec, "pixels": PIXELS[kind.codec], "sound": kind.sound}
    if kind.container == "mkv" and kind.matrix != EIGHT[0]:
        return videos.write(path, picture(), **how, matrix=kind.matrix)
    videos.write(path, picture(), **how)
    return path if kind.matrix == EIGHT[0] else videos.orient(path, *kind.matrix)


def show(video: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Returns a video whose stored pixels (x, y) are at (a x + c y, b x + d y), shifted into view."""
    a, b, c, d = matrix
    shown = video if b == c == 0 else video.swapaxes(1, 2)
    across, down = (a or c), (b or d)
    return shown[:, :: 1 if down > 0 else -1, :: 1 if across > 0 else -1]


@draw_cases(24)
@given(kind=kinds())
def test_every_video_comes_back_as_it_was_written(kind):
    with tempfile.TemporaryDirectory() as folder:
        read = vcorr.read_video(write(Path(folder) / f"a.{kind.container}", kind))
    expected = show(picture(), kind.matrix).astype(int)
    assert read.frames.shape == expected.shape
    tolerance = 25 if kind.codec == "gif" else 4  # a GIF has 256 colours here
    assert np.abs(read.frames - expected).mean(axis=(1, 2, 3)).max() < tolerance
    nearest = [int(np.abs(expected - frame).mean(axis=(1, 2, 3)).argmin()) for frame in read.frames]
    assert nearest == list(range(FRAMES))
    assert read.times == pytest.approx(np.arange(FRAMES) / float(kind.rate), abs=TICKS.get(kind.container, 2e-5))
    assert read.fps == pytest.approx(float(kind.rate), rel=0.03 if kind.container == "gif" else 1e-3)
    assert not any("cut off" in note for note in read.notes)


@draw_cases(24)
@given(kind=kinds(), keep=st.integers(1, 4))
def test_a_slower_rate_picks_the_frames_that_are_shown_then(kind, keep):
    """Checks that every frame is `keep` frames after the last one."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / f"a.{kind.container}", kind)
        if kind.container == "gif":
            return  # its ticks of 10 ms move frames across the boundary
        read = vcorr.read_video(path, fps=float(kind.rate) / keep)
    expected = show(picture(), kind.matrix).astype(int)
    nearest = [int(np.abs(expected - frame).mean(axis=(1, 2, 3)).argmin()) for frame in read.frames]
    assert nearest == list(range(0, FRAMES, keep))


@cache
def stored(kind: Kind) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder) / f"a.{kind.container}", kind).read_bytes()


@st.composite
def whole_files(draw) -> tuple[Kind, bytes]:
    base = draw(st.sampled_from(KINDS))
    sound = draw(st.booleans()) and base.container in ("mp4", "mov", "mkv", "ts")
    kind = Kind(base.container, base.codec, sound=sound)
    return kind, stored(kind)


def read_damaged(kind: Kind, content: bytes) -> ReadVideo | None:
    """Returns what is read of a damaged file; None if it is refused with one message that names it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{kind.container}"
        path.write_bytes(content)
        try:
            return vcorr.read_video(path)
        except VcorrError as error:
            said = error.message
    assert path.name in said
    assert "\n" not in said
    return None


@draw_cases(60)
@given(whole=whole_files(), share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_off_is_never_silent(whole, share):
    kind, content = whole
    kept = content[: int(share * len(content))]
    read = read_damaged(kind, kept)
    if kind.container == "ts" and len(kept) % 188 == 0:
        return  # a stream may end after any packet
    if read is not None and len(read.frames) < FRAMES:
        assert read.notes


@draw_cases(60)
@given(
    whole=whole_files(),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=40)), min_size=1),
)
def test_a_damaged_file_is_read_or_refused_with_one_message(whole, damage):
    """Checks that codecs without checksums may show other pixels, and raise no other error."""
    kind, content = whole
    broken = bytearray(content)
    for share, written in damage:
        at = int(share * len(broken))
        broken[at : at + len(written)] = written
    read = read_damaged(kind, bytes(broken))
    assert read is None or len(read.frames) == len(read.times) >= 2


@pytest.mark.parametrize("container", ["mp4", "mkv", "avi"])
def test_titles_in_any_encoding_are_no_error(tmp_path, container):
    content = stored(Kind(container, CODECS[container][0]))
    at = content.index(b"Lavf")
    broken = content[:at] + b"caf\xe9" + content[at + 4 :]
    read = read_damaged(Kind(container, ""), broken)
    assert read is not None
    assert len(read.frames) == FRAMES
