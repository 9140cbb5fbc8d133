"""What a video file holds, and what reading it changed, in values and in sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vcorr.data.video_names import show_name


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
