"""Reading any video: frames as RGB, upright, cut, and evenly in time where asked for; what was done is told."""

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
"""Bytes of frames read when no number of frames is given."""

ASSUMED_FPS = 25.0
"""Frame rate of files that tell neither a rate nor times."""

_EPSILON = 1e-3
"""Seconds by which times may be off: containers count in milliseconds."""

CUT_OFF = 0.2
"""A file is called cut off when its frames end by more than this share before the time it says it lasts."""

VARIABLE = 0.2
"""A frame rate is called variable when frame times differ by more than this share of their median."""


@dataclass(frozen=True)
class VideoInfo:
    """What a file held and what was done on reading it.

    width, height: of the upright frames before they were made smaller, pixels. frames: read. total: in the file as it
    says itself, 0 when it does not. fps: of the frames read. stored_fps: of the file, 0 when it does not say.
    more: there were frames left. rotation: degrees counterclockwise they were turned by. variable_rate: the frames read
    are unevenly spaced in time. rate_assumed: the file has no frame rate. pixel_aspect: width of a pixel over its
    height. size: (width, height) of the frames as read. promised: seconds the file says it lasts where its frames, all
    of them read, end far before that; else 0.
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
        """What a reader of the results should know, one sentence each; empty when the video was read as it is."""
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
    """A video in memory. frames: (T, H, W, 3) uint8 RGB. fps: frames a second, the mean where it varies."""

    frames: NDArray[np.uint8]
    fps: float
    info: VideoInfo


@dataclass(frozen=True)
class _Timed:
    """A decoded frame and the seconds since the first one at which it is shown."""

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
        path: of the file.
        max_frames: read at most so many; None for as many as fit in `MEMORY`.
        fps: keep the frame that is shown at every 1/fps seconds; None keeps every frame as it is stored.
        start: seconds to skip.
        max_side: frames whose longer side has more pixels are made smaller (area filter); 0 for any size.
        min_frames: fewer are refused.

    Raises:
        MissingError: there is no such file.
        UsageError: the file cannot be read, holds no video or too few frames, or an argument does not fit it.
    """
    path = Path(path)
    _check_arguments(max_frames, fps, start, max_side)
    with files.opened(path) as (container, stream):
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        if fps and rate and fps > 1.01 * rate:
            raise UsageError(f"{path} has {rate:.4g} frames a second; {fps:g} would repeat frames.")
        timed = _timed(files.frames(path, container, stream), rate or ASSUMED_FPS)
        taken = _take(_chosen(timed, start, fps), max_frames, max_side)
        _check_count(path, len(taken.frames), min_frames, start)
        info = replace(_info(path, stream, taken, fps, rate), promised=_promised(container, taken, fps or rate))
        return ReadVideo(np.stack(taken.frames), info.fps, info)


def _check_arguments(max_frames: int | None, fps: float | None, start: float, max_side: int) -> None:
    if max_frames is not None and max_frames < 1:
        raise UsageError(f"A video is read with at least 1 frame, got {max_frames}.")
    if fps is not None and not (np.isfinite(fps) and fps > 0):
        raise UsageError(f"The frame rate must be a positive number, got {fps}.")
    if not (np.isfinite(start) and start >= 0) or max_side < 0:
        raise UsageError(f"start ({start}) and max_side ({max_side}) must be at least 0.")


def _timed(decoded: Iterable[Any], rate: float) -> Iterator[_Timed]:
    """Frames with their times since the first one; counted at `rate` where the file has no times.

    Nothing is skipped by seeking: where a seek lands, and what the times then count from, differs by container.
    """
    begin: float | None = None
    for index, frame in enumerate(decoded):
        time = index / rate if frame.time is None else frame.time
        begin = time if begin is None else begin
        yield _Timed(time - begin, frame)


def _chosen(timed: Iterable[_Timed], start: float, fps: float | None) -> Iterator[_Timed]:
    """The frames from `start` on: all of them, or those shown at start, start + 1/fps, start + 2/fps and on."""
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
    """Frames as arrays (H, W, 3), their times in seconds, and what was found on the way; size: (width, height)."""

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
        taken.append(_resized(upright, _target(size, max_side)))
        times.append(one.time)
        if len(taken) >= (max_frames or max(2, MEMORY // taken[0].nbytes)):
            more = _goes_on(chosen)
            break
    return _Taken(taken, times, more, rotation, size)


def _goes_on(chosen: Iterator[_Timed]) -> bool:
    """Whether there are further frames; a damaged one counts, but nobody has asked for it."""
    try:
        return next(chosen, None) is not None
    except UsageError:
        return True


def _target(size: tuple[int, int], max_side: int) -> tuple[int, int]:
    """`size` (width, height) with its longer side at most `max_side`; every frame gets the size of the first."""
    if not max_side or max(size) <= max_side:
        return size
    ratio = max_side / max(size)
    return max(1, round(size[0] * ratio)), max(1, round(size[1] * ratio))


def _resized(frame: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if (frame.shape[1], frame.shape[0]) == size:
        return np.ascontiguousarray(frame)
    return np.asarray(cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _check_count(path: Path, count: int, least: int, start: float) -> None:
    if count >= least:
        return
    after = f" after {start:g} s" if start else ""
    if not count:
        raise UsageError(f"{path} has no frames{after}.")
    raise UsageError(f"{path} has {_frames(count)}{after}; correspondence over time needs at least {least}.")


def _frames(count: int) -> str:
    return "a single frame" if count == 1 else f"{count} frames"


def _mean_rate(times: list[float], rate: float) -> float:
    """The file's frame rate, or that of the frames read where they are unevenly spaced."""
    if rate and not _uneven(times):
        return rate
    span = times[-1] - times[0]
    return (len(times) - 1) / span if span > 0 else rate or ASSUMED_FPS


def _uneven(times: list[float]) -> bool:
    steps = np.diff(times)
    return len(steps) > 1 and bool(np.ptp(steps) > VARIABLE * np.median(steps))


def _promised(container: Any, taken: _Taken, rate: float) -> float:
    """The seconds a file says it lasts, where its frames end far before; 0 elsewhere.

    A file that was cut off is read to where it ends without an error. Sound may well outlast the pictures.
    """
    if taken.more or len(container.streams) != 1 or not container.duration:
        return 0.0
    lasts = float(container.duration) / 1e6  # the container counts in microseconds
    ends = taken.times[-1] + 2 / (rate or ASSUMED_FPS)
    return lasts if ends < (1 - CUT_OFF) * lasts else 0.0


def _info(path: Path, stream: Any, taken: _Taken, fps: float | None, rate: float) -> VideoInfo:
    """What is told of a file that says it has `rate` frames a second (0: it does not) and was read at `fps`."""
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
