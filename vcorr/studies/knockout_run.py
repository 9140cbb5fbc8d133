"""Runs a knock-out study: computes the cells that are missing, and writes each before the next one begins."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcorr.contract.protocols import Probe
from vcorr.store.atomic_files import make_folder, write_text
from vcorr.store.fingerprint import LENGTH, plain
from vcorr.store.lock import hold_lock
from vcorr.studies.knockout_agreements import FILE, AgreementRow, write_agreements
from vcorr.studies.knockout_cells import ClipCells, Edit, edits_of, read_norms
from vcorr.studies.knockout_effects import Results, find_results
from vcorr.studies.knockout_page import make_page
from vcorr.studies.knockout_plan import KnockoutPlan
from vcorr.studies.knockout_rows import PLAIN, CellFolder

RECORD = "study.json"
CELLS = "cells"
PAGE = "page.md"
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

    def write_record(self, values: dict[str, Any]) -> None:
        """Writes study.json, whole or not at all."""
        text = json.dumps({"record_version": RECORD_VERSION, "study": self.id, **plain(values)}, indent=2)
        write_text(self.path / RECORD, f"{text}\n", errors="backslashreplace")


def run_study(study: KnockoutPlan, folder: StudyFolder, say: Say) -> list[dict[str, Any]]:
    """Computes what is missing, and returns the rows of all cells of the study.

    Args:
        study: the plan.
        folder: where cells are kept; an interrupted study goes on there.
        say: gets a sentence per clip.

    Raises:
        StoreError: another process works there, or a file cannot be written.
        VcorrError: a pass failed; the cells so far are kept.
    """
    make_folder(folder.path)
    with hold_lock(folder.path):
        folder.write_record({"status": "started", **describe(study)})
        rows: list[dict[str, Any]] = []
        worker = _Worker(study, folder)
        clips = study.plan.selection.clips
        for number, clip in enumerate(clips, 1):
            found = list(worker.work(clip))
            rows += found
            say(f"clip {number}/{len(clips)} ({clip}): {worker.passes} passes so far")
        return rows


@dataclass(frozen=True)
class Finished:
    """The results of a study, and its page in Markdown."""

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
        write_text(folder.path / PAGE, page)
        write_agreements(folder.path / FILE, list_agreements(study, results, folder.id))
        folder.write_record({"status": "complete", **describe(study), "results": results.to_dict()})
    return Finished(results, page)


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
            steps=",".join(map(str, study.steps)),
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
        "norm": "own" if asked.own else "common",
        "readers": list(study.readers),
        "steps": list(study.steps),
        "clips": list(plan.selection.clips),
        "resolved": plan.predict_identity(),
        "notes": list(plan.notes),
    }


class _Worker:
    """Works off one clip after the other. The model is loaded by the first cell that is missing."""

    def __init__(self, study: KnockoutPlan, folder: StudyFolder) -> None:
        self._study, self._folder, self._edits = study, folder, edits_of(study)
        self._probes: dict[str, Probe] | None = None
        self.passes = 0

    def work(self, clip: str) -> Iterator[dict[str, Any]]:
        """Yields the rows of all cells of a clip."""
        stored, cells = self._folder.cells, ClipCells(self._study, self._folder.id, clip, {})
        plain_rows = stored.read(clip, PLAIN)
        if plain_rows is None:
            cells.probes.update(self._load())
            stored.write(clip, PLAIN, cells.plain())
            plain_rows = stored.read(clip, PLAIN) or []
        yield from plain_rows
        norms = read_norms(plain_rows)
        for edit in self._edits:
            yield from self._cell(cells, edit, norms)
        self.passes += cells.passes

    def _cell(self, cells: ClipCells, edit: Edit, norms: dict[int, Any]) -> list[dict[str, Any]]:
        stored = self._folder.cells
        rows = stored.read(cells.clip_id, edit.name)
        if rows is None:
            cells.probes.update(self._load())
            stored.write(cells.clip_id, edit.name, cells.edit(edit, norms))
            rows = stored.read(cells.clip_id, edit.name) or []
        return rows

    def _load(self) -> dict[str, Probe]:
        if self._probes is None:
            plan, adapter = self._study.plan, self._study.plan.live.adapter
            adapter.load(plan.hardware.device, plan.hardware.dtype, plan.spec.weights)
            adapter.check_settings(plan.selection.settings)
            self._probes = {probe.entry.name: probe.create() for probe in plan.parts.probes}
        return self._probes
