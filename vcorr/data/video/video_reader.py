"""Reads video files of any format: RGB frames, upright, cut to a length, and evenly spaced in time on request.

Whatever was changed or left out is noted in `VideoInfo.notes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.data.video import container as files

MEMORY = 1 << 30
"""Bytes of frames that are read at most when no number of frames is given."""

ASSUMED_FPS = 25.0
"""Frame rate that is assumed for files with neither a rate nor times."""

_EPSILON = 1e-3
"""Tolerance for times in seconds: some containers count in whole milliseconds."""

CUT_OFF = 0.2
"""A file counts as cut off when its frames end earlier than its stated duration by more than this share of it."""

VARIABLE = 0.2
"""A frame rate counts as variable when the gaps between frames differ by more than this share of their median."""


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds, and what reading it changed.

    width, height: size in pixels of the upright frames, before they were made smaller. size: (width, height) of the
    frames that were read. frames: number of frames read. total: number of frames that the file states; 0 if none.
    fps: frame rate of the frames read. stored_fps: frame rate that the file states; 0 if none. more: True if frames
    were left unread. rotation: degrees counterclockwise by which frames were turned. variable_rate: True if the frames
    read are unevenly spaced in time. rate_assumed: True if the file has no frame rate. pixel_aspect: width of a pixel
    divided by its height. promised: stated duration in seconds, if all frames were read and end far earlier; else 0.
    """

    path: Path
    width: int
    height: int
    frames: int
    total: int
    fps: float
    stored_fps: float
    more: bool
    rotation: int
    variable_rate: bool
    rate_assumed: bool
    pixel_aspect: float
    size: tuple[int, int]
    promised: float = 0.0

    def notes(self) -> tuple[str, ...]:
        """Returns what was changed or left out, one sentence each; empty if the video was read as it is."""
        name = self.path.name
        said: list[str] = []
        if self.more:
            total = f" of {self.total}" if self.total > self.frames else ""
            said.append(f"{name}: the first {self.frames}{total} frames were read.")
        if self.stored_fps and self.fps < 0.99 * self.stored_fps and not self.variable_rate:
            said.append(f"{name}: read at {self.fps:g} of its {self.stored_fps:.4g} frames a second.")
        if self.promised:
            said.append(f"{name}: it says it lasts {self.promised:.3g} s, and ends far before that; it may be cut off.")
        if self.rotation:
            said.append(f"{name}: turned upright by {self.rotation} degrees, as its metadata says.")
        if self.size != (self.width, self.height):
            size = "x".join(map(str, self.size))
            said.append(f"{name}: made smaller from {self.width}x{self.height} to {size} while it was read.")
        if self.variable_rate:
            said.append(f"{name}: its frames are unevenly spaced in time; --set data.fps=N reads them evenly.")
        if self.rate_assumed:
            said.append(f"{name}: it has no frame rate; {self.fps:g} frames a second were assumed.")
        if abs(self.pixel_aspect - 1) > 0.01:
            said.append(f"{name}: its pixels are not square ({self.pixel_aspect:.3f} wide); they were read as stored.")
        return tuple(said)


@dataclass(frozen=True)
class ReadVideo:
    """A video in memory. frames: (T, H, W, 3) uint8 RGB. fps: frames per second, the mean where it varies."""

    frames: NDArray[np.uint8]
    fps: float
    info: VideoInfo


@dataclass(frozen=True)
class _Timed:
    """A decoded frame. time: when it is shown, in seconds since the first frame."""

    time: float
    frame: Any


def read_video(
    path: Path | str,
    *,
    max_frames: int | None = None,
    fps: float | None = None,
    start: float = 0.0,
    max_side: int = 0,
    min_frames: int = 2,
) -> ReadVideo:
    """Reads a video file.

    Args:
        path: the file.
        max_frames: reads at most this many frames; None for as many as fit in `MEMORY`.
        fps: keeps the frame that is shown every 1/fps seconds; None keeps every frame.
        start: seconds to skip.
        max_side: makes frames smaller (area filter) if their longer side has more pixels; 0 for any size.
        min_frames: refuses videos with fewer frames.

    Raises:
        MissingError: there is no such file.
        UsageError: the file cannot be read, holds no video or too few frames, or an argument does not fit it.
    """
    path = Path(path)
    _check_arguments(max_frames, fps, start, max_side)
    with files.open_video(path) as (container, stream):
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        if fps and rate and fps > 1.01 * rate:
            raise UsageError(f"{path} has {rate:.4g} frames a second; {fps:g} would repeat frames.")
        timed = _time_frames(files.frames(path, container, stream), rate or ASSUMED_FPS)
        taken = _take(_select(timed, start, fps), max_frames, max_side)
        _check_count(path, len(taken.frames), min_frames, start)
        info = replace(
            _describe(path, stream, taken, fps, rate), promised=_find_missing_end(container, taken, fps or rate)
        )
        return ReadVideo(np.stack(taken.frames), info.fps, info)


def _check_arguments(max_frames: int | None, fps: float | None, start: float, max_side: int) -> None:
    if max_frames is not None and max_frames < 1:
        raise UsageError(f"A video is read with at least 1 frame, got {max_frames}.")
    if fps is not None and not (np.isfinite(fps) and fps > 0):
        raise UsageError(f"The frame rate must be a positive number, got {fps}.")
    if not (np.isfinite(start) and start >= 0) or max_side < 0:
        raise UsageError(f"start ({start}) and max_side ({max_side}) must be at least 0.")


