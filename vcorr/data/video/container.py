"""Opens video files and decodes their frames. Every failure has a message that names the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

from vcorr.contract.errors import MissingError, UsageError


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """Yields the PyAV container of a file and its first video stream.

    Raises:
        MissingError: there is no such file.
        UsageError: the file is empty, holds no video, or cannot be read.
    """
    _check_file(path)
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise UsageError(
            f"{path} cannot be read as a video: {find_reason(error)}.", hint="Any format that FFmpeg knows can be read."
        ) from error
    with container:
        yield container, _video_stream(path, container)


def frames(path: Path, container: Any, stream: Any) -> Iterator[Any]:
    """Yields the decoded frames in the order in which they are shown.

    Raises:
        UsageError: the file is damaged; the message says after how many frames.
    """
    decoded = container.decode(stream)
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


def _damage_error(path: Path, count: int, why: str) -> UsageError:
    hint = f"Read what is whole: --set data.frames={count}" if count > 1 else "Encode it again with a video tool."
    return UsageError(f"{path} is damaged after {count} {'frame' if count == 1 else 'frames'}: {why}.", hint=hint)


def find_reason(error: BaseException) -> str:
    """Returns what FFmpeg or the operating system says, without error numbers and file names."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a video file.")
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise MissingError(f"The video {path} does not exist.") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {find_reason(error)}.") from error
    if not size:
        raise UsageError(f"{path} is empty (0 bytes).")


def _video_stream(path: Path, container: Any) -> Any:
    found = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not found:
        kinds = sorted({stream.type for stream in container.streams})
        inside = f"only {' and '.join(kinds)}" if kinds else "nothing else either"
        raise UsageError(f"{path} holds no video, {inside}.")
    if found[0].codec_context is None:
        raise UsageError(f"{path} is in a video format that this FFmpeg cannot decode.")
    found[0].thread_type = "AUTO"
    return found[0]
