"""Reads video files of any format: RGB frames, upright, cut to a length, and evenly spaced in time on request.

Whatever was changed, assumed or left out is noted in `ReadVideo.notes`. docs/videos.md explains every step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.data.video import container as files
from vcorr.data.video.clock import (
    ASSUMED_FPS,
    ClockError,
    Rates,
    Timed,
    count_times,
    find_missing_order,
    rates_of,
    read_times,
)
from vcorr.data.video.colour import describe_colour, to_rgb
from vcorr.data.video.file_ends import find_cut
from vcorr.data.video.orientation import orientation_of
from vcorr.data.video_names import show_name

MEMORY = 1 << 30
"""Bytes of frames that are read at most when no number of frames is given."""

_EPSILON = 1e-3
"""Tolerance for times in seconds: some containers count in whole milliseconds."""

CUT_OFF = 0.2
"""A file counts as cut off when this share of its stated duration, or more, is missing at its end."""

EXACT_CUT_OFF = 0.05
"""The same for containers that know the duration of each stream exactly."""

_EXACT = {"mov", "matroska", "avi"}
"""FFmpeg's names of these containers."""

VARIABLE = 0.2
"""A frame rate counts as variable when the gaps between frames differ by more than this share of their median."""

COARSE = 0.4
"""Times are rounded to the file's ticks. Gaps may differ by one tick, if it is below this share of their median."""

SAME_RATE = 0.01
"""Share by which the rate of the frames read may differ from the stated rate, which is then the exact one."""


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds, and what reading it changed.

    width, height: size in pixels of the upright frames, before they were made smaller. size: (width, height) of the
    frames that were read. frames: number of frames read. total: number of frames that the file states; 0 if none.
    fps: frame rate of the frames read. stored_fps: mean frame rate that the file states; 0 if none. more: True if
    frames were left unread. variable_rate: True if the frames read are unevenly spaced in time. rate_assumed: True if
    the file has no frame rate. pixel_aspect: width of a pixel divided by its height. clock: why the file's times were
    not used; "" if they were. repeated: number of frames that repeat the one before. promised: stated duration in
    seconds, if all frames were read and end far earlier; else 0. decoded: number of frames in the file, if all were
    read; else 0. cut: whether all frames were read and the file ends before its structure does. facts: what
    else was changed or assumed, as parts of sentences.
    """

    path: Path
    width: int
    height: int
    frames: int
    total: int
    fps: float
    stored_fps: float
    more: bool
    variable_rate: bool
    rate_assumed: bool
    pixel_aspect: float
    size: tuple[int, int]
    clock: str = ""
    repeated: int = 0
    promised: float = 0.0
    decoded: int = 0
    cut: bool = False
    facts: tuple[str, ...] = ()

    def notes(self) -> tuple[str, ...]:
        """Returns what was changed, assumed or left out, one sentence each; empty if the video was read as it is."""
        name = show_name(self.path.name)
        return tuple(f"{name}: {said}." for said in (*self._say_time(), *self._say_end(), *self._say_picture()))

    def _say_time(self) -> Iterator[str]:
        slower = bool(self.stored_fps) and self.fps < 0.99 * self.stored_fps and not self.variable_rate
        if self.more:
            # at a lower rate, the frames that were read and the frames of the file do not count alike
            total = f" of {self.total}" if self.total > self.frames and not slower else ""
            yield f"the first {self.frames}{total} frames were read"
        if slower:
            yield f"read at {self.fps:g} of its {self.stored_fps:.4g} frames a second"
        if self.clock:
            rate = self.stored_fps or self.fps
            yield f"{self.clock}; its frames were counted at {rate:.4g} frames a second instead"
        if self.repeated:
            yield f"{self.repeated} of the {self.frames} frames repeat the one before, which is shown for longer"
        if self.variable_rate:
            yield "its frames are unevenly spaced in time; --set data.fps=N reads them evenly"
        if self.rate_assumed:
            yield f"it has no frame rate; {self.fps:g} frames a second were assumed"

    def _say_end(self) -> Iterator[str]:
        if self.promised:
            yield f"its header says {self.promised:.3g} s, but it ends much earlier; it may be cut off"
        elif self.decoded and self.decoded < self.total:
            yield f"its header says {self.total} frames, but {self.decoded} could be read; it may be cut off or damaged"
        elif self.cut:
            yield "the end of the file is missing; it may be cut off"

    def _say_picture(self) -> Iterator[str]:
        yield from self.facts
        if self.size != (self.width, self.height):
            size = "x".join(map(str, self.size))
            yield f"made smaller from {self.width}x{self.height} to {size} while it was read"
        if abs(self.pixel_aspect - 1) > 0.01:
            yield f"its pixels are not square ({self.pixel_aspect:.3f} wide); they were read as stored"


@dataclass(frozen=True)
class ReadVideo:
    """A video in memory.

    frames: (T, H, W, 3) uint8 RGB, upright. fps: frames per second, the mean where it varies. times: (T,) float64,
    when each frame is shown, in seconds since the first frame of the file. info: what the file holds.
    """

    frames: NDArray[np.uint8]
    fps: float
    times: NDArray[np.float64]
    info: VideoInfo

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on whatever was dropped, changed or assumed; empty if the video was read as it is."""
        return self.info.notes()


