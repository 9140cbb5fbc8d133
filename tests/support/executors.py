"""Executors for the tests."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

from support.processes import PATIENCE
from vcorr.runner.worker import Report, work_off


def two_processes(plan, run, *, compute, events) -> Iterator[Report]:
    """Two spawned processes, each with every second clip; meets vcorr.runner.executors.executor.Executor."""
    clips = plan.selection.clips
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        started = [pool.apply_async(work_off, (plan, run, clips[n::2]), {"compute": compute}) for n in (0, 1)]
        for one in started:
            yield one.get(timeout=PATIENCE)
