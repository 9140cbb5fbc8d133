"""Compares an accelerated form of a model with the plain model, from their stored runs: one row per measure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vcorr.analysis.comparison import Question, compare_runs
from vcorr.analysis.generated_clips import read_generated
from vcorr.contract.errors import VcorrError
from vcorr.contract.metric_columns import MAIN_METRIC, MOVING
from vcorr.stats.sites import SiteId
from vcorr.store.rundir import RunDirectory
from vcorr.studies.accelerator_measures import compare_videos
from vcorr.studies.accelerator_plans import ArmPlans
from vcorr.studies.accelerator_rows import (
    BEST,
    LOSS,
    MEMORY,
    PSNR,
    SECONDS,
    SKILL,
    AcceleratorRow,
    compare_skills_of,
    compare_values_of,
    describe_values,
)
from vcorr.studies.accelerator_runs import ArmResults


def list_rows(one: ArmResults, plain: ArmResults, plans: ArmPlans, site: SiteId) -> Iterator[AcceleratorRow]:
    """Yields all rows of an arm, on the clips and prompts of the plans: stored runs may hold more.

    plans: of the plain arm. site: at which skill is reported.
    """
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
    yield from _rows_of_attention(clips, one, plain, site, of_clips.selection.clips)
    yield from _rows_of_videos(videos, one, plain, of_prompts.selection.clips)


def _rows_of_attention(
    common: AcceleratorRow, one: ArmResults, plain: ArmResults, site: SiteId, clips: tuple[str, ...]
) -> Iterator[AcceleratorRow]:
    loss = replace(common, metric=LOSS, better="lower")
    reason = one.refused or one.arm.unread
    if one.read is None or plain.read is None or reason:
        for row in (replace(common, metric=SKILL, site=str(site)), replace(common, metric=BEST), loss):
            yield replace(row, reason=reason)
        return
    at_site = Question(sites_a=(str(site),), sites_b=(str(site),), clips=clips)
    yield _compare_skill(replace(common, metric=SKILL), one.read, plain.read, at_site)
    yield _compare_skill(replace(common, metric=BEST), one.read, plain.read, Question(clips=clips))
    yield compare_values_of(loss, one.losses, plain.losses)


def _compare_skill(row: AcceleratorRow, run: RunDirectory, plain: RunDirectory, asked: Question) -> AcceleratorRow:
    """Returns the row of the skill. asked: the clips, and the site; without one, the best site of each side counts."""
    names = (f"{MAIN_METRIC}{MOVING}", MAIN_METRIC)
    for name in names:
        try:
            found = compare_runs(run, plain, replace(asked, metrics=(name,)))
        except VcorrError as error:
            row = replace(row, reason=error.message)
            continue
        rows = [each for each in found.rows if each.heads in ("mean", "given")]
        if rows:
            return compare_skills_of(row, rows[0])
    return row


def _rows_of_videos(
    common: AcceleratorRow, one: ArmResults, plain: ArmResults, clips: tuple[str, ...]
) -> Iterator[AcceleratorRow]:
    seconds = replace(common, metric=SECONDS, better="lower")
    if one.videos is None or plain.videos is None or one.refused:
        for row in (replace(common, metric=PSNR), seconds):
            yield replace(row, reason=one.refused)
        return
    other = {found.column: found.values for found in read_generated(plain.videos, clips).columns}
    for found in read_generated(one.videos, clips).columns:
        row = replace(common, metric=found.column, better="lower" if found.lower_is_better else "higher")
        yield compare_values_of(row, found.values, other.get(found.column, {}))
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
