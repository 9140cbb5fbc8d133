"""The progress bar of a run on a terminal, with several clips at a time."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console
from rich.progress import Progress

from vcorr.cli.views.progress import Live


def test_the_bar_stands_at_the_sum_of_the_steps_of_all_clips() -> None:
    bar = Progress(console=Console(file=StringIO()))
    task = bar.add_task("model", total=4, detail="")
    live = Live(bar, task, steps=4)

    def read() -> tuple[float, str]:
        return bar.tasks[0].completed, bar.tasks[0].fields["detail"].split(" · ")[0]

    live.clip_started("a")
    live.step_done("a")
    assert read() == (0.25, "step 1/4")
    live.clip_started("b")
    live.step_done("b")
    live.step_done("a")
    assert read() == (0.75, "2 at a time")
    live.clip_done("b", reused=False)
    assert read() == (1.5, "step 2/4")
    live.clip_started("a")  # its process died, and it is tried again
    assert read() == (1.0, "step 0/4")
    for _ in range(9):
        live.step_done("a")
    assert read()[0] == pytest.approx(2.0)
    live.clip_failed("a", "why")
    live.clip_done("c", reused=True)
    assert read() == (3.0, "step 0/4")