@dataclass(frozen=True)
class _Wanted:
    """What to read: the arguments of `read_video`."""

    frames: int | None
    fps: float | None
    start: float
    max_side: int
    min_frames: int


def read_video(
    path: Path | str,
    *,
    fps: float | None = None,
    start: float = 0.0,
    frames: int | None = None,
    max_side: int = 0,
    min_frames: int = 2,
) -> ReadVideo:
    """Reads a video file.

    Args:
        path: the file. It is a name, never an address or a pattern.
        fps: keeps the frame that is shown every 1/fps seconds; None keeps every frame.
        start: seconds to skip.
        frames: reads at most this many frames; None for as many as fit in `MEMORY`.
        max_side: makes frames smaller (area filter) if their longer side has more pixels; 0 for any size.
        min_frames: refuses videos with fewer frames.

    Raises:
        MissingError: there is no such file.
        UsageError: the file cannot be read, holds no video or too few frames, or an argument does not fit it.
    """
    wanted = _Wanted(frames, fps, start, max_side, min_frames)
    _check_arguments(wanted)
    try:
        return _read(Path(path), wanted, "")
    except ClockError as error:
        # read again from the start, so that all frames of the clip have one clock
        return _read(Path(path), wanted, str(error))


def _read(path: Path, wanted: _Wanted, broken: str) -> ReadVideo:
    """Reads a file by its own times or, if `broken` says what is wrong with them, by counting frames."""
    with files.open_video(path) as opened:
        rates = rates_of(opened.stream)
        broken = broken or find_missing_order(opened.container, opened.stream)
        _check_rate(path, wanted.fps, rates)
        tally = _Tally()
        decoded = tally.count(files.frames(path, opened))
        timed = (count_times if broken else read_times)(decoded, rates.count)
        taken = _take(_select(timed, wanted.start, wanted.fps), wanted, show_name(path))
        _check_count(path, len(taken.frames), wanted)
        info = _describe(path, opened, taken, wanted, rates, tally, broken)
        return ReadVideo(np.stack(taken.frames), info.fps, np.asarray(taken.times, dtype=np.float64), info)


def _check_arguments(wanted: _Wanted) -> None:
    if wanted.frames is not None and wanted.frames < 1:
        raise UsageError(f"A video is read with at least 1 frame, got {wanted.frames}.")
    if wanted.fps is not None and not (np.isfinite(wanted.fps) and wanted.fps > 0):
        raise UsageError(f"The frame rate must be a positive number, got {wanted.fps}.")
    if not (np.isfinite(wanted.start) and wanted.start >= 0) or wanted.max_side < 0:
        raise UsageError(f"start ({wanted.start}) and max_side ({wanted.max_side}) must be at least 0.")


