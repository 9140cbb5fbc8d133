"""Shows how far the runs of a study are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vcorr.cli.views import progress
from vcorr.cli.views.terminal import say

if TYPE_CHECKING:
    from vcorr.runner.events import Events
    from vcorr.runner.plan import Plan


class StudyWatch:
    """Shows the runs of one study, one after the other. A note that several of its runs have is said once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    @contextmanager
    def watch_run(self, plan: Plan, title: str) -> Iterator[Events]:
        """Says which run of the study is made, and yields what shows its events. title: the run in words."""
        say(title, stderr=True)
        with progress.events(plan) as events:
            yield _NotedOnce(events, self._said)


class _NotedOnce:
    """Passes events on, but no note that was said before. said: the notes so far."""

    def __init__(self, events: Events, said: set[str]) -> None:
        self._events, self._said = events, said
        self.clip_started, self.step_done = events.clip_started, events.step_done
        self.clip_done, self.clip_failed = events.clip_done, events.clip_failed

    def note(self, message: str) -> None:
        """Passes on a note that is new."""
        if message not in self._said:
            self._said.add(message)
            self._events.note(message)
