"""Measures what accelerators cost: correspondence, denoising loss and scores of videos next to the time that they save.

A study is a folder: its ordinary runs in `runs/`, `measured.json` with losses and times, `study.json`, and the table
`accelerators.arrow`. Repeating the command goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcorr.plugins.registry import Registry
from vcorr.runner.plan import Plan
from vcorr.runner.tracking import note_random
from vcorr.stats.sites import SiteId
from vcorr.store.atomic_files import make_folder
from vcorr.studies.accelerator_arms import PLAIN, AcceleratedArm
from vcorr.studies.accelerator_comparison import list_rows
from vcorr.studies.accelerator_plans import AcceleratorQuestion, ArmPlans, find_site, plan_arm
from vcorr.studies.accelerator_rows import TABLE, AcceleratorRow, correct_rows
from vcorr.studies.accelerator_runs import ArmResults, run_arm, time_arm
from vcorr.studies.measured_values import MeasuredValues
from vcorr.studies.study_runs import StudyRuns, Watch, say_arms, say_kept

ROWS = "accelerators.arrow"
STUDY_VERSION = 1


@dataclass(frozen=True)
class AcceleratorStudy:
    """A study that is done. rows: one per arm and measure. facts: what `study.json` says. failed: number of clips."""

    folder: Path
    rows: tuple[AcceleratorRow, ...]
    facts: Mapping[str, Any]
    failed: int


def run_accelerator_study(
    asked: AcceleratorQuestion, registry: Registry, folder: Path, watch: Watch
) -> AcceleratorStudy:
    """Makes what is missing of a study, compares every arm with the plain model, and writes table and record.

    Every plan is made before anything is loaded, so a wrong option of one arm is an error at once. An arm that the
    study chose by itself, and that the model cannot take, becomes a row with its reason.

    Raises:
        UsageError: a name or an option is wrong, or the model cannot take an arm that was named.
        StoreError, PluginError, MissingError: as in any run; what is done stays.
        InterruptedRunError: the user interrupted the study; the same command goes on from there.
    """
    plain = plan_arm(AcceleratedArm(PLAIN), asked, registry)
    read, videos = plain.both()
    site = find_site(asked, read, registry)
    plans = [plan_arm(arm, asked, registry) for arm in asked.arms]
    make_folder(folder)
    runs, measured = StudyRuns(folder, watch, asked.command), MeasuredValues(folder)
    made: list[ArmResults] = []
    with say_kept(lambda: say_arms(len(made), 1 + len(plans), folder)):
        _make_arms(made, plain, plans, asked.pairs, runs, measured)
        own, *done = made
        rows = correct_rows([row for one in done for row in list_rows(one, own, plain, site)])
        facts = _facts(asked, read, videos, site, made)
        TABLE.write(folder / ROWS, rows)
        runs.write_record(facts)
    return AcceleratorStudy(folder, rows, facts, sum(one.failed for one in made))


def _make_arms(
    made: list[ArmResults],
    plain: ArmPlans,
    plans: Sequence[ArmPlans],
    pairs: int,
    runs: StudyRuns,
    measured: MeasuredValues,
) -> None:
    """Makes the plain arm, then the others, each timed in turn with the plain model. made: gets each that is done."""
    _, videos = plain.both()
    own = run_arm(plain, runs, measured)
    made.append(own)
    for number, one in enumerate(plans):
        found = run_arm(one, runs, measured, f" ({number + 1} of {len(plans)})")
        if pairs and one.videos is not None and not found.refused:
            cold = [plan for plan, arm in ((videos, own), (one.videos, found)) if not arm.is_warm]
            found.times = time_arm(one.videos, videos, pairs, measured, cold)
            own.is_warm = True
        made.append(found)


def _facts(
    asked: AcceleratorQuestion, read: Plan, videos: Plan, site: SiteId, done: Sequence[ArmResults]
) -> dict[str, Any]:
    return {
        "study": TABLE.name,
        "version": STUDY_VERSION,
        "model": read.parts.model.entry.name,
        "weights": read.identity.weights,
        "device": read.hardware.name,
        "dtype": read.hardware.dtype,
        "dataset": read.dataset,
        "split": read.split,
        "clips": len(read.selection.clips),
        "probe": asked.read.probe,
        "site": str(site),
        "steps": list(read.selection.settings.steps),
        "prompts": len(videos.selection.clips),
        "num_steps": videos.selection.settings.num_steps,
        "seed": asked.videos.seed,
        "pairs": asked.pairs,
        "notes": list(note_random(read.identity.weights)),
        "arms": [_describe(one) for one in done],
        "command": list(asked.command),
    }


def _describe(one: ArmResults) -> dict[str, Any]:
    runs = {"attention": one.read, "videos": one.videos}
    return {
        "label": one.arm.label,
        "title": one.arm.title,
        "note": one.arm.note,
        "num_steps": one.num_steps,
        "refused": one.refused,
        "failed": one.failed,
        "runs": {name: None if run is None else run.run_id for name, run in runs.items()},
    }
