"""Computes the cells of a knock-out study: the passes of one edit on one clip, with what they measure.

A change is changed - plain, in the attention output before its output projection. Its norm is the root of the sum of
squares over all cut heads, tokens and channels. It is measured per head in the pass without a cut, for the whole cut.
A dose scales it: dose d changes d times as much. So controls get the norm of a cut by their dose alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.capture.recorder import Recorder
from vcorr.contract.errors import UsageError
from vcorr.contract.protocols import Probe
from vcorr.contract.records import Clip, Tracks
from vcorr.contract.tasks import INTERVENTION
from vcorr.diffusion.denoising import RenoisedClip
from vcorr.diffusion.running import Change
from vcorr.interventions.knockout_edits import ChangeMeter, Knockout
from vcorr.runner.judges import make_judges, make_metrics
from vcorr.runner.predict import Prepared, prediction_rows, prepare_clip, track_row
from vcorr.runner.score import ClipScorer, RowContext
from vcorr.runner.stage_facts import common_columns
from vcorr.store.arrow_rows import rows_of
from vcorr.store.columns import to_table
from vcorr.store.schema import PREDICTIONS, TRACKS
from vcorr.studies.knockout_plan import KnockoutPlan, adapter_of
from vcorr.studies.knockout_rows import CONTROL, CUT, LOSS, NORM, PLAIN, KnockoutRow
from vcorr.studies.knockout_sites import SiteSet, Unit, heads_by_layer, set_of

WHOLE, COMMON = "whole", "common"
"""What a pass is matched to: nothing, the cut has its dose; or the smallest norm among the cuts."""
Norms = dict[int, NDArray[np.float64]]
"""(H,) norms of the whole cut in each head, by layer."""


@dataclass(frozen=True)
class Edit:
    """What is changed in the passes of a cell. control: its number; -1 for a cut. name: of its file."""

    role: str
    cut: SiteSet
    units: frozenset[Unit]
    control: int = -1

    @property
    def name(self) -> str:
        """The name of the file of its cells."""
        return f"{CUT} {self.cut.name}" if self.role == CUT else f"{CONTROL} {len(self.units)} {self.control}"


@dataclass(frozen=True)
class Target:
    """The change that a pass should make. matched: see `KnockoutRow`. asked: the dose of the study."""

    matched: str
    asked: float
    norm: float


def edits_of(study: KnockoutPlan) -> list[Edit]:
    """Returns all edits of a study: its cuts, then its controls."""
    cuts = [Edit(CUT, one, one.units(study.heads)) for one in study.sets]
    drawn = [(i, units) for sets in study.controls.values() for i, units in enumerate(sets)]
    return [*cuts, *(Edit(CONTROL, set_of(units), units, i) for i, units in drawn)]


def norm_of(norms: Norms, units: frozenset[Unit]) -> float:
    """Returns the norm of the whole cut of some heads: the root of the sum of squares."""
    return math.sqrt(sum(float(norms[unit.layer][unit.head]) ** 2 for unit in units))


def read_norms(rows: Sequence[dict[str, Any]]) -> dict[int, Norms]:
    """Returns the norms that the cell of the model as it is holds, by step."""
    found: dict[int, dict[int, dict[int, float]]] = {}
    for row in rows:
        if row["metric"] == NORM:
            found.setdefault(row["step"], {}).setdefault(row["layer"], {})[row["head"]] = row["value"]
    return {
        step: {layer: np.array([heads[i] for i in range(len(heads))]) for layer, heads in layers.items()}
        for step, layers in found.items()
    }


def find_targets(study: KnockoutPlan, edit: Edit, norms: Norms, step: int) -> Iterator[Target]:
    """Yields the changes that an edit should make in a step, in the same order at every step.

    norms: of the whole cut in every head, in this step.
    """
    at_step = [one for one in study.sets if one.step in (-1, step)]
    sizes = {one.name: norm_of(norms, one.units(study.heads)) for one in at_step}
    for dose in study.options.doses:
        if edit.role == CUT:
            yield Target(WHOLE, dose, dose * norm_of(norms, edit.units))
        if not study.options.own:
            yield Target(COMMON, dose, dose * min(sizes.values()))
        elif edit.role == CONTROL:
            same = [one for one in at_step if len(one.units(study.heads)) == len(edit.units)]
            yield from (Target(one.name, dose, dose * sizes[one.name]) for one in same)


@dataclass
class CellMaker(ABC):
    """Makes the cells of one clip. The clip is prepared by the first pass that is needed.

    study: the plan. id: of the study. clip_id: of the clip. probes: of the model that is loaded.
    """

    study: KnockoutPlan
    id: str
    clip_id: str
    probes: dict[str, Probe]
    _passes: int = field(default=0, init=False)

    @property
    def passes(self) -> int:
        """The number of passes so far; in mode generate, of videos."""
        return self._passes

    @abstractmethod
    def plain(self) -> list[KnockoutRow]:
        """Measures the model as it is, and what a whole cut would change in every head."""

    @abstractmethod
    def edit(self, edit: Edit, norms: dict[int, Norms]) -> list[KnockoutRow]:
        """Measures one edit in all its doses. norms: as `read_norms` returns them."""

    def _row(self, role: str, step: int) -> KnockoutRow:
        context = self._context
        return KnockoutRow(
            study=self.id,
            model=context.model,
            weights=context.weights,
            dataset=context.dataset,
            split=context.split,
            clip=self.clip_id,
            role=role,
            cut_kind=self.study.kind,
            step=step,
            seed=context.seed,
        )

    def _start_recorder(self) -> Recorder:
        """Returns a recorder of the layers that are read; of none, it reads nothing."""
        readers = self.study.readers
        return Recorder(self.probes if readers else {}, self._prepared.clip.queries, layers=frozenset(readers))

    def _score_matching(self, base: KnockoutRow, recorder: Recorder, scorer: ClipScorer) -> list[KnockoutRow]:
        """Returns the scores of matching at the layers that a recorder has read."""
        stored = prediction_rows(self.id, self._prepared.clip, recorder.answers, task=INTERVENTION)
        return [
            replace(
                base,
                metric=found.metric,
                layer=found.layer,
                step=found.step,
                noise=found.noise,
                value=found.value,
                floor=found.floor,
                ceiling=found.ceiling,
                n=found.n,
            )
            for prediction in rows_of(to_table(stored, PREDICTIONS))
            for found in scorer.rows(self._context, prediction)
        ]

    def _make_scorer(self, clip: Clip, tracks: Tracks, *, video: str = "") -> ClipScorer:
        """Returns what scores matching in a clip. video: the hash of the video if it was generated."""
        plan = self.study.plan
        (judge,) = make_judges(plan.selection.variants[:1], make_metrics(plan.parts.metrics))
        row = track_row(self.id, plan, clip, tracks, video=video, facts=self._prepared.facts)
        return ClipScorer(judge, rows_of(to_table([row], TRACKS))[0])

    @cached_property
    def _prepared(self) -> Prepared:
        return prepare_clip(self.study.plan, self.clip_id)

    @cached_property
    def _layout(self) -> Any:
        return adapter_of(self.study.plan).layout()

    @cached_property
    def _context(self) -> RowContext:
        return RowContext(run=self.id, **{**common_columns(self.study.plan), "task": INTERVENTION})


class ClipCells(CellMaker):
    """Makes the cells of one clip in mode renoise: one pass per step and dose."""

    def plain(self) -> list[KnockoutRow]:
        """Measures the model as it is, and what a whole cut would change in every head."""
        rows: list[KnockoutRow] = []
        for step in self.study.steps:
            meter = ChangeMeter(self.study.kind, self._renoised.grid, self._layout)
            base = self._row(PLAIN, step)
            rows += self._measure(base, step, Change(self.study.sites, meter))
            rows += norm_rows(base, meter.norms)
        return rows

    def edit(self, edit: Edit, norms: dict[int, Norms]) -> list[KnockoutRow]:
        """Measures the passes of one edit. norms: as `read_norms` returns them."""
        steps = [step for step in self.study.steps if edit.cut.step in (-1, step)]
        return [row for step in steps for row in self._edit_at(edit, step, norms[step])]

    def _edit_at(self, edit: Edit, step: int, norms: Norms) -> list[KnockoutRow]:
        full = norm_of(norms, edit.units)
        made: dict[float, list[KnockoutRow]] = {}
        rows: list[KnockoutRow] = []
        for target in find_targets(self.study, edit, norms, step):
            dose = target.norm / full if full > 0 else 0.0
            same = next((done for done in made if math.isclose(done, dose, rel_tol=1e-9)), None)
            found = made[same] if same is not None else self._pass(edit, step, dose)
            made[dose] = found
            rows += [replace(row, matched=target.matched, cut_dose=target.asked, norm=target.norm) for row in found]
        return rows

    def _pass(self, edit: Edit, step: int, dose: float) -> list[KnockoutRow]:
        """Runs one pass with an edit in some dose."""
        changes: Norms = {}
        heads = heads_by_layer(edit.units)
        knockout = Knockout(self.study.kind, heads, self._renoised.grid, self._layout, dose, changes=changes)
        base = replace(self._row(edit.role, step), control=edit.control, cut_sites=edit.cut.name, dose=dose)
        sites = [site for site in self.study.sites if site.layer in heads]
        rows = self._measure(base, step, Change(sites, knockout))
        made = math.sqrt(sum(float(np.sum(np.square(each))) for each in changes.values()))
        return [replace(row, norm_made=made) for row in rows]

    def _measure(self, base: KnockoutRow, step: int, change: Change) -> list[KnockoutRow]:
        """Runs one pass; returns its loss, and the scores at the layers that are read."""
        self._passes += 1
        recorder = self._start_recorder()
        loss = self._renoised.denoise(step, recorder, change)
        return [replace(base, metric=LOSS, value=loss), *self._score_matching(base, recorder, self._scorer)]

    def _row(self, role: str, step: int) -> KnockoutRow:
        return replace(super()._row(role, step), noise=self._renoised.noise(step))

    @cached_property
    def _renoised(self) -> RenoisedClip:
        plan = self.study.plan
        with plan.parts.model.name.calling("run()"):
            return RenoisedClip(adapter_of(plan), self._prepared.clip, plan.selection.settings_for(self.clip_id))

    @cached_property
    def _scorer(self) -> ClipScorer:
        """Scores predictions of this clip; floors and ceilings are computed once."""
        clip = self._prepared.clip
        if clip.tracks is None:
            raise UsageError(
                f"Clip {self.clip_id} has no tracks, and a knock-out is measured by matching them.",
                hint="Name data with known tracks, such as --data sprites.",
            )
        return self._make_scorer(clip, clip.tracks)


def norm_rows(base: KnockoutRow, norms: Norms) -> list[KnockoutRow]:
    """Returns the rows that hold the norm of the whole cut in every head. base: of their step."""
    return [
        replace(base, metric=NORM, layer=layer, head=head, value=float(value))
        for layer, heads in sorted(norms.items())
        for head, value in enumerate(heads)
    ]
