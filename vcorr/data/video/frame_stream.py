"""Reads a video in windows of frames, so that memory does not grow with its length."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.records import DEFAULT_FPS
from vcorr.data.video import container as files
from vcorr.data.video.clock import ClockError, Timed, count_times, find_missing_order, rates_of, read_times
from vcorr.data.video.video_info import VideoInfo
from vcorr.data.video.video_reader import (
    Taken,
    Tally,
    Wanted,
    check_arguments,
    check_count,
    check_rate,
    describe,
    has_more,
    select,
)
from vcorr.data.video_names import show_name
from vcorr.data.video_sizes import resize_video


class FrameSource(Protocol):
    """A video of T frames that is read in windows.

    times: (T,) float64 seconds. fps: frames per second. size: (width, height) of the video in pixels. shown_size:
    (width, height) of the frames that `read` returns. notes: sentences on what was changed or assumed.
    """

    times: NDArray[np.float64]
    fps: float
    size: tuple[int, int]
    shown_size: tuple[int, int]
    notes: tuple[str, ...]

    def read(self, first: int, stop: int) -> NDArray[np.uint8]:
        """Returns the frames from `first` to before `stop`, (stop - first, H, W, 3) uint8 RGB."""
        ...

    def note_progress(self, frames: int) -> None:
        """Counts frames that were worked on: what keeps frames elsewhere calls it for each part that it reads again."""
        ...


class WatchedFrames:
    """The frames of another source. watch: called with the number of frames after each reading of them."""

    def __init__(self, source: FrameSource, watch: Callable[[int], None]) -> None:
        self._source, self._watch = source, watch
        self.times, self.fps, self.notes = source.times, source.fps, source.notes
        self.size, self.shown_size = source.size, source.shown_size

    def read(self, first: int, stop: int) -> NDArray[np.uint8]:
        """Returns the frames from `first` to before `stop`, (stop - first, H, W, 3) uint8; raises as the source."""
        found = self._source.read(first, stop)
        self._watch(stop - first)
        return found

    def note_progress(self, frames: int) -> None:
        """Passes the number of frames on to `watch`."""
        self._watch(frames)


class _Unwatched:
    """Base of sources that nobody watches."""

    def note_progress(self, frames: int) -> None:
        """Ignores the number."""


class ArrayFrames(_Unwatched):
    """The frames of an array (T, H, W, 3) uint8 RGB. fps: frames per second; 8 if None. max_side: as in `FileFrames`.

    Raises:
        UsageError: an argument is out of range.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, video: NDArray[np.uint8], fps: float | None = None, max_side: int = 0) -> None:
        check_arguments(Wanted(None, fps, 0.0, max_side, 2))
        self._video = video
        self.fps = fps or DEFAULT_FPS
        self.times = np.arange(len(video)) / self.fps
        self.size = video.shape[2], video.shape[1]
        self.shown_size = Taken(max_side, "", size=self.size).shown_size

    def read(self, first: int, stop: int) -> NDArray[np.uint8]:
        """Returns the frames from `first` to before `stop`, (stop - first, H, W, 3) uint8."""
        width, height = self.shown_size
        return resize_video(self._video[first:stop], height, width)


class FileFrames(_Unwatched):
    """The frames of a file, as `read_video` reads them, but never all of them at once.

    Making it decodes the whole file once, to learn how many frames there are and when each is shown. Windows that
    come one after the other, also with one frame in common or with frames left out, are read in one further pass.
    Reading an earlier frame begins a new pass at the start of the file, because where a seek lands differs between
    containers.

    Raises:
        MissingError: there is no such file.
        UsageError: the file cannot be read, holds no video or a single frame, or an argument does not fit it.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        fps: float | None = None,
        start: float = 0.0,
        frames: int | None = None,
        max_side: int = 0,
    ) -> None:
        self.path = Path(path)
        self._wanted = Wanted(frames, fps, start, max_side, 2)
        check_arguments(self._wanted)
        self._broken = ""
        try:
            self._taken, self.info = self._scan()
        except ClockError as error:
            self._broken = str(error)
            self._taken, self.info = self._scan()
        self.times = np.asarray(self._taken.times, dtype=np.float64)
        self.fps, self.size, self.shown_size = self.info.fps, self._taken.size, self._taken.shown_size
        self.notes = self.info.notes()
        self._pass: Iterator[Timed] = iter(())
        self._next = len(self.times)
        self._shown: tuple[int, NDArray[np.uint8]] | None = None  # the last frame that was converted, and its index

    def read(self, first: int, stop: int) -> NDArray[np.uint8]:
        """Returns the frames from `first` to before `stop`, (stop - first, H, W, 3) uint8.

        Raises:
            UsageError: the file is damaged, or was changed since it was opened.
        """
        width, height = self.shown_size
        found = np.empty((stop - first, height, width, 3), dtype=np.uint8)
        done = 0
        if self._shown is not None and first == self._next - 1:
            found[0], done = self._shown[1], 1
        elif first != self._next:
            self._seek(first)
        for row in range(done, stop - first):
            found[row] = self._convert(self._take())
        return found

    def _seek(self, first: int) -> None:
        """Goes on to a later frame in the same pass; for an earlier one, ends the pass and begins another."""
        self._shown = None
        if first < self._next:
            self._pass = iter(())
            # a frame and its side data refer to each other, so frames stay until Python collects them; they are young,
            # and looking through all objects of a process with torch takes a third of a second
            gc.collect(1)
            self._pass, self._next = self._decode(), 0
        while self._next < first:
            self._take()

    def _take(self) -> Timed:
        one = next(self._pass, None)
        if one is None:
            raise UsageError(f"{show_name(self.path)} was changed while it was read: it has fewer frames now.")
        self._next += 1
        return one

    def _convert(self, one: Timed) -> NDArray[np.uint8]:
        """Returns a decoded frame as RGB. With the option fps, one may come several times in a row."""
        if self._shown is None or self._shown[0] != one.index:
            self._shown = one.index, self._taken.convert(one.frame)
        return self._shown[1]

    def _scan(self) -> tuple[Taken, VideoInfo]:
        """Decodes the file once; returns what there is to say about its frames, and about the file."""
        wanted, path = self._wanted, self.path
        with files.open_video(path) as opened:
            rates = rates_of(opened.stream)
            self._broken = self._broken or find_missing_order(opened.container, opened.stream)
            check_rate(path, wanted.fps, rates)
            tally = Tally()
            taken = Taken(wanted.max_side, show_name(path))
            chosen = self._choose(tally.count(files.frames(path, opened)), rates.count)
            for time, one in chosen:
                taken.add(time, one)
                if len(taken.times) == 1:
                    taken.convert(one.frame)  # colours that cannot be converted are an error before any work
                if len(taken.times) == wanted.frames:
                    taken.more = has_more(chosen)
                    break
            check_count(path, len(taken.times), wanted)
            return taken, describe(path, opened, taken, wanted, rates, tally, self._broken)

    def _choose(self, decoded: Iterator[Any], rate: float) -> Iterator[tuple[float, Timed]]:
        timed = (count_times if self._broken else read_times)(decoded, rate)
        return select(timed, self._wanted.start, self._wanted.fps)

    def _decode(self) -> Iterator[Timed]:
        """Yields the chosen frames of the file as they are decoded."""
        with files.open_video(self.path) as opened:
            chosen = self._choose(files.frames(self.path, opened), rates_of(opened.stream).count)
            yield from (one for _, one in islice(chosen, len(self.times)))