def _time_frames(decoded: Iterable[Any], rate: float) -> Iterator[_Timed]:
    """Yields frames with the seconds since the first one; where the file has no times, frames are counted at `rate`.

    It never seeks: where a seek lands, and where times then start, differs between containers.
    """
    begin: float | None = None
    for index, frame in enumerate(decoded):
        time = index / rate if frame.time is None else frame.time
        begin = time if begin is None else begin
        yield _Timed(time - begin, frame)


def _select(timed: Iterable[_Timed], start: float, fps: float | None) -> Iterator[_Timed]:
    """Yields the frames from `start` on: all, or the ones shown at start, start + 1/fps, start + 2/fps and so on."""
    late = (one for one in timed if one.time >= start - _EPSILON)
    if fps is None:
        yield from late
        return
    shown: _Timed | None = None
    wanted = 0
    for one in late:
        while shown is not None and start + wanted / fps < one.time - _EPSILON:
            yield shown
            wanted += 1
        shown = one
    if shown is not None and start + wanted / fps <= shown.time + _EPSILON:
        yield shown


@dataclass(frozen=True)
class _Taken:
    """Frames as arrays (H, W, 3), their times in seconds, and what was noticed; size: (width, height)."""

    frames: list[NDArray[np.uint8]]
    times: list[float]
    more: bool
    rotation: int
    size: tuple[int, int]


def _take(chosen: Iterable[_Timed], max_frames: int | None, max_side: int) -> _Taken:
    taken: list[NDArray[np.uint8]] = []
    times: list[float] = []
    rotation, size, more = 0, (0, 0), False
    chosen = iter(chosen)
    for one in chosen:
        rotation = round(getattr(one.frame, "rotation", 0) / 90) * 90
        upright = np.rot90(one.frame.to_ndarray(format="rgb24"), rotation // 90)
        if not taken:
            size = upright.shape[1], upright.shape[0]
        taken.append(_resize(upright, _fit_size(size, max_side)))
        times.append(one.time)
        if len(taken) >= (max_frames or max(2, MEMORY // taken[0].nbytes)):
            more = _has_more(chosen)
            break
    return _Taken(taken, times, more, rotation, size)


def _has_more(chosen: Iterator[_Timed]) -> bool:
    """Returns whether there are further frames. A damaged one counts: it is not needed, so it is no error."""
    try:
        return next(chosen, None) is not None
    except UsageError:
        return True


def _fit_size(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """Returns `size` (width, height) with its longer side at most `max_side`. All frames get the size of the first."""
    if not max_side or max(size) <= max_side:
        return size
    ratio = max_side / max(size)
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


def _resize(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if (frame.shape[1], frame.shape[0]) == size:
        return np.ascontiguousarray(frame)
    return np.asarray(cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _check_count(path: Path, count: int, least: int, start: float) -> None:
    if count >= least:
        return
    after = f" after {start:g} s" if start else ""
    if not count:
        raise UsageError(f"{path} has no frames{after}.")
    raise UsageError(f"{path} has {_count_frames(count)}{after}; correspondence over time needs at least {least}.")


def _count_frames(count: int) -> str:
    return "a single frame" if count == 1 else f"{count} frames"


def _mean_rate(times: list[float], rate: float) -> float:
    """Returns the frame rate of the file, or the mean rate of the frames read where they are unevenly spaced."""
    if rate and not _uneven(times):
        return rate
    span = times[-1] - times[0]
    return (len(times) - 1) / span if span > 0 else rate or ASSUMED_FPS


def _uneven(times: list[float]) -> bool:
    steps = np.diff(times)
    return len(steps) > 1 and bool(np.ptp(steps) > VARIABLE * np.median(steps))


def _find_missing_end(container: Any, taken: _Taken, rate: float) -> float:
    """Returns the stated duration in seconds if the frames end far earlier, else 0.

    FFmpeg reads a file that was cut off up to its end without an error. Files with sound are left out, because sound
    may last longer than the pictures.
    """
    if taken.more or len(container.streams) != 1 or not container.duration:
        return 0.0
    lasts = float(container.duration) / 1e6  # the container counts in microseconds
    ends = taken.times[-1] + 2 / (rate or ASSUMED_FPS)
    return lasts if ends < (1 - CUT_OFF) * lasts else 0.0


def _describe(path: Path, stream: Any, taken: _Taken, fps: float | None, rate: float) -> VideoInfo:
    """Returns the facts about a file that states `rate` frames per second (0: none) and was read at `fps`."""
    return VideoInfo(
        path=path,
        width=taken.size[0],
        height=taken.size[1],
        frames=len(taken.frames),
        total=int(stream.frames or 0),
        fps=float(fps or _mean_rate(taken.times, rate)),
        stored_fps=rate,
        more=taken.more,
        rotation=taken.rotation,
        variable_rate=fps is None and _uneven(taken.times),
        rate_assumed=not rate and not fps,
        pixel_aspect=float(stream.sample_aspect_ratio or 1),
        size=(taken.frames[0].shape[1], taken.frames[0].shape[0]),
    )
