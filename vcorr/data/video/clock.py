"""Gives the frames of a clip one clock: the times in the file, or a count at the file's frame rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

ASSUMED_FPS = 25.0
"""Frame rate that is assumed for files with neither a rate nor times."""

JUMP = 10.0
"""Seconds. A longer gap between frames is a jump of the clock, as in FFmpeg, and no long still picture."""

JUMP_FRAMES = 10
"""A gap also needs to be longer than this number of frames at the file's rate, so that slide shows keep their times."""

_LIKELY = 240.0
"""A guessed frame rate above this one is the resolution of the file's clock, not a rate of recording."""


_LEAST_GAP = 1e-6
"""Seconds. Frames that are closer than this are shown at one time."""


class ClockError(Exception):
    """Reports that the times in a file cannot be used. Its text says why, as part of a sentence."""


@dataclass(frozen=True)
class Timed:
    """A decoded frame. index: its number in the file. time: when it is shown, in seconds since the first frame."""

    index: int
    time: float
    frame: Any


@dataclass(frozen=True)
class Rates:
    """Frame rates of a file, in frames per second; 0 if it states none.

    mean: frames divided by duration. nominal: the rate of the recording, which dropped frames do not change.
    """

    mean: float
    nominal: float

    @property
    def count(self) -> float:
        """Rate at which frames without usable times are counted."""
        return self.nominal or self.mean or ASSUMED_FPS


def rates_of(stream: Any) -> Rates:
    """Returns the frame rates that a video stream states."""
    mean, guessed = float(stream.average_rate or 0), float(stream.guessed_rate or 0)
    unlikely = guessed > _LIKELY and 0 < mean <= _LIKELY
    return Rates(mean or guessed, mean if unlikely else guessed or mean)


def find_missing_order(container: Any, stream: Any) -> str:
    """Returns why the times in a file cannot be in the order of display; "" if they may be.

    An AVI file stores no such times. FFmpeg then passes on the order of storage, which differs where a codec stores
    frames out of order.
    """
    unordered = container.format.name == "avi" and bool(stream.codec_context.has_b_frames)
    return "it is an AVI file with B-frames, which keeps no times of display" if unordered else ""


def read_times(decoded: Iterable[Any], rate: float) -> Iterator[Timed]:
    """Yields frames with the seconds since the first one. Where no frame has a time, they are counted at `rate`.

    It never seeks: where a seek lands, and where times then start, differs between containers.

    Raises:
        ClockError: times do not increase, jump, or are missing for some frames.
    """
    begin: float | None = None
    last = 0.0
    for index, frame in enumerate(decoded):
        time = None if frame.time is None else float(frame.time)
        if index and (time is None) != (begin is None):
            raise ClockError("some of its frames have no time")
        if time is None:
            yield Timed(index, index / rate, frame)
            continue
        if begin is None:
            begin = time
        else:
            _check_gap(time - last, index, rate)
        last = time
        yield Timed(index, time - begin, frame)


def count_times(decoded: Iterable[Any], rate: float) -> Iterator[Timed]:
    """Yields frames with their number divided by `rate` as their time. What the file says is not read."""
    for index, frame in enumerate(decoded):
        yield Timed(index, index / rate, frame)


def _check_gap(gap: float, index: int, rate: float) -> None:
    if gap < _LEAST_GAP:
        raise ClockError(f"its times do not increase (frame {index})")
    if gap > max(JUMP, JUMP_FRAMES / rate):
        raise ClockError(f"its times jump by {gap:.3g} s (frame {index})")