def _check_rate(path: Path, fps: float | None, rates: Rates) -> None:
    fastest = max(rates.mean, rates.nominal)
    if fps and fastest and fps > (1 + SAME_RATE) * fastest:
        name = show_name(path)
        raise UsageError(
            f"{name} has {fastest:.4g} frames a second; {fps:g} would repeat frames.",
            hint=f"Ask for at most {fastest:.4g} frames a second (fps), or leave fps out to keep every frame.",
        )


@dataclass
class _Tally:
    """Counts decoded frames. ended: True once the file has no more. shown: seconds for which the last one is shown."""

    decoded: int = 0
    ended: bool = False
    shown: float = 0.0

    def count(self, frames: Iterable[Any]) -> Iterator[Any]:
        """Yields the frames while it counts them."""
        for frame in frames:
            self.decoded += 1
            self.shown = float((frame.duration or 0) * (frame.time_base or 0))
            yield frame
        self.ended = True


def _select(timed: Iterable[Timed], start: float, fps: float | None) -> Iterator[tuple[float, Timed]]:
    """Yields frames from `start` on with their times: all, or the ones shown at start, start + 1/fps and so on."""
    late = (one for one in timed if one.time >= start - _EPSILON)
    if fps is None:
        yield from ((one.time, one) for one in late)
        return
    shown: Timed | None = None
    wanted = 0
    for one in late:
        while shown is not None and start + wanted / fps < one.time - _EPSILON:
            yield start + wanted / fps, shown
            wanted += 1
        shown = one
    if shown is not None and start + wanted / fps <= shown.time + _EPSILON:
        yield start + wanted / fps, shown


@dataclass
class _Taken:
    """Frames as arrays (H, W, 3), their times in seconds, and what was noticed.

    indices: their numbers in the file. size: (width, height) of the first upright frame. more: whether frames were
    left unread. facts: parts of sentences, each once, in the order in which they were noticed. turned: how the last
    frame was turned, in words.
    """

    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    facts: dict[str, None] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    more: bool = False
    turned: str = ""

    def add(self, time: float, one: Timed, max_side: int, name: str) -> None:
        """Adds a frame: converts it to RGB, turns it upright, and brings it to the size of the first one."""
        self.times.append(time)
        if self.indices and self.indices[-1] == one.index:
            self.frames.append(self.frames[-1])
        else:
            self.frames.append(self._convert(one, max_side, name))
        self.indices.append(one.index)

    def _convert(self, one: Timed, max_side: int, name: str) -> NDArray[np.uint8]:
        self.facts.update(dict.fromkeys(describe_colour(one.frame)))
        orientation = orientation_of(one.frame)
        upright = orientation.apply(to_rgb(one.frame, name))
        size = upright.shape[1], upright.shape[0]
        if not self.frames:
            self.size, self.turned = size, orientation.words
            self.facts.update(dict.fromkeys(filter(None, [orientation.words])))
        elif orientation.words != self.turned:
            self.facts[f"its orientation changes in frame {one.index}; every frame was turned by its own"] = None
            self.turned = orientation.words
        if size != self.size:
            was, now = (f"{width}x{height}" for width, height in (size, self.size))
            self.facts[f"some of its frames have another size ({was}) and were resized to {now}, as the first"] = None
        return _resize(upright, _fit_size(self.size, max_side))


