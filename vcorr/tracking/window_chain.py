"""Follows points through a long video in windows, with any tracker: each window goes on where the last one ended.

Neighbouring windows share one frame. A point that is visible in the shared frame is the query of the next window. A
point that is not visible there is lost from there on: it stays hidden at its last position, because no tracker can
start from a position that it does not see. Parts before a query are followed in the same way, with the windows in
reverse. A video that fits into one window is given to the tracker whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.records import Queries, Tracks

Track: TypeAlias = Callable[[NDArray[np.uint8], Queries], Tracks]

WINDOW_BYTES = 1 << 27
"""Bytes of the frames of one window, where no number of frames is given."""

LEAST_WINDOW = 16
"""Least number of frames of such a window, whatever their size."""


class Readable(Protocol):
    """A video whose frames are read in windows."""

    @property
    def times(self) -> NDArray[np.float64]:
        """When each of the T frames is shown, (T,) seconds."""

    @property
    def shown_size(self) -> tuple[int, int]:
        """The (width, height) of the frames."""

    def read(self, first: int, stop: int) -> NDArray[np.uint8]:
        """Returns the frames from `first` to before `stop`, (stop - first, H, W, 3) uint8."""
        ...


@dataclass(frozen=True)
class Window:
    """Frames from `first` to `last`, both included."""

    first: int
    last: int


def window_length(size: tuple[int, int]) -> int:
    """Returns the number of frames of a window for frames of this (width, height)."""
    return max(LEAST_WINDOW, WINDOW_BYTES // (3 * size[0] * size[1]))


def split_into_windows(frames: int, length: int) -> list[Window]:
    """Returns windows of at most `length` frames (at least 2) over all frames; neighbours share one frame."""
    firsts = range(0, max(1, frames - 1), length - 1)
    return [Window(first, min(first + length, frames) - 1) for first in firsts]


def count_reads(frames: int, queries: Queries, length: int) -> int:
    """Returns how many frames `track_in_windows` reads at most, each as often as it is read."""
    windows = split_into_windows(frames, length)
    home = _find_home(windows, queries)
    again = [*windows[int(home.min()) :], *windows[: int(home.max())]]
    return sum(window.last - window.first + 1 for window in again)


def _find_home(windows: Sequence[Window], queries: Queries) -> NDArray[np.intp]:
    """Returns the number of the window in which each query is, (N,); the later one for a frame that two share."""
    return np.searchsorted([window.first for window in windows], queries.t, side="right") - 1


def track_in_windows(track: Track, video: Readable, queries: Queries, length: int = 0) -> Tracks:
    """Follows queries over all frames of a video, before and after their own, with few frames in memory.

    Args:
        track: what a tracker does with the frames (n, H, W, 3) of one window and N queries in them.
        video: its frames are read window by window: once forwards and, for queries beyond the first window, once more
            per window before theirs.
        queries: N points in pixels of the frames that `video` gives.
        length: frames of a window, at least 2; 0 for as many as fit into `WINDOW_BYTES`.
    """
    count = len(video.times)
    windows = split_into_windows(count, length or window_length(video.shown_size))
    home = _find_home(windows, queries)
    chain = _Chain(track, video, queries, home)
    for number, window in enumerate(windows):
        chain.go_forward(number, window)
    for number in range(int(home.max(initial=0)) - 1, -1, -1):
        chain.go_back(number, windows[number])
    return chain.tracks()


class _Chain:
    """The tracks so far. home: (N,) number of the window in which each query is."""

    def __init__(self, track: Track, video: Readable, queries: Queries, home: NDArray[np.intp]) -> None:
        self._track, self._video, self._queries, self._home = track, video, queries, home
        shape = len(queries), len(video.times)
        self._xy = np.zeros((*shape, 2), dtype=np.float32)
        self._visible = np.zeros(shape, dtype=np.bool_)
        self._confidence = np.zeros(shape, dtype=np.float32)
        self._says_confidence = True
        self._name, self._version = "", 1

    def go_forward(self, number: int, window: Window) -> None:
        """Follows the queries of this window through it, and the points that came from earlier windows."""
        earlier = np.flatnonzero(self._home < number)
        alive = earlier[self._visible[earlier, window.first]]
        own = np.flatnonzero(self._home == number)
        self._keep_lost(np.setdiff1d(earlier, alive), window.first, slice(window.first + 1, window.last + 1))
        carried = Queries.at(self._xy[alive, window.first], 0)
        begun = Queries(self._queries.t[own] - window.first, self._queries.xy[own])
        found = self._follow(window, _join(begun, carried))
        if found is None:
            return
        self._store(found, slice(0, len(own)), own, range(window.first, window.last + 1), window.first)
        self._store(found, slice(len(own), None), alive, range(window.first + 1, window.last + 1), window.first)

    def go_back(self, number: int, window: Window) -> None:
        """Follows the points of later windows from the last frame of this one to its first."""
        later = np.flatnonzero(self._home > number)
        alive = later[self._visible[later, window.last]]
        self._keep_lost(np.setdiff1d(later, alive), window.last, slice(window.first, window.last))
        found = self._follow(window, Queries.at(self._xy[alive, window.last], window.last - window.first))
        if found is not None:
            self._store(found, slice(None), alive, range(window.first, window.last), window.first)

    def tracks(self) -> Tracks:
        """Returns the tracks of all points in all frames."""
        confidence = self._confidence if self._says_confidence else None
        frames = self._queries.t
        return Tracks(self._xy, self._visible, self._name, self._version, confidence=confidence, query_frame=frames)

    def _follow(self, window: Window, queries: Queries) -> Tracks | None:
        if not len(queries):
            return None
        found = self._track(self._video.read(window.first, window.last + 1), queries)
        self._name, self._version = found.tracker, found.version
        self._says_confidence &= found.confidence is not None
        return found

    def _store(self, found: Tracks, rows: slice, points: NDArray[np.intp], frames: Sequence[int], first: int) -> None:
        """Copies the tracks `rows` of a window that begins at frame `first` to these points and frames."""
        shown = np.asarray(frames, dtype=np.intp)
        local, block = shown - first, np.ix_(points, shown)
        self._xy[block] = found.xy[rows][:, local]
        self._visible[block] = found.visible[rows][:, local]
        if found.confidence is not None:
            self._confidence[block] = found.confidence[rows][:, local]

    def _keep_lost(self, points: NDArray[np.intp], at: int, frames: slice) -> None:
        """Leaves lost points where they are in frame `at`: hidden, and without confidence."""
        self._xy[points, frames] = self._xy[points, at][:, None]


def _join(first: Queries, second: Queries) -> Queries:
    return Queries(np.concatenate([first.t, second.t]), np.concatenate([first.xy, second.xy]))
