"""Runs all guidances on the same prompts and seeds, and compares their scores, prompt by prompt.

A study is a folder: its ordinary runs in `runs/`, `measured.json` with seconds, `study.json`, the table
`guidance.arrow`, and a page with strips of frames. Repeating the command goes on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vcorr.analysis.generated_clips import GeneratedScores, read_generated
from vcorr.contract.errors import UsageError
from vcorr.plugins.registry import Registry
from vcorr.runner.coordinator import Outcome
from vcorr.runner.plan import Plan, make_plan
from vcorr.runner.spec import NO_GUIDANCE, RunSpec, check_seed
from vcorr.runner.tracking import note_random
from vcorr.store.atomic_files import make_folder
from vcorr.store.rundir import RunDirectory
from vcorr.studies.guidance_arms import Arm, check_shared, find_option_names
from vcorr.studies.guidance_rows import TABLE, GuidanceRow, compare_arms
from vcorr.studies.measured_values import MeasuredValues
from vcorr.studies.study_runs import StudyRuns, Watch, say_arms, say_kept

ROWS = "guidance.arrow"
STUDY_VERSION = 1


@dataclass(frozen=True)
class ArmRuns:
    """What was made for one arm.

    runs: by seed. layers: in which the guidance acts, with commas. seconds: per video, the mean over the runs that
    measured it; NaN if none did. failed: number of videos that failed.
    """

    arm: Arm
    runs: Mapping[int, RunDirectory]
    layers: str
    seconds: float
    failed: int


@dataclass(frozen=True)
class GuidanceStudy:
    """A study that is done. rows: see `GuidanceRow`. clips: the prompts by clip id. notes: sentences for the reader."""

    folder: Path
    arms: tuple[ArmRuns, ...]
    rows: tuple[GuidanceRow, ...]
    clips: Mapping[str, str]
    facts: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """Number of videos that could not be made."""
        return sum(one.failed for one in self.arms)


@dataclass(frozen=True)
class GuidanceQuestion:
    """What to study. spec: of all runs; its guidance options are shared by the arms. arms: with `none` among them."""

    spec: RunSpec
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    command: Sequence[str] = field(default=())


def run_guidance_study(asked: GuidanceQuestion, registry: Registry, folder: Path, watch: Watch) -> GuidanceStudy:
    """Makes the runs of a study that are missing, compares them, and writes table and record.

    Every plan is made before anything is loaded, so a wrong option of one arm is an error at once.

    Raises:
        UsageError: an option fits no arm, or a seed is out of range or there twice.
        StoreError, PluginError, MissingError: as in any run; what is done stays.
        InterruptedRunError: the user interrupted the study; the same command goes on from there.
    """
    _check_seeds(asked.seeds)
    names = {arm: find_option_names(arm, registry) for arm in asked.arms}
    check_shared(asked.spec, list(names.values()))
    specs = {arm: arm.fill(asked.spec, names[arm]) for arm in asked.arms}
    plans = {arm: _plan_seeds(spec, asked.seeds, registry) for arm, spec in specs.items()}
    first = plans[asked.arms[0]][0]
    make_folder(folder)
    runs, measured = StudyRuns(folder, watch, asked.command), MeasuredValues(folder)
    arms: list[ArmRuns] = []
    with say_kept(lambda: say_arms(len(arms), len(asked.arms), folder)):
        for number, arm in enumerate(asked.arms):
            title = f"{arm.label} ({number + 1} of {len(asked.arms)})"
            shared = [plan.with_model_of(first) for plan in plans[arm]]  # one model is loaded, once
            seeded = zip(asked.seeds, shared, strict=True)
            made = {seed: _make_run(runs, plan, f"{title}, seed {seed}", measured) for seed, plan in seeded}
            arms.append(_gather_arm(arm, shared[0], made))
        study = _finish(asked, first, arms, folder)
        TABLE.write(folder / ROWS, study.rows)
        runs.write_record(study.facts)
    return study


def _check_seeds(seeds: Sequence[int]) -> None:
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {','.join(map(str, seeds))}: name at least one, and each once.")
    for seed in seeds:
        check_seed(seed, "--seeds")


def _plan_seeds(spec: RunSpec, seeds: Sequence[int], registry: Registry) -> list[Plan]:
    return [make_plan(replace(spec, seed=seed), registry) for seed in seeds]


@dataclass(frozen=True)
class _Made:
    """A run that was made. seconds: per video; NaN if no command measured it."""

    outcome: Outcome
    seconds: float


def _make_run(runs: StudyRuns, plan: Plan, title: str, measured: MeasuredValues) -> _Made:
    """Makes a run. What a video of it took is kept, for the commands that only reuse its videos."""
    outcome = runs.make(plan, title)
    seconds = (outcome.run.record().get("seconds") or {}).get("per_computed_clip")
    if seconds is not None:
        measured.store("seconds", outcome.run.run_id, float(seconds))
    return _Made(outcome, float(measured.get("seconds", outcome.run.run_id, math.nan)))


def _gather_arm(arm: Arm, plan: Plan, made: Mapping[int, _Made]) -> ArmRuns:
    """Returns what was made for an arm. made: by seed."""
    guided = plan.selection.guided
    seconds = [one.seconds for one in made.values() if not math.isnan(one.seconds)]
    return ArmRuns(
        arm,
        {seed: one.outcome.run for seed, one in made.items()},
        "" if guided is None else str(guided.columns()["guidance_layers"]),
        float(np.mean(seconds)) if seconds else math.nan,
        sum(len(one.outcome.failed) for one in made.values()),
    )


def _finish(asked: GuidanceQuestion, plan: Plan, arms: Sequence[ArmRuns], folder: Path) -> GuidanceStudy:
    found = {one.arm.label: _read_scores(one, plan.selection.clips) for one in arms}
    facts = {
        "study": TABLE.name,
        "version": STUDY_VERSION,
        "model": plan.parts.model.entry.name,
        "weights": plan.identity.weights,
        "dataset": plan.dataset,
        "split": plan.split,
        "seeds": list(asked.seeds),
        "num_steps": plan.selection.settings.num_steps,
        "cfg": plan.selection.settings.cfg,
        "clips": len(plan.selection.clips),
        "arms": [_describe(one) for one in arms],
        "command": list(asked.command),
    }
    clips = {clip: plan.live.dataset.clip(clip).prompt for clip in plan.selection.clips}
    return GuidanceStudy(folder, tuple(arms), tuple(_compare(facts, arms, found)), clips, facts, _notes(plan, arms))


def _describe(one: ArmRuns) -> dict[str, Any]:
    return {
        "label": one.arm.label,
        "guidance": one.arm.guidance,
        "options": dict(one.arm.options),
        "layers": one.layers,
        "seconds": None if math.isnan(one.seconds) else one.seconds,
        "failed": one.failed,
        "runs": {str(seed): run.run_id for seed, run in one.runs.items()},
    }


def _read_scores(one: ArmRuns, clips: Sequence[str]) -> list[GeneratedScores]:
    return [read_generated(run, clips) for run in one.runs.values()]


def _compare(
    facts: Mapping[str, Any], arms: Sequence[ArmRuns], found: Mapping[str, Sequence[GeneratedScores]]
) -> list[GuidanceRow]:
    common = GuidanceRow(
        model=facts["model"],
        weights=facts["weights"],
        dataset=facts["dataset"],
        split=facts["split"],
        seeds=",".join(map(str, facts["seeds"])),
    )
    columns = {one.column: one.lower_is_better for scores in found.values() for each in scores for one in each.columns}
    by_label = {one.arm.label: one for one in arms}
    rows = []
    for name, is_error in columns.items():
        values = {label: [each.values_of(name) for each in scores] for label, scores in found.items()}
        row = replace(common, metric=name, better="lower" if is_error else "higher")
        rows += [_with_cost(each, by_label) for each in compare_arms(row, values)]
    return rows


def _with_cost(row: GuidanceRow, arms: Mapping[str, ArmRuns]) -> GuidanceRow:
    one = arms[row.guidance]
    return replace(row, layers=one.layers, seconds=one.seconds, control_seconds=arms[row.control].seconds)


def _notes(plan: Plan, arms: Sequence[ArmRuns]) -> tuple[str, ...]:
    """Returns what a reader must know: random weights, a guidance that changed no video, and videos that failed."""
    plain = _read_hashes(next(one for one in arms if one.arm.label == NO_GUIDANCE))
    others = [one for one in arms if one.arm.label != NO_GUIDANCE]
    said = [
        f"{one.arm.label} changed no video: each is equal, bit for bit, to the one of none."
        for one in others
        if _is_same(_read_hashes(one), plain)
    ]
    failed = [f"{one.failed} videos of {one.arm.label} failed." for one in arms if one.failed]
    return (*note_random(plan.identity.weights), *said, *failed)


def _is_same(own: Mapping[tuple[int, str], str], plain: Mapping[tuple[int, str], str]) -> bool:
    """Returns whether all videos that both arms have are equal; False if they share none."""
    both = own.keys() & plain.keys()
    return bool(both) and all(own[key] == plain[key] for key in both)


def _read_hashes(one: ArmRuns) -> dict[tuple[int, str], str]:
    """Returns the hash of every video of an arm by seed and clip."""
    return {
        (seed, row["clip"]): row["video"]
        for seed, run in one.runs.items()
        for row in run.read("tracks").select(["clip", "video"]).to_pylist()
    }
