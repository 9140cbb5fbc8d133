"""Computes the cells of a knock-out study in mode generate: a video is sampled under an edit, tracked and scored.

Norms are measured in the video of the model as it is, at every step that is cut. So an edit has one dose per step. Its
video then goes its own way, and the norm that it really has is written next to the one that it should have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from vcorr.capture.captures import TokenLayout
from vcorr.capture.interceptors import EditableCall
from vcorr.capture.tap import Compute
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.records import NO_SITE, Clip, Site
from vcorr.data.video.lossless import video_hash
from vcorr.diffusion.running import Change, sample_changed
from vcorr.interventions.knockout_cuts import CutKind, compute_cut
from vcorr.interventions.knockout_edits import Knockout, head_norms
from vcorr.runner.called_tracker import CalledTracker
from vcorr.runner.generation import track_video
from vcorr.runner.judges import Judge, make_judges, make_metrics
from vcorr.runner.video_scoring import score_video
from vcorr.studies.knockout_cells import WHOLE, CellMaker, Edit, Norms, Target, find_targets, norm_of, norm_rows
from vcorr.studies.knockout_plan import adapter_of
from vcorr.studies.knockout_rows import PLAIN, KnockoutRow
from vcorr.studies.knockout_sites import heads_by_layer

GridOf = Callable[[Site], TokenGrid]


@dataclass(frozen=True)
class StepMeter:
    """An interceptor that changes nothing, and measures what a whole cut would change in every head at some steps.

    squares: by step and layer, (H,) float64, the sum of squares of cut - plain over all passes of the step.
    """

    kind: CutKind
    grid: GridOf
    layout: TokenLayout
    steps: frozenset[int]
    squares: dict[int, Norms] = field(default_factory=dict)

    def __call__(self, call: EditableCall, compute: Compute) -> Tensor:
        """Returns the output of a call as it is, (B, H, N, D), and notes what a cut would change."""
        plain = compute(call)
        if call.step in self.steps:
            cut = compute_cut(self.kind, call, plain, call.site, self.grid(call.site), self.layout)
            _add(self.squares, call.step, call.site.layer, head_norms(cut - plain) ** 2)
        return plain

    def norms(self, step: int) -> Norms:
        """Returns the norms of a step; see `read_norms`."""
        return {layer: np.sqrt(squares) for layer, squares in self.squares[step].items()}


@dataclass(frozen=True)
class StepKnockout:
    """An interceptor that knocks out attention in another dose at every step.

    knockout: in any dose. doses: by step; no other step is cut. squares: as in `StepMeter`, of what was changed, in the
    cut heads.
    """

    knockout: Knockout
    doses: Mapping[int, float]
    squares: dict[int, Norms] = field(default_factory=dict)

    def __call__(self, call: EditableCall, compute: Compute) -> Tensor:
        """Returns the output of a call, (B, H, N, D), with the cut of its step."""
        dose = self.doses.get(call.step, 0.0)
        if not dose:
            return compute(call)
        changes: Norms = {}
        changed = replace(self.knockout, dose=dose, changes=changes)(call, compute)
        for layer, norms in changes.items():
            _add(self.squares, call.step, layer, norms**2)
        return changed

    @property
    def norm(self) -> float:
        """The norm of all changes: the root of the sum of squares over steps, layers and heads."""
        return math.sqrt(sum(float(each.sum()) for step in self.squares.values() for each in step.values()))


def _add(squares: dict[int, Norms], step: int, layer: int, more: Any) -> None:
    found = squares.setdefault(step, {})
    found[layer] = found[layer] + more if layer in found else more


@dataclass(frozen=True)
class _Dose:
    """One target of an edit at every cut step. doses: that reach it, by step. targets: one per step."""

    doses: Mapping[int, float]
    targets: Sequence[Target]

    @property
    def norm(self) -> float:
        return math.sqrt(sum(one.norm**2 for one in self.targets))

    def is_like(self, other: _Dose) -> bool:
        """Returns whether both make the same video."""
        return all(math.isclose(self.doses[step], other.doses[step], rel_tol=1e-9) for step in self.doses)


Keep = Callable[[str, str, Any], None]
"""Takes the id of a clip, the name of an edit and its video (T, H, W, 3) uint8, and keeps a picture of it."""


@dataclass
class VideoCells(CellMaker):
    """Makes the cells of one clip in mode generate: one video per edit and dose, all from the same noise.

    keep: gets the video of the model as it is, and the videos of whole cuts.
    """

    keep: Keep = lambda clip, edit, video: None

    def plain(self) -> list[KnockoutRow]:
        """Measures the model as it is, and what a whole cut would change in every head at every cut step."""
        meter = StepMeter(self.study.kind, self._grid, self._layout, frozenset(self.study.steps))
        rows = self._measure(self._row(PLAIN, NO_SITE), Change(self.study.sites, meter), PLAIN)
        found = [norm_rows(self._row(PLAIN, step), meter.norms(step)) for step in self.study.steps]
        return [*rows, *(row for each in found for row in each)]

    def edit(self, edit: Edit, norms: dict[int, Norms]) -> list[KnockoutRow]:
        """Measures the videos of one edit. norms: as `read_norms` returns them."""
        made: list[tuple[_Dose, list[KnockoutRow]]] = []
        rows: list[KnockoutRow] = []
        for one in self._find_doses(edit, norms):
            target = one.targets[0]
            found = next((same for other, same in made if one.is_like(other)), None)
            if found is None:
                picture = f"{edit.name} at dose {target.asked:g}" if target.matched == WHOLE else ""
                found = self._sample(edit, one, picture)
                made.append((one, found))
            rows += [replace(row, matched=target.matched, cut_dose=target.asked, norm=one.norm) for row in found]
        return rows

    def _find_doses(self, edit: Edit, norms: dict[int, Norms]) -> list[_Dose]:
        steps = self.study.steps
        by_step = [list(find_targets(self.study, edit, norms[step], step)) for step in steps]
        full = [norm_of(norms[step], edit.units) for step in steps]
        return [
            _Dose({s: one.norm / f if f > 0 else 0.0 for s, one, f in zip(steps, each, full, strict=True)}, each)
            for each in zip(*by_step, strict=True)
        ]

    def _sample(self, edit: Edit, dose: _Dose, picture: str) -> list[KnockoutRow]:
        """Samples the video of an edit. picture: the name under which it is kept; "" to keep none."""
        heads = heads_by_layer(edit.units)
        knockout = StepKnockout(Knockout(self.study.kind, heads, self._grid, self._layout), dose.doses)
        base = replace(
            self._row(edit.role, NO_SITE),
            control=edit.control,
            cut_sites=edit.cut.name,
            dose=float(np.mean(list(dose.doses.values()))),
        )
        sites = [site for site in self.study.sites if site.layer in heads]
        rows = self._measure(base, Change(sites, knockout), picture)
        return [replace(row, norm_made=knockout.norm) for row in rows]

    def _measure(self, base: KnockoutRow, change: Change, picture: str) -> list[KnockoutRow]:
        """Samples one video; returns its scores, and the scores of matching at the layers that are read."""
        self._passes += 1
        plan, prepared, recorder = self.study.plan, self._prepared, self._start_recorder()
        with plan.parts.model.name.calling("run()"):
            settings = plan.selection.settings_for(self.clip_id)
            video = sample_changed(adapter_of(plan), prepared.clip, settings, recorder, change)
        if picture:
            self.keep(self.clip_id, picture, video)
        clip: Clip = prepared.clip.with_video(video)
        tracks = track_video(video, clip.queries, self._tracker)
        found = score_video(self._judge, video, tracks)
        rows = [replace(base, metric=name, value=one.score.value, n=one.score.n) for name, one in found.items()]
        if not self.study.readers:
            return rows
        scorer = self._make_scorer(clip, tracks.forward, video=video_hash(video))
        return [*rows, *self._score_matching(base, recorder, scorer)]

    def _grid(self, site: Site) -> TokenGrid:
        return adapter_of(self.study.plan).grid(self._prepared.clip.with_video(None), site)

    @cached_property
    def _judge(self) -> Judge:
        videos = self.study.videos
        assert videos is not None  # a study of this mode has it
        (judge,) = make_judges(videos.selection.variants[:1], make_metrics(videos.parts.metrics))
        return judge

    @cached_property
    def _tracker(self) -> CalledTracker:
        part = self.study.plan.parts.tracker
        assert part is not None  # generated videos have no tracks of their own
        return CalledTracker(part)
