"""Makes the runs of an arm of a study of accelerators, and measures what is no run: losses, seconds and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from vcorr.contract.errors import UsageError
from vcorr.runner.plan import Plan
from vcorr.store.rundir import RunDirectory
from vcorr.studies.accelerator_arms import AcceleratedArm
from vcorr.studies.accelerator_measures import PairedTimes, measure_losses, time_in_turn
from vcorr.studies.accelerator_plans import ArmPlans
from vcorr.studies.measured_values import MeasuredValues
from vcorr.studies.study_runs import StudyRuns


@dataclass
class ArmResults:
    """What was made for an arm. read, videos: the runs. is_warm: whether its model has made a video in this process."""

    arm: AcceleratedArm
    read: RunDirectory | None = None
    videos: RunDirectory | None = None
    refused: str = ""
    losses: Mapping[str, float] = field(default_factory=dict)
    times: PairedTimes | None = None
    memory: float | None = None
    failed: int = 0
    num_steps: int = 0
    is_warm: bool = False


def run_arm(one: ArmPlans, runs: StudyRuns, measured: MeasuredValues, place: str = "") -> ArmResults:
    """Makes the runs of an arm, and measures its loss."""
    done = ArmResults(one.arm, refused=one.refused)
    if one.videos is None:
        return done
    try:
        done.num_steps = one.videos.selection.settings.num_steps
        if one.read is not None:
            outcome = runs.make(one.read, f"{one.arm.label}{place}: attention")
            done.read, done.failed = outcome.run, len(outcome.failed)
            done.losses = _find_losses(one.read, outcome.run, measured)
        outcome = runs.make(one.videos, f"{one.arm.label}{place}: videos")
        done.videos, done.failed = outcome.run, done.failed + len(outcome.failed)
        done.is_warm = outcome.reused < outcome.clips
        done.memory = measured.fill("memory", outcome.run.run_id, lambda: outcome.peak_memory_gib.get("device"))
    except UsageError as error:  # what a loaded network cannot take is known only now
        if not one.arm.is_usual:
            raise
        done.refused = error.message
    return done


def _find_losses(plan: Plan, run: RunDirectory, measured: MeasuredValues) -> Mapping[str, float]:
    """Returns the loss of each clip of a plan; measures the clips that no earlier command had."""
    return measured.extend("losses", run.run_id, plan.selection.clips, partial(measure_losses, plan))


def time_arm(accelerated: Plan, plain: Plan, pairs: int, measured: MeasuredValues, cold: Sequence[Plan]) -> PairedTimes:
    """Returns the times of an arm in turn with the plain model; measures them unless an earlier command did."""
    key = f"{accelerated.fingerprints()['predict']} {plain.fingerprints()['predict']} {pairs}"
    found = measured.fill("times", key, lambda: vars(time_in_turn(accelerated, plain, pairs, cold=cold)))
    return PairedTimes(**found)