def _take(chosen: Iterable[tuple[float, Timed]], wanted: _Wanted, name: str) -> _Taken:
    taken = _Taken()
    chosen = iter(chosen)
    for time, one in chosen:
        taken.add(time, one, wanted.max_side, name)
        if len(taken.frames) >= (wanted.frames or max(2, MEMORY // taken.frames[0].nbytes)):
            taken.more = _has_more(chosen)
            break
    return taken


def _has_more(chosen: Iterator[tuple[float, Timed]]) -> bool:
    """Returns whether there are further frames. One that is damaged or has no time counts, and is no error here."""
    try:
        return next(chosen, None) is not None
    except (UsageError, ClockError):
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


def _check_count(path: Path, count: int, wanted: _Wanted) -> None:
    if count >= max(1, wanted.min_frames):
        return
    name = show_name(path)
    after = f" after {wanted.start:g} s" if wanted.start else ""
    if not count:
        raise UsageError(f"{name} has no frames{after}.")
    raise UsageError(
        f"{name} has {_count_frames(count)}{after}; correspondence over time needs at least {wanted.min_frames}."
    )


def _count_frames(count: int) -> str:
    return "a single frame" if count == 1 else f"{count} frames"


def _mean_rate(times: list[float], stated: float, tick: float) -> float:
    """Returns the stated rate, or the mean rate of the frames read where that is another one.

    tick: seconds to which times may be rounded.
    """
    span, gaps = times[-1] - times[0], len(times) - 1
    if span <= 0:
        return stated or ASSUMED_FPS
    fits = bool(stated) and abs(span - gaps / stated) <= max(SAME_RATE * span, tick)
    return stated if fits else gaps / span


def _uneven(times: list[float], tick: float) -> bool:
    steps = np.diff(times)
    if len(steps) < 2:
        return False
    middle = float(np.median(steps))
    rounding = tick if tick <= COARSE * middle else 0.0
    return bool(np.ptp(steps) > max(VARIABLE * middle, 1.01 * rounding))


def _find_missing_end(opened: files.OpenVideo, last: float, rate: float, shown: float) -> float:
    """Returns the stated duration in seconds if the last frame is far earlier, else 0.

    FFmpeg reads a file that was cut off up to its end without an error. What the video stream states counts.
    What the whole file states counts only without sound, because sound may last longer than the pictures.
    `shown`: seconds for which the last frame is shown, if the file says so.
    """
    lasts = _find_duration(opened)
    share = EXACT_CUT_OFF if _EXACT & set(opened.container.format.name.split(",")) else CUT_OFF
    end = last + max(2 / (rate or ASSUMED_FPS), shown)
    return lasts if end < (1 - share) * lasts else 0.0


def _find_duration(opened: files.OpenVideo) -> float:
    stream, container = opened.stream, opened.container
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if tagged := _parse_duration(stream.metadata.get("DURATION", "")):
        return tagged
    alone = len(container.streams) == 1 and container.duration
    return float(container.duration) / 1e6 if alone else 0.0  # the container counts in microseconds


def _parse_duration(text: str) -> float:
    """Returns the seconds of a Matroska tag such as "00:00:06.040000000"; 0 if it is no such text."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return 0.0


def _describe(
    path: Path,
    opened: files.OpenVideo,
    taken: _Taken,
    wanted: _Wanted,
    rates: Rates,
    tally: _Tally,
    broken: str,
) -> VideoInfo:
    """Returns the facts about a file that was read."""
    stream = opened.stream
    stated = rates.count if broken else rates.mean
    tick = max(_EPSILON, float(stream.time_base or 0))
    whole = tally.ended and not taken.more
    return VideoInfo(
        path=path,
        width=taken.size[0],
        height=taken.size[1],
        frames=len(taken.frames),
        total=int(stream.frames or 0),
        fps=float(wanted.fps or _mean_rate(taken.times, stated, tick)),
        stored_fps=stated if rates.mean else 0.0,
        more=taken.more,
        variable_rate=wanted.fps is None and _uneven(taken.times, tick),
        rate_assumed=not rates.mean and not wanted.fps,
        pixel_aspect=float(stream.sample_aspect_ratio or 1),
        size=(taken.frames[0].shape[1], taken.frames[0].shape[0]),
        clock=broken,
        repeated=sum(a == b for a, b in zip(taken.indices, taken.indices[1:], strict=False)),
        promised=_find_missing_end(opened, taken.times[-1], wanted.fps or rates.mean, tally.shown) if whole else 0.0,
        decoded=tally.decoded if whole else 0,
        cut=whole and find_cut(path),
        facts=tuple(filter(None, (opened.choice, *taken.facts))),
    )
