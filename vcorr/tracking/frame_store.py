"""Keeps the frames of a video on disk while a model reads them in any order, so that memory stays flat."""

from __future__ import annotations

import contextlib
import mmap
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import StoreError
from vcorr.data.video.frame_stream import FrameSource
from vcorr.data.video_sizes import resize_video
from vcorr.tracking.window_chain import window_length


class DiskVideo(np.memmap[Any, Any]):
    """A video (T, H, W, 3) uint8 in a file. What is taken of it by index is a copy; its pages are then given back.

    watch: called with the numbers of the frames of each chunk that is taken, the frame of the queries first.
    """

    watch: Callable[[Sequence[int]], None] | None = None

    def __getitem__(self, index: Any) -> Any:
        found = np.array(super().__getitem__(index))
        if self.watch is not None and isinstance(index, list):
            self.watch(index)
        pages: mmap.mmap | None = getattr(self, "_mmap", None)
        if pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            pages.madvise(mmap.MADV_DONTNEED)  # else pages that were read stay part of the memory of the process
        return found


class _NewFrames:
    """Reports each frame once per frame with queries, however often chunks hold it, and however they are filled up."""

    def __init__(self, report: Callable[[int], None], asked_in: Iterable[int]) -> None:
        self._report = report
        self._seen = {int(frame): {int(frame)} for frame in asked_in}

    def __call__(self, chunk: Sequence[int]) -> None:
        seen = self._seen.get(chunk[0], set(chunk))  # a chunk of no query is read to learn its size alone
        new = set(chunk) - seen
        seen |= new
        if new:
            self._report(len(new))


@contextlib.contextmanager
def store_frames(
    source: FrameSource, height: int, width: int, asked_in: Iterable[int] = ()
) -> Iterator[NDArray[np.uint8]]:
    """Yields all frames of a video at one size, (T, height, width, 3) uint8, in a temporary file that is deleted after.

    The file is in the folder that `TMPDIR` names, and takes T * height * width * 3 bytes. asked_in: the frames that
    have queries, for reports of progress: each other frame is reported once for each of them.

    Raises:
        UsageError: the video cannot be read to its end.
        StoreError: the file cannot be written.
    """
    frames = len(source.times)
    step = window_length(source.shown_size)
    with tempfile.TemporaryFile() as file:
        for first in range(0, frames, step):
            chunk = resize_video(source.read(first, min(first + step, frames)), height, width)
            _write(file, chunk)
        stored = DiskVideo(file, dtype=np.uint8, mode="r", shape=(frames, height, width, 3))
        stored.watch = _NewFrames(source.note_progress, asked_in)
        yield stored


def _write(file: Any, chunk: NDArray[np.uint8]) -> None:
    try:
        file.write(np.ascontiguousarray(chunk).data)
        file.flush()
    except OSError as error:
        raise StoreError(
            f"The frames of the video cannot be kept in {tempfile.gettempdir()}: {error.strerror}.",
            hint="Name a folder with more space in the variable TMPDIR, or read fewer frames: --set data.frames=N",
        ) from error
