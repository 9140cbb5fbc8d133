"""Stores videos bit for bit (FFV1 in Matroska, RGB), checks them by reading them back, and hashes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from numpy.typing import NDArray

from vcorr.contract.errors import StoreError, UsageError, VcorrError
from vcorr.data.video.container import find_reason
from vcorr.data.video.video_reader import read_video
from vcorr.store.atomic_files import atomic_file

SUFFIX = ".mkv"
_BIT_EXACT = 1 << 23
"""FFmpeg's AV_CODEC_FLAG_BITEXACT: writes no version strings, so that equal videos give equal files."""


def video_hash(video: NDArray[np.uint8]) -> str:
    """Returns the hex SHA-256 of a video (T, H, W, 3) uint8: of its shape, written "T,H,W,3", and its bytes."""
    _check(video)
    return pixels_hash(video)


def pixels_hash(pixels: NDArray[np.uint8]) -> str:
    """Returns the hex SHA-256 of an array of any shape: of its sides, written "T,H,W", and its bytes."""
    digest = hashlib.sha256(",".join(map(str, pixels.shape)).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def write_lossless(path: Path, video: NDArray[np.uint8], fps: float) -> str:
    """Writes a video (T, H, W, 3) uint8 so that `read_lossless` returns the same bytes. Atomic, and checked by reading.

    Returns:
        Its `video_hash`.

    Raises:
        UsageError: the array is no such video, or the frame rate is not positive.
        StoreError: the file cannot be written, or reading it back gives another video.
    """
    expected = video_hash(video)
    if min(video.shape[1:3]) < 2:
        raise UsageError("A video must be at least 2 pixels wide and high: FFV1 knows no smaller ones.")
    with atomic_file(path) as temporary:
        options = {"level": "3", "slices": "4", "slicecrc": "1"}
        encode(temporary, video, fps, codec="ffv1", pixels="bgr0", container="matroska", options=options)
        if video_hash(_read(Path(temporary))) != expected:
            raise StoreError(
                f"{path} differs from what was written to it.", hint="The disk may be damaged. Try another --out."
            )
    return expected


def read_lossless(path: Path, sha256: str = "") -> NDArray[np.uint8]:
    """Reads a video (T, H, W, 3) uint8 that `write_lossless` wrote.

    Raises:
        StoreError: the file is missing or damaged, or its `video_hash` differs from `sha256` (where given).
    """
    try:
        video = _read(path)
    except VcorrError as error:
        raise StoreError(error.message, hint="Delete the file and repeat the command that made it.") from error
    if sha256 and video_hash(video) != sha256:
        raise StoreError(
            f"{path} does not hold the video that was written (its hash is another).",
            hint="Delete the file and repeat the command that made it.",
        )
    return video


def encode(
    path: str,
    video: Iterable[NDArray[np.uint8]],
    fps: float,
    *,
    codec: str,
    pixels: str,
    container: str,
    options: dict[str, str],
) -> None:
    """Encodes frames (H, W, 3) uint8 RGB of one size, at least one, into a file. Takes one frame at a time.

    Raises:
        UsageError: fps is not a positive number, or this PyAV lacks the encoder.
        OSError: the file cannot be written.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise UsageError(f"A video needs a positive frame rate, got {fps}.")
    frames = iter(video)
    first = next(frames)
    flags = {"fflags": "+bitexact", **({"movflags": "+faststart"} if container == "mp4" else {})}
    try:
        with av.open(path, "w", format=container, container_options=flags) as out:
            stream = _add_stream(out, codec, fps)
            stream.height, stream.width = first.shape[:2]
            stream.pix_fmt, stream.options = pixels, options
            stream.codec_context.flags |= _BIT_EXACT
            for frame in chain([first], frames):
                image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                out.mux(stream.encode(image))
            out.mux(stream.encode())
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise OSError(error.errno, find_reason(error)) from error


def _add_stream(out: Any, codec: str, fps: float) -> Any:
    try:
        return out.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
    except UnknownCodecError as error:
        raise UsageError(f"This PyAV has no encoder {codec}.", hint="Install the wheel: pip install av") from error


def _read(path: Path) -> NDArray[np.uint8]:
    # without the usual limit on memory: a stored video is always read whole
    return read_video(path, frames=1 << 31, min_frames=1).frames


def _check(video: NDArray[np.uint8]) -> None:
    if video.ndim != 4 or video.shape[3] != 3 or video.dtype != np.uint8 or not video.size:
        raise UsageError(f"A video is a uint8 array of shape (T, H, W, 3), got {video.dtype} {video.shape}.")
