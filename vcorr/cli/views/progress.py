"""Shows the progress of a run on stderr, so that --json stays clean: a live bar on a terminal, else plain lines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from vcorr.cli.views.terminal import cell, console, duration
from vcorr.contract.visible_text import escape

if TYPE_CHECKING:
    from vcorr.runner.coordinator import Events
    from vcorr.runner.plan import Plan

PLAIN_EVERY_SECONDS = 10.0


@contextlib.contextmanager
def events(plan: Plan, clips: Sequence[str] | None = None) -> Iterator[Events]:
    """Yields the object that shows a run's events: `Live` on a terminal, else `Plain`.

    clips: ids of the clips to be worked on, if they are not the plan's own.
    """
    steps = max(1, len(plan.selection.settings.steps) if plan.selection.sites else 1)
    total = len(plan.selection.clips if clips is None else clips)
    if not console(stderr=True).is_terminal:
        yield Plain(total)
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("clips · {task.fields[detail]}", markup=False),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
    )
    with bar:
        yield Live(bar, bar.add_task(plan.parts.model.entry.name, total=total, detail="loading"), steps)


@contextlib.contextmanager
def count_items(label: str, total: int, unit: str = "frames") -> Iterator[Callable[[int], None]]:
    """Yields a function that counts further items as done: on a bar in a terminal, else in a line at times.

    unit: what is counted, in the plural.
    """
    if not console(stderr=True).is_terminal:
        lines = _ItemLines(label, total, unit)
        yield lines.advance
        return
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(label, total=total)
        yield lambda count: bar.advance(task, count)


class _ItemLines:
    """Lines for logs while items such as the frames of one video are counted: at most one per ten seconds."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self._label, self._total, self._unit, self._done = label, total, unit.removesuffix("s"), 0
        self._said = time.monotonic()

    def advance(self, count: int) -> None:
        """Counts items, and prints a line if the last one is ten seconds old."""
        self._done += count
        now = time.monotonic()
        if now - self._said >= PLAIN_EVERY_SECONDS:
            self._said = now
            console(stderr=True).print(cell(f"{self._label}: {self._unit} {self._done}/{self._total}"), soft_wrap=True)


class Live:
    """A rich progress bar: clips, step of the current clip, seconds per clip, time left.

    Several clips can be worked on at a time. The bar then stands at the sum of their steps.
    """

    def __init__(self, bar: Progress, task: TaskID, steps: int) -> None:
        self._bar, self._task, self._steps = bar, task, steps
        self._running: dict[str, _Running] = {}
        self._done = 0
        self._seconds = 0.0

    def clip_started(self, clip_id: str) -> None:
        """Starts the clock of a clip."""
        self._running[clip_id] = _Running(time.monotonic())
        self._show()

    def step_done(self, clip_id: str) -> None:
        """Moves the bar by one step of a clip."""
        self._running[clip_id].steps += 1
        self._show()

    def clip_done(self, clip_id: str, *, reused: bool) -> None:
        """Counts the clip as done."""
        if not reused and clip_id in self._running:
            self._seconds = (time.monotonic() - self._running[clip_id].began) / len(self._running)
        self._finish(clip_id)

    def clip_failed(self, clip_id: str, error: str) -> None:
        """Counts the clip as done and prints why it failed."""
        reason = cell(f"Clip {clip_id} failed: ", "red") + Text(escape(error))
        self._bar.console.print(reason)
        self._finish(clip_id)

    def note(self, message: str) -> None:
        """Prints a line above the bar."""
        self._bar.console.print(Text(escape(message)))

    def _finish(self, clip_id: str) -> None:
        self._done += 1
        self._running.pop(clip_id, None)
        self._show()

    def _show(self) -> None:
        rate = f"{self._seconds:.1f} s/clip" if self._seconds else "first clip"
        steps = [clip.steps for clip in self._running.values()]
        what = f"{len(steps)} at a time" if len(steps) > 1 else f"step {sum(steps)}/{self._steps}"
        # a guidance or a walk back can take more steps than were planned, but no clip is more than whole
        parts = sum(min(count / self._steps, 1) for count in steps)
        self._bar.update(self._task, completed=self._done + parts, detail=f"{what} · {rate} ·")


@dataclass
class _Running:
    """A clip that is worked on. began: of the clock, in seconds. steps: those done."""

    began: float
    steps: int = 0


class Plain:
    """Lines for logs: at most one per ten seconds, and one per failure."""

    def __init__(self, clips: int) -> None:
        self._clips = clips
        self._done = 0
        self._began = time.monotonic()
        self._said = float("-inf")
        self._out = console(stderr=True)

    def clip_started(self, clip_id: str) -> None:
        """Reports nothing yet; a clip is reported when it is done."""

    def step_done(self, clip_id: str) -> None:
        """Reports nothing: steps are too frequent for a log."""

    def clip_done(self, clip_id: str, *, reused: bool) -> None:
        """Prints a line, unless the last one is less than ten seconds old; the last clip always gets one."""
        self._done += 1
        now = time.monotonic()
        if now - self._said >= PLAIN_EVERY_SECONDS or self._done == self._clips:
            self._said = now
            self._print(cell(f"clip {self._done}/{self._clips} ({clip_id}) after {duration(now - self._began)}"))

    def clip_failed(self, clip_id: str, error: str) -> None:
        """Prints a line, always."""
        self._done += 1
        self._print(cell(f"clip {self._done}/{self._clips} ({clip_id}) failed: ") + Text(escape(error)))

    def note(self, message: str) -> None:
        """Prints a line, always."""
        self._print(Text(escape(message)))

    def _print(self, line: Text) -> None:
        self._out.print(line, soft_wrap=True)  # a log is searched line by line
