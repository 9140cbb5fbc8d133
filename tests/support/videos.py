"""Small video files for tests, made with PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def noise(frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def numbered(frames: int, height: int, width: int) -> np.ndarray:
    """Returns a video whose frame t is uniform with value 10 t, so that frames stay distinct after compression."""
    video = np.zeros((frames, height, width, 3), dtype=np.uint8)
    video += (10 * np.arange(frames, dtype=np.uint8))[:, None, None, None]
    return video


def numbers(video: np.ndarray) -> list[int]:
    """Which frames of `numbered` a video shows."""
    return [round(float(frame.mean()) / 10) for frame in video]


def write(
    path: Path,
    video: np.ndarray,
    *,
    fps: float = 10,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: list[int] | None = None,
    options: dict[str, str] | None = None,
    tags: dict[str, int] | None = None,
    sound: bool = False,
    container: str | None = None,
    matrix: tuple[float, float, float, float] | None = None,
) -> Path:
    """Writes a video.

    `times` are the milliseconds of its frames, for a variable rate. `tags` are attributes of the codec, such as
    colorspace. `sound` adds a silent track as long as the video. `container` is the
    format, if the suffix does not say it. `matrix` is the display matrix, as in `orient`, which PyAV writes from 18 on.
    """
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = *video.shape[1:3], pixels
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        stream.options = options or {}
        if matrix:
            a, b, c, d = (round(value * (1 << 16)) for value in matrix)
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if sound:
            _add_sound(out, len(video) / fps)
        for index, array in enumerate(video):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def write_sound(path: Path) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        frame.rate = 8000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def _add_sound(out: av.container.OutputContainer, seconds: float) -> None:
    stream = out.add_stream("aac", rate=8000)
    for start in range(0, round(seconds * 8000), 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts, frame.time_base = 8000, start, Fraction(1, 8000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode())


def orient(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """Sets the display matrix of an mp4 or mov: a stored pixel (x, y) is shown at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    numbers = [round(value * (1 << 16)) for value in (a, b, 0, c, d)]
    data[at : at + 20] = b"".join(number.to_bytes(4, "big", signed=True) for number in numbers)
    path.write_bytes(bytes(data))
    return path


def turn(path: Path, degrees: int) -> Path:
    """Sets the display matrix of an mp4's track header so that players turn it by 90 degrees clockwise, or back."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one, minus = (1 << 16).to_bytes(4, "big"), (-(1 << 16)).to_bytes(4, "big", signed=True)
    zero = bytes(4)
    first, second = (one, minus) if degrees == 90 else (minus, one)
    data[matrix : matrix + 20] = zero + first + zero + second + zero
    path.write_bytes(bytes(data))
    return path
