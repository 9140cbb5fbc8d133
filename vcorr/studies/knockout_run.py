"""Runs a knock-out study: computes the cells that are missing, and writes each before the next one begins."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.noun_counts import say_count
from vcorr.contract.protocols import Probe
from vcorr.store.atomic_files import make_folder, write_text
from vcorr.store.fingerprint import LENGTH, plain
from vcorr.store.lock import hold_lock
from vcorr.studies.guidance_page import make_strip, write_png
from vcorr.studies.knockout_agreements import FILE, AgreementRow, write_agreements
from vcorr.studies.knockout_cells import CellMaker, ClipCells, edits_of, read_norms
from vcorr.studies.knockout_effects import Results, find_results
from vcorr.studies.knockout_page import make_page
from vcorr.studies.knockout_plan import KnockoutPlan
from vcorr.studies.knockout_rows import PLAIN, CellFolder, KnockoutRow, file_name
from vcorr.studies.knockout_videos import VideoCells
from vcorr.studies.study_runs import say_kept

RECORD = "study.json"
CELLS = "cells"
STRIPS = "strips"
PAGE = "page.md"
CLIPS_SHOWN = 4
RECORD_VERSION = 1

Say = Callable[[str], None]


@dataclass(frozen=True)
class StudyFolder:
    """The folder of a study. path: ends in the id of the study, which begins with a name of its kind."""

    path: Path
    fingerprint: str

    @classmethod
    def of(cls, study: KnockoutPlan, out: Path) -> StudyFolder:
        """Returns the folder of a study below `out`."""
        found = study.fingerprint()
        return cls(out / f"knockout-{found[:LENGTH]}", found)

    @property
    def id(self) -> str:
        """The name of the folder."""
        return self.path.name

    @property
    def cells(self) -> CellFolder:
        """The Arrow files."""
        return CellFolder(self.path / CELLS, self.fingerprint)

    def keep_strip(self, clip: str, edit: str, video: NDArray[np.uint8]) -> None:
        """Writes frames of a video (T, H, W, 3) side by side as `strips/<clip>/<edit>.png`, whole or not at all."""
        path = self.path / STRIPS / file_name(clip) / f"{file_name(edit)}.png"
        make_folder(path.parent)
        write_png(path, make_strip(video))

    def write_record(self, values: dict[str, Any]) -> None:
        """Writes study.json, whole or not at all."""
        text = json.dumps({"record_version": RECORD_VERSION, "study": self.id, **plain(values)}, indent=2)
        write_text(self.path / RECORD, f"{text}\n", errors="backslashreplace")


def run_study(study: KnockoutPlan, folder: StudyFolder, say: Say) -> list[dict[str, Any]]:
    """Computes what is missing, and returns the rows of all cells of the study.

    Args:
        study: the plan.
        folder: where cells are kept; an interrupted study goes on there.
        say: gets a sentence per clip, and one per cell that is computed in mode generate.

    Raises:
        StoreError: another process works there, or a file cannot be written.
        VcorrError: a pass failed; the cells so far are kept.
        InterruptedRunError: the user interrupted the study; the cells so far are kept.
    """
    make_folder(folder.path)
    worker = _Worker(study, folder, say)
    with hold_lock(folder.path), say_kept(worker.describe_kept):
        folder.write_record({"status": "started", **describe(study)})
        rows: list[dict[str, Any]] = []
        clips = study.plan.selection.clips
        for number, clip in enumerate(clips, 1):
            rows += worker.work(clip)
            say(f"clip {number}/{len(clips)} ({clip}): {worker.describe_progress()}")
        return rows


@dataclass(frozen=True)
class Finished:
    """The results of a study, and its page in Markdown, without the pictures that the file has."""

    results: Results
    page: str


def finish_study(study: KnockoutPlan, folder: StudyFolder, rows: list[dict[str, Any]]) -> Finished:
    """Computes the results of all rows, and writes study.json, the page, and the table for boards.

    Raises:
        StoreError: a file cannot be written.
    """
    results = find_results(study, rows)
    page = make_page(study, results)
    with hold_lock(folder.path):
        write_text(folder.path / PAGE, page + _show_strips(study, folder))
        write_agreements(folder.path / FILE, list_agreements(study, results, folder.id))
        folder.write_record({"status": "complete", **describe(study), "results": results.to_dict()})
    return Finished(results, page)


def _show_strips(study: KnockoutPlan, folder: StudyFolder) -> str:
    """Returns the part of the page with strips of frames of the first clips; "" on real clips."""
    names = [PLAIN, *(f"{one.name} at dose {dose:g}" for one in edits_of(study) for dose in study.options.doses)]
    parts = []
    for clip in study.plan.selection.clips[:CLIPS_SHOWN]:
        paths = {name: f"{STRIPS}/{file_name(clip)}/{file_name(name)}.png" for name in names}
        shown = [(name, path) for name, path in paths.items() if (folder.path / path).is_file()]
        parts += [f"\n## Videos: {clip}\n"] if shown else []
        parts += [f"{name}:\n\n![{name}, first to last frame](<{path}>)\n" for name, path in shown]
    return "\n".join(parts)


def list_agreements(study: KnockoutPlan, results: Results, name: str) -> list[AgreementRow]:
    """Returns the agreements of a study as rows. name: id of the study."""
    single = {site.head >= 0 for one in study.sets for site in one.sites}
    heads = "mixed" if len(single) > 1 else "heads" if True in single else "layers"
    return [
        AgreementRow(
            study=name,
            model=study.plan.spec.model,
            weights=study.plan.identity.weights,
            dataset=study.plan.dataset,
            kind=study.kind,
            heads=heads,
            mode=study.options.mode,
            steps=",".join(map(str, study.steps)),
            dose=max(study.options.doses),
            norm=study.options.norm,
            observation=one.observation,
            outcome=one.outcome,
            value=one.ranks.value,
            low=one.ranks.low,
            high=one.ranks.high,
            p=one.p_joint,
            sites=one.sites,
            clips=one.clips,
        )
        for one in results.agreements
    ]


def describe(study: KnockoutPlan) -> dict[str, Any]:
    """Returns what study.json says about the plan."""
    asked, plan = study.options, study.plan
    return {
        "kind": study.kind,
        "model": plan.spec.model,
        "weights": plan.identity.weights,
        "observed": study.observed.run,
        "sites": [one.name for one in study.sets],
        "sites_chosen_by_run": study.chosen,
        "doses": list(asked.doses),
        "controls": asked.controls,
        "control_sets": {str(size): [sorted(map(list, one)) for one in sets] for size, sets in study.controls.items()},
        "norm": asked.norm,
        "mode": asked.mode,
        "readers": list(study.readers),
        "steps": list(study.steps),
        "clips": list(plan.selection.clips),
        "resolved": plan.predict_identity(),
        "notes": list(plan.notes),
    }


class _Worker:
    """Works off one clip after the other. The model is loaded by the first cell that is missing."""

    def __init__(self, study: KnockoutPlan, folder: StudyFolder, say: Say) -> None:
        self._study, self._folder, self._edits, self._say = study, folder, edits_of(study), say
        self._probes: dict[str, Probe] | None = None
        self._done, self._passes = 0, 0
        self._total = (1 + len(self._edits)) * len(study.plan.selection.clips)

    def work(self, clip: str) -> Iterator[dict[str, Any]]:
        """Yields the rows of all cells of a clip."""
        cells = self._make_cells(clip)
        plain_rows = self._fill(cells, PLAIN, cells.plain)
        yield from plain_rows
        norms = read_norms(plain_rows)
        for edit in self._edits:
            yield from self._fill(cells, edit.name, partial(cells.edit, edit, norms))

    def describe_progress(self) -> str:
        """Says how many cells are done, of how many, and what this command computed."""
        passes = "1 pass" if self._passes == 1 else f"{self._passes} passes"
        made = passes if self._study.videos is None else say_count(self._passes, "video")
        return f"{self._done} of {self._total} cells, {made} so far"

    def describe_kept(self) -> str:
        """Says how many cells are on disk."""
        return f"{self._done} of {self._total} cells are finished and kept in {self._folder.path}."

    def _make_cells(self, clip: str) -> CellMaker:
        if self._study.videos is None:
            return ClipCells(self._study, self._folder.id, clip, {})
        return VideoCells(self._study, self._folder.id, clip, {}, keep=self._folder.keep_strip)

    def _fill(self, cells: CellMaker, name: str, compute: Callable[[], list[KnockoutRow]]) -> list[dict[str, Any]]:
        """Returns the rows of a cell, which are computed and stored if they are not there."""
        stored = self._folder.cells
        rows = stored.read(cells.clip_id, name)
        if rows is None:
            before = cells.passes
            cells.probes.update(self._load())
            stored.write(cells.clip_id, name, compute())
            rows = stored.read(cells.clip_id, name) or []
            self._passes += cells.passes - before
        self._done += 1
        if self._study.videos is not None and self._passes:
            self._say(f"{cells.clip_id}, {name}: {self.describe_progress()}")
        return rows

    def _load(self) -> dict[str, Probe]:
        if self._probes is None:
            plan, adapter = self._study.plan, self._study.plan.live.adapter
            adapter.load(plan.hardware.device, plan.hardware.dtype, plan.spec.weights)
            adapter.check_settings(plan.selection.settings)
            self._probes = {probe.entry.name: probe.create() for probe in plan.parts.probes}
        return self._probes
