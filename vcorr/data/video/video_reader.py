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
from vcorr.data.video.video_info import VideoInfo
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
class Wanted:
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
    wanted = Wanted(frames, fps, start, max_side, min_frames)
    check_arguments(wanted)
    try:
        return _read(Path(path), wanted, "")
    except ClockError as error:
        # read again from the start, so that all frames of the clip have one clock
        return _read(Path(path), wanted, str(error))


def _read(path: Path, wanted: Wanted, broken: str) -> ReadVideo:
    """Reads a file by its own times or, if `broken` says what is wrong with them, by counting frames."""
    with files.open_video(path) as opened:
        rates = rates_of(opened.stream)
        broken = broken or find_missing_order(opened.container, opened.stream)
        check_rate(path, wanted.fps, rates)
        tally = Tally()
        decoded = tally.count(files.frames(path, opened))
        timed = (count_times if broken else read_times)(decoded, rates.count)
        taken = Taken(wanted.max_side, show_name(path))
        found = _take(select(timed, wanted.start, wanted.fps), wanted, taken)
        check_count(path, len(found), wanted)
        info = describe(path, opened, taken, wanted, rates, tally, broken)
        return ReadVideo(np.stack(found), info.fps, np.asarray(taken.times, dtype=np.float64), info)


def check_arguments(wanted: Wanted) -> None:
    """Refuses numbers that mean nothing, whatever the file is."""
    if wanted.frames is not None and wanted.frames < 1:
        raise UsageError(f"A video is read with at least 1 frame, got {wanted.frames}.")
    if wanted.fps is not None and not (np.isfinite(wanted.fps) and wanted.fps > 0):
        raise UsageError(f"The frame rate must be a positive number, got {wanted.fps}.")
    if not (np.isfinite(wanted.start) and wanted.start >= 0) or wanted.max_side < 0:
        raise UsageError(f"start ({wanted.start}) and max_side ({wanted.max_side}) must be at least 0.")


def check_rate(path: Path, fps: float | None, rates: Rates) -> None:
    """Refuses a frame rate that the file does not have."""
    fastest = max(rates.mean, rates.nominal)
    if fps and fastest and fps > (1 + SAME_RATE) * fastest:
        name = show_name(path)
        raise UsageError(
            f"{name} has {fastest:.4g} frames a second; {fps:g} would repeat frames.",
            hint=f"Ask for at most {fastest:.4g} frames a second (fps), or leave fps out to keep every frame.",
        )


@dataclass
class Tally:
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


def select(timed: Iterable[Timed], start: float, fps: float | None) -> Iterator[tuple[float, Timed]]:
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
class Taken:
    """What was noticed in the frames of one pass through a file.

    max_side: longest side of the frames in pixels; 0 for any. name: the file, for messages. times: in seconds.
    indices: numbers of the frames in the file. size: (width, height) of the first upright frame. more: whether frames
    were left unread. facts: parts of sentences, each once, in the order in which they were noticed. turned: how the
    last frame was turned, in words.
    """

    max_side: int
    name: str
    times: list[float] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    facts: dict[str, None] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    more: bool = False
    turned: str = ""

    @property
    def shown_size(self) -> tuple[int, int]:
        """The (width, height) to which `convert` brings every frame."""
        return _fit_size(self.size, self.max_side)

    def add(self, time: float, one: Timed) -> bool:
        """Adds a frame by its time and what there is to say about it; returns whether it repeats the one before."""
        repeated = bool(self.indices) and self.indices[-1] == one.index
        if not repeated:
            self._notice(one)
        self.times.append(time)
        self.indices.append(one.index)
        return repeated

    def convert(self, frame: Any) -> NDArray[np.uint8]:
        """Returns a decoded frame in RGB, upright, and at the size of the first one."""
        return _resize(orientation_of(frame).apply(to_rgb(frame, self.name)), self.shown_size)

    def _notice(self, one: Timed) -> None:
        self.facts.update(dict.fromkeys(describe_colour(one.frame)))
        orientation = orientation_of(one.frame)
        stored = one.frame.width, one.frame.height
        size = stored[::-1] if orientation.transpose else stored
        if not self.indices:
            self.size, self.turned = size, orientation.words
            self.facts.update(dict.fromkeys(filter(None, [orientation.words])))
        elif orientation.words != self.turned:
            self.facts[f"its orientation changes in frame {one.index}; every frame was turned by its own"] = None
            self.turned = orientation.words
        if size != self.size:
            was, now = (f"{width}x{height}" for width, height in (size, self.size))
            self.facts[f"some of its frames have another size ({was}) and were resized to {now}, as the first"] = None


def _take(chosen: Iterable[tuple[float, Timed]], wanted: Wanted, taken: Taken) -> list[NDArray[np.uint8]]:
    """Returns the frames (H, W, 3) that are wanted, and adds them to `taken`."""
    frames: list[NDArray[np.uint8]] = []
    chosen = iter(chosen)
    for time, one in chosen:
        repeated = taken.add(time, one)
        frames.append(frames[-1] if repeated else taken.convert(one.frame))
        if len(frames) >= (wanted.frames or max(2, MEMORY // frames[0].nbytes)):
            taken.more = has_more(chosen)
            break
    return frames


def has_more(chosen: Iterator[tuple[float, Timed]]) -> bool:
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


def check_count(path: Path, count: int, wanted: Wanted) -> None:
    """Refuses a video with fewer frames than wanted."""
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


def describe(
    path: Path,
    opened: files.OpenVideo,
    taken: Taken,
    wanted: Wanted,
    rates: Rates,
    tally: Tally,
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
        frames=len(taken.times),
        total=int(stream.frames or 0),
        fps=float(wanted.fps or _mean_rate(taken.times, stated, tick)),
        stored_fps=stated if rates.mean else 0.0,
        more=taken.more,
        variable_rate=wanted.fps is None and _uneven(taken.times, tick),
        rate_assumed=not rates.mean and not wanted.fps,
        pixel_aspect=float(stream.sample_aspect_ratio or 1),
        size=taken.shown_size,
        clock=broken,
        repeated=sum(a == b for a, b in zip(taken.indices, taken.indices[1:], strict=False)),
        promised=_find_missing_end(opened, taken.times[-1], wanted.fps or rates.mean, tally.shown) if whole else 0.0,
        decoded=tally.decoded if whole else 0,
        cut=whole and find_cut(path),
        facts=tuple(filter(None, (opened.choice, *taken.facts))),
    )
