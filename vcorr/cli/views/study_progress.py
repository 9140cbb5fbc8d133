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


@contextmanager
def watch_run(plan: Plan, title: str) -> Iterator[Events]:
    """Says which run of a study is made, and yields what shows its events. title: the run in words."""
    say(title, stderr=True)
    with progress.events(plan) as events:
        yield events
