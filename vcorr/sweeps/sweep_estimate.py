"""Adds up the estimates of the runs of a sweep, for `--dry-run`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcorr.analysis.estimate import Estimate, SampleClips, estimate, flops_per_second
from vcorr.runner.plan import Plan
from vcorr.store.recovery import count_kept
from vcorr.store.rundir import RunDirectory
from vcorr.sweeps.expansion import SweepRun
from vcorr.sweeps.sweep_plans import PlannedRun


@dataclass(frozen=True)
class EstimatedRun:
    """What a run would take. kept: number of its clips whose predictions are stored already."""

    run: SweepRun
    plan: Plan
    estimate: Estimate
    kept: int = 0


@dataclass(frozen=True)
class Total:
    """A sum over runs. value: None if no run has one. unknown: number of runs that are not in it."""

    value: float | None
    unknown: int

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Total:
        """Returns the sum of the values that are known."""
        listed = list(values)
        known = [value for value in listed if value is not None]
        return cls(sum(known) if known else None, len(listed) - len(known))


@dataclass(frozen=True)
class SweepEstimate:
    """What a sweep would take. Finished clips are counted as if they were computed again, as in every dry run."""

    runs: tuple[EstimatedRun, ...]

    @property
    def device_seconds(self) -> Total:
        """Seconds of all devices together."""
        return Total.of(_of_known_clips(one.estimate, one.estimate.device_seconds) for one in self.runs)

    @property
    def disk_bytes(self) -> Total:
        """Bytes of all runs together."""
        return Total.of(_of_known_clips(one.estimate, one.estimate.disk_bytes) for one in self.runs)

    @property
    def passes(self) -> Total:
        """Forward passes of all runs together."""
        return Total.of(_of_known_clips(one.estimate, one.estimate.forward_passes) for one in self.runs)

    @property
    def memory_bytes(self) -> float | None:
        """The most memory that a run takes: runs follow each other."""
        known = [one.estimate.memory_bytes for one in self.runs if one.estimate.memory_bytes is not None]
        return max(known, default=None)


def _of_known_clips(found: Estimate, value: float | None) -> float | None:
    """Returns a value of all clips of a run; None if their number is not known."""
    return None if found.clips is None else value


def estimate_sweep(
    planned: Sequence[PlannedRun], out: Path, advance: Callable[[int], None] = lambda count: None
) -> SweepEstimate:
    """Estimates every run. The speed of a device is measured once, and a clip is read once for all runs on its data.

    out: the folder of runs. advance: is called with 1 after each run.
    """
    speed, samples = functools.cache(flops_per_second), SampleClips()
    found = []
    for one in planned:
        found.append(_estimate(one, estimate(one.plan, out, speed, samples)))
        advance(1)
    return SweepEstimate(tuple(found))


def _estimate(one: PlannedRun, found: Estimate) -> EstimatedRun:
    kept = 0
    if found.path is not None and found.exists:
        kept = count_kept(RunDirectory(found.path), one.plan.selection.clips, one.plan.fingerprints()["predict"])
    return EstimatedRun(one.run, one.plan, found, kept)
