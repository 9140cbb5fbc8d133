"""Opens video files and decodes their frames. Every failure has a message that names the file."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from vcorr.contract.errors import MissingError, UsageError
from vcorr.data.video.file_heads import explain_head, refuse_playlist
from vcorr.data.video_names import show_name

_NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
"""Streams that show a cover or previews, not the video."""

MOST_PIXELS = 1 << 26
"""Pixels per frame that are read at most (8192 x 8192). A file of a few bytes can declare any size."""

_PLAYLISTS = {"hls", "dash", "concat", "concatf", "imf", "sdp", "rtsp"}
"""FFmpeg's readers of files that only name other files or addresses."""


@dataclass(frozen=True)
class OpenVideo:
    """An open file. container, stream: PyAV's objects. choice: which of several streams it is, in words; else ""."""

    container: Any
    stream: Any
    choice: str


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[OpenVideo]:
    """Yields an open file and the video stream to read: the default one, or the largest of several.

    The path is a name of a file and never an address, whatever it contains.

    Raises:
        MissingError: there is no such file.
        UsageError: the file is empty, holds no video, is a playlist, or cannot be read.
    """
    _check_file(path)
    refuse_playlist(path, show_name(path))
    try:
        # metadata are not read as text, so titles in any encoding are taken as they are
        container = av.open(
            f"file:{os.fspath(path)}",
            container_options={"protocol_whitelist": "file"},
            metadata_errors="backslashreplace",
        )
    except (av.FFmpegError, OSError) as error:
        raise _open_error(path, error) from error
    with container:
        _refuse_other_files(path, container)
        yield _choose_stream(path, container)


def frames(path: Path, opened: OpenVideo) -> Iterator[Any]:
    """Yields the decoded frames in the order in which they are shown.

    Raises:
        UsageError: the file is damaged; the message says after how many frames.
    """
    decoded = _decode(opened)
    count = 0
    while True:
        try:
            frame = next(decoded)
        except StopIteration:
            return
        except (av.FFmpegError, OSError) as error:
            raise _damage_error(path, count, find_reason(error)) from error
        if getattr(frame, "is_corrupt", False):
            raise _damage_error(path, count, "the next one does not decode cleanly")
        count += 1
        yield frame


def _decode(opened: OpenVideo) -> Iterator[Any]:
    """Yields the frames of the stream.

    PyAV's own loop goes on to streams that begin in the middle of a file, which it does not know, and fails there.
    """
    for packet in opened.container.demux(opened.stream):
        yield from packet.decode()
        if not packet.size and packet.dts is None:
            return  # the empty packet at the end, which makes the decoder return its last frames


def find_reason(error: BaseException) -> str:
    """Returns what FFmpeg or the operating system says, without error numbers and file names."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")


def _damage_error(path: Path, count: int, why: str) -> UsageError:
    if not count and (known := explain_head(path)):
        return UsageError(f"{show_name(path)} {known[0]}.", hint=known[1])
    hint = f"Read what is whole: --set data.frames={count}" if count > 1 else "Encode it again with a video tool."
    counted = f"{count} {'frame' if count == 1 else 'frames'}"
    return UsageError(f"{show_name(path)} is damaged after {counted}: {why}.", hint=hint)


def _open_error(path: Path, error: BaseException) -> UsageError:
    if known := explain_head(path):
        return UsageError(f"{show_name(path)} {known[0]}.", hint=known[1])
    return UsageError(
        f"{show_name(path)} cannot be read as a video: {find_reason(error)}.",
        hint="Any format that FFmpeg knows can be read.",
    )


def _check_file(path: Path) -> None:
    name = show_name(path)
    if os.path.isdir(path):
        raise UsageError(f"{name} is a folder, not a video file.")
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise MissingError(f"The video {name} does not exist.") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{name!r} cannot be read: {find_reason(error)}.") from error
    if not stat.S_ISREG(found.st_mode):
        raise UsageError(f"{name} is a pipe or a device, not a video file.")
    if not found.st_size:
        raise UsageError(f"{name} is empty (0 bytes).")


def _refuse_other_files(path: Path, container: Any) -> None:
    kinds = set(container.format.name.split(","))
    if kinds & _PLAYLISTS:
        raise UsageError(
            f"{show_name(path)} names other files ({container.format.name}); it holds no video itself.",
            hint="Name the video file.",
        )


def _choose_stream(path: Path, container: Any) -> OpenVideo:
    found = [s for s in container.streams.video if not s.disposition & _NO_VIDEO]
    if not found:
        raise UsageError(f"{show_name(path)} holds no video, {_say_content(container)}.")
    readable = [s for s in found if s.codec_context is not None]
    if not readable:
        raise UsageError(f"{show_name(path)} is in a video format that this FFmpeg cannot decode.")
    chosen = max(readable, key=lambda s: (bool(s.disposition & Disposition.default), s.width * s.height))
    _check_size(path, chosen)
    chosen.thread_type = "AUTO"
    chosen.codec_context.options = {"max_pixels": str(MOST_PIXELS)}  # also for frames that grow later
    choice = ""
    if len(found) > 1:
        kind = "the default one" if chosen.disposition & Disposition.default else "the largest one"
        choice = (
            f"it holds {len(found)} videos; number {found.index(chosen) + 1} was read, {kind} "
            f"({chosen.width}x{chosen.height})"
        )
    return OpenVideo(container, chosen, choice)


def _check_size(path: Path, stream: Any) -> None:
    """Refuses frames that are too large, by the size that the file declares: before any memory is taken for them."""
    if stream.width * stream.height > MOST_PIXELS:
        raise UsageError(
            f"{show_name(path)} declares frames of {stream.width}x{stream.height} pixels; "
            f"frames of at most {MOST_PIXELS / 1e6:.0f} million pixels are read.",
            hint="Encode it again at a smaller size.",
        )


def _say_content(container: Any) -> str:
    kinds = sorted({_say_kind(stream) for stream in container.streams})
    return f"only {' and '.join(kinds)}" if kinds else "nothing else either"


def _say_kind(stream: Any) -> str:
    return "a cover picture" if stream.type == "video" else str(stream.type)
