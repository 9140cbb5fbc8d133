"""Times runs that one, two or more processes share: clips per second after loading, and whether the files are equal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vcorr.contract.errors import StoreError, UsageError
from vcorr.runner.events import Silent
from vcorr.runner.executors.crew import Crew
from vcorr.runner.plan import Plan
from vcorr.store.rundir import TABLES, RunDirectory

DIFFER = "The files differ from the files of the first row."


@dataclass(frozen=True)
class ExecutorSpeed:
    """How fast some processes worked off the same clips.

    Attributes:
        workers: number of processes, each with a device of its own, or all on the CPU.
        clips: number of timed clips, which are shared by the processes.
        load_seconds: until every process had started, loaded the model and computed one clip, which is not timed.
        seconds: for the timed clips.
        speedup: clips per second / clips per second of the first row.
        error: what is wrong with the files; "" if nothing is.
        same_bytes: whether every file of the timed clips is the same, byte for byte, as in the first row.
    """

    model: str
    device: str
    dtype: str
    workers: int
    clips: int
    load_seconds: float
    seconds: float
    speedup: float = 1.0
    same_bytes: bool = True
    error: str = ""

    @property
    def clips_per_second(self) -> float:
        """Timed clips per second, after loading."""
        return self.clips / self.seconds


def time_executors(
    plan: Plan, workers: Sequence[int], clips: int, out: Path, progress: Callable[[str], None]
) -> list[ExecutorSpeed]:
    """Works off the same clips with several numbers of processes, one number after the other.

    Args:
        plan: of a run with at least `clips` clips and one more per process; its hardware lists the devices.
        workers: numbers of processes; the first one is what the others are compared with.
        clips: number of timed clips.
        out: an empty folder for the runs.
        progress: called with a sentence before each row.

    Raises:
        UsageError: there are too few clips or devices.
        StoreError: a clip failed, so the time says nothing.
    """
    _check_counts(plan, workers, clips)
    found: list[ExecutorSpeed] = []
    files: list[dict[str, bytes]] = []
    for count in workers:
        progress(f"{clips} clips in {count} {'process' if count == 1 else 'processes'}")
        row, written = _time_one(plan, count, clips, out / f"{len(found)}-{count}")
        found.append(row)
        files.append(written)
    first = found[0].clips_per_second
    return [
        replace(row, speedup=row.clips_per_second / first, same_bytes=same, error="" if same else DIFFER)
        for row, same in zip(found, [written == files[0] for written in files], strict=True)
    ]


def _check_counts(plan: Plan, workers: Sequence[int], clips: int) -> None:
    devices, needed = len(plan.hardware.shared) or 1, clips + max(workers)
    if max(workers) > devices:
        raise UsageError(f"{max(workers)} processes were asked for, and there are devices for {devices}.")
    if needed > len(plan.selection.clips):
        there = len(plan.selection.clips)
        raise UsageError(
            f"{clips} timed clips and {max(workers)} for loading are needed; the data have {there}.",
            hint="Give fewer with --clips, or other data with --data.",
        )


def _time_one(plan: Plan, workers: int, clips: int, out: Path) -> tuple[ExecutorSpeed, dict[str, bytes]]:
    """Returns the speed of one number of processes, and the files of the timed clips.

    The clips at the end of the data are for loading, one per process.
    """
    timed, warming = plan.selection.clips[:clips], plan.selection.clips[-workers:]
    run = RunDirectory.create(out, plan.fingerprints()["predict"])
    devices = (plan.hardware.shared or (plan.hardware.device,))[:workers]
    with run.write_lock(), Crew(plan, run, Silent(), devices) as crew:
        began = time.monotonic()
        reports = list(crew.work_off(warming))
        loaded = time.monotonic()
        reports += crew.work_off(timed)
        ended = time.monotonic()
    if failed := [clip for report in reports for clip in report.failed]:
        raise StoreError(f"Clips failed, so nothing was measured: {', '.join(failed)}.")
    hardware = plan.hardware
    row = ExecutorSpeed(
        *(plan.parts.model.entry.name, hardware.name, hardware.dtype, workers, clips),
        load_seconds=loaded - began,
        seconds=ended - loaded,
    )
    paths = [run.shard(table, clip) for table in TABLES for clip in timed]
    return row, {f"{path.parent.name}/{path.name}": path.read_bytes() for path in paths}
