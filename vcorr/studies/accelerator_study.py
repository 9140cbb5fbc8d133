"""Measures what accelerators cost: correspondence, denoising loss and scores of videos next to the time that they save.

A study is a folder: its ordinary runs in `runs/`, `measured.json` with losses and times, `study.json`, and the table
`accelerators.arrow`. Repeating the command goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from vcorr.analysis.comparison import Question, compare_runs
from vcorr.analysis.generated_clips import read_generated
from vcorr.contract.errors import MissingError, UsageError, VcorrError
from vcorr.contract.metric_columns import MAIN_METRIC, MOVING
from vcorr.diffusion.adapter import DiffusersVideoModel
from vcorr.plugins.registry import Registry
from vcorr.runner.called_model import CalledModel
from vcorr.runner.parts import card_of, model_part
from vcorr.runner.plan import Plan, make_plan
from vcorr.runner.spec import RunSpec
from vcorr.runner.tracking import note_random
from vcorr.runner.tracking_site import fill_site
from vcorr.stats.sites import SiteId, parse_site
from vcorr.store.atomic_files import make_folder
from vcorr.store.rundir import RunDirectory
from vcorr.studies.accelerator_arms import PLAIN, AcceleratedArm
from vcorr.studies.accelerator_measures import (
    PairedTimes,
    compare_videos,
    measure_losses,
    time_in_turn,
)
from vcorr.studies.accelerator_rows import (
    BEST,
    LOSS,
    MEMORY,
    PSNR,
    SECONDS,
    SKILL,
    TABLE,
    AcceleratorRow,
    compare_skills_of,
    compare_values,
    correct_rows,
    describe_values,
)
from vcorr.studies.measured_values import MeasuredValues
from vcorr.studies.study_runs import StudyRuns, Watch

ROWS = "accelerators.arrow"
STUDY_VERSION = 1


@dataclass(frozen=True)
class AcceleratorQuestion:
    """What to study.

    read: spec of the correspondence runs. videos: spec of the generation runs. arms: without the plain one. pairs:
    pairs of videos that are timed; 0 for none. site: where skill is reported, LAYER:STEP; "" for the site of the
    model's card. command: the command line.
    """

    read: RunSpec
    videos: RunSpec
    arms: tuple[AcceleratedArm, ...]
    pairs: int = 1
    site: str = ""
    command: Sequence[str] = ()


@dataclass(frozen=True)
class AcceleratorStudy:
    """A study that is done. rows: one per arm and measure. facts: what `study.json` says. failed: number of clips."""

    folder: Path
    rows: tuple[AcceleratorRow, ...]
    facts: Mapping[str, Any]
    failed: int


@dataclass(frozen=True)
class _Plans:
    """The two runs of an arm. read: None if its attention is not measured. refused: why the model cannot take it."""

    arm: AcceleratedArm
    read: Plan | None = None
    videos: Plan | None = None
    refused: str = ""

    def both(self) -> tuple[Plan, Plan]:
        """Returns the two runs of an arm that has both, as the plain one does."""
        assert self.read is not None
        assert self.videos is not None
        return self.read, self.videos


@dataclass
class _Done:
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


def run_accelerator_study(
    asked: AcceleratorQuestion, registry: Registry, folder: Path, watch: Watch
) -> AcceleratorStudy:
    """Makes what is missing of a study, compares every arm with the plain model, and writes table and record.

    Every plan is made before anything is loaded, so a wrong option of one arm is an error at once. An arm that the
    study chose by itself, and that the model cannot take, becomes a row with its reason.

    Raises:
        UsageError: a name or an option is wrong, or the model cannot take an arm that was named.
        StoreError, PluginError, MissingError: as in any run; what is done stays.
        InterruptedRunError: the user interrupted a run; the same command goes on from there.
    """
    plain = _plan_arm(AcceleratedArm(PLAIN), asked, registry)
    read, videos = plain.both()
    site = find_site(asked, read, registry)
    plans = [_plan_arm(arm, asked, registry) for arm in asked.arms]
    make_folder(folder)
    runs, measured = StudyRuns(folder, watch, asked.command), MeasuredValues(folder)
    own = _run_arm(plain, runs, measured)
    done = []
    for number, one in enumerate(plans):
        found = _run_arm(one, runs, measured, f" ({number + 1} of {len(plans)})")
        if asked.pairs and one.videos is not None and not found.refused:
            cold = [plan for plan, made in ((videos, own), (one.videos, found)) if not made.is_warm]
            found.times = _time_arm(one.videos, videos, asked.pairs, measured, cold)
            own.is_warm = True
        done.append(found)
    rows = correct_rows([row for one in done for row in _rows_of(one, own, plain, site)])
    facts = _facts(asked, read, videos, site, [own, *done])
    TABLE.write(folder / ROWS, rows)
    runs.write_record(facts)
    return AcceleratorStudy(folder, rows, facts, own.failed + sum(one.failed for one in done))


# --------------------------------------------------------------------------------------------------------------- plans


def find_num_steps(spec: RunSpec, registry: Registry) -> int:
    """Returns the number of sampling steps of the plain videos.

    Raises:
        UsageError: the model or an option is unknown, or the model is no diffusers model, which accelerators are for.
    """
    adapter = CalledModel(model_part(spec, registry))
    if not isinstance(adapter.made, DiffusersVideoModel):
        raise UsageError(
            f"Model {spec.model!r} is not a diffusers video model, so there is nothing to accelerate.",
            hint="See: vcorr list models",
        )
    return spec.num_steps or adapter.steps


def find_site(asked: AcceleratorQuestion, plan: Plan, registry: Registry) -> SiteId:
    """Returns the site at which skill is reported: the one that was named, or the first layer of the model's card.

    Raises:
        UsageError: the card names no layer; or the study does not read the site.
    """
    spec, settings = asked.read, plan.selection.settings
    site = parse_site(asked.site) if asked.site else _read_card_site(spec, plan, registry)
    if site.step not in settings.steps or site.layer not in plan.selection.layers:
        named = "--site" if asked.site else f"The card of {spec.model}"
        raise UsageError(
            f"{named} names the site {site}, which this study does not read.",
            hint=f"Name another with --site, or read it too: layer {site.layer} and step {site.step}.",
        )
    return site


def _read_card_site(spec: RunSpec, plan: Plan, registry: Registry) -> SiteId:
    adapter, card = plan.live.adapter, card_of(model_part(spec, registry))
    open_spec = replace(spec, layers="all", steps=None)
    named = fill_site(open_spec, adapter.sites(), adapter.steps, card, plan.identity.weights).spec
    last = plan.selection.settings.num_steps - 1
    return SiteId(int(named.layers.split(",")[0]), last if named.steps == "last" else int(str(named.steps)))


def _plan_arm(arm: AcceleratedArm, asked: AcceleratorQuestion, registry: Registry) -> _Plans:
    """Makes the plans of an arm."""
    try:
        videos = make_plan(arm.fill(asked.videos), registry)
        if arm.unread and arm.label != PLAIN:
            return _Plans(arm, None, videos)
        read = make_plan(arm.fill(asked.read), registry)
        return _Plans(arm, read, videos.with_model_of(read))
    except (UsageError, MissingError) as error:
        if not arm.is_usual:
            raise
        return _Plans(arm, refused=error.message)


# ---------------------------------------------------------------------------------------------------------------- runs


def _run_arm(one: _Plans, runs: StudyRuns, measured: MeasuredValues, place: str = "") -> _Done:
    """Makes the runs of an arm, and measures its loss."""
    done = _Done(one.arm, refused=one.refused)
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


def _time_arm(
    accelerated: Plan, plain: Plan, pairs: int, measured: MeasuredValues, cold: Sequence[Plan]
) -> PairedTimes:
    """Returns the times of an arm in turn with the plain model; measures them unless an earlier command did."""
    key = f"{accelerated.fingerprints()['predict']} {plain.fingerprints()['predict']} {pairs}"
    found = measured.fill("times", key, lambda: vars(time_in_turn(accelerated, plain, pairs, cold=cold)))
    return PairedTimes(**found)


# ---------------------------------------------------------------------------------------------------------------- rows


def _rows_of(one: _Done, plain: _Done, plans: _Plans, site: SiteId) -> Iterator[AcceleratorRow]:
    """Yields all rows of an arm."""
    (of_clips, of_prompts), arm = plans.both(), one.arm
    common = AcceleratorRow(
        model=of_clips.parts.model.entry.name,
        weights=of_clips.identity.weights,
        device=of_clips.hardware.name,
        dtype=of_clips.hardware.dtype,
        accelerator=arm.label,
        title=arm.title,
        note=arm.note,
        num_steps=one.num_steps,
    )
    clips = replace(common, dataset=of_clips.dataset, split=of_clips.split)
    videos = replace(common, dataset=of_prompts.dataset, split=of_prompts.split)
    yield from _rows_of_attention(clips, one, plain, site)
    yield from _rows_of_videos(videos, one, plain, of_prompts.selection.clips)


def _rows_of_attention(common: AcceleratorRow, one: _Done, plain: _Done, site: SiteId) -> Iterator[AcceleratorRow]:
    loss = replace(common, metric=LOSS, better="lower")
    reason = one.refused or one.arm.unread
    if one.read is None or plain.read is None or reason:
        for row in (replace(common, metric=SKILL, site=str(site)), replace(common, metric=BEST), loss):
            yield replace(row, reason=reason)
        return
    yield _compare_skill(replace(common, metric=SKILL), one.read, plain.read, str(site))
    yield _compare_skill(replace(common, metric=BEST), one.read, plain.read)
    yield compare_values(loss, one.losses, plain.losses)


def _compare_skill(row: AcceleratorRow, run: RunDirectory, plain: RunDirectory, site: str = "") -> AcceleratorRow:
    """Returns the row of the skill at a site, or at the best site of each side if none is named."""
    sites = (site,) if site else ()
    names = (f"{MAIN_METRIC}{MOVING}", MAIN_METRIC)
    for name in names:
        try:
            found = compare_runs(run, plain, Question((name,), sites_a=sites, sites_b=sites))
        except VcorrError as error:
            row = replace(row, reason=error.message)
            continue
        rows = [each for each in found.rows if each.heads in ("mean", "given")]
        if rows:
            return compare_skills_of(row, rows[0])
    return row


def _rows_of_videos(
    common: AcceleratorRow, one: _Done, plain: _Done, clips: tuple[str, ...]
) -> Iterator[AcceleratorRow]:
    seconds = replace(common, metric=SECONDS, better="lower")
    if one.videos is None or plain.videos is None or one.refused:
        for row in (replace(common, metric=PSNR), seconds):
            yield replace(row, reason=one.refused)
        return
    other = {found.column: found.values for found in read_generated(plain.videos, clips).columns}
    for found in read_generated(one.videos, clips).columns:
        row = replace(common, metric=found.column, better="lower" if found.lower_is_better else "higher")
        yield compare_values(row, found.values, other.get(found.column, {}))
    ratios = compare_videos(one.videos, plain.videos, clips)
    psnr_row = replace(common, metric=PSNR)
    yield describe_values(psnr_row, ratios) if ratios else replace(psnr_row, reason="its videos have another size")
    if one.times is None:
        yield replace(seconds, reason="not timed")
    else:
        times = one.times
        yield replace(seconds, value=times.seconds, plain=times.plain, ratio=times.ratio, clips=times.pairs)
    if one.memory is not None and plain.memory is not None:
        difference = one.memory - plain.memory
        row = replace(common, metric=MEMORY, better="lower", value=one.memory, plain=plain.memory)
        yield replace(row, difference=difference, clips=len(clips))


def _facts(asked: AcceleratorQuestion, read: Plan, videos: Plan, site: SiteId, done: Sequence[_Done]) -> dict[str, Any]:
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


def _describe(one: _Done) -> dict[str, Any]:
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
