"""Builds a board for `vcorr board build`: a folder of pages from a folder of runs.

The pages are written into a temporary folder next to the target, which replaces the target once all pages are written.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata, resources
from itertools import chain
from pathlib import Path
from typing import Any

from vcorr.store.json_text import read_json
from vcorr.board.tables.definitions import BoardConfig, builtin_boards, check_metrics, load_board, metric_names
from vcorr.board.tables.board_runs import BoardRun, UnreadableRunError, load_run
from vcorr.board.site.clip_page import ClipPage, make_clip_pages
from vcorr.board.site.model_page import model_view
from vcorr.board.site.plugin_pages import Board, PluginPage, frame, plugin_pages
from vcorr.board.site.file_names import slug
from vcorr.board.tables.best_sites import best_site_rows
from vcorr.board.tables.data_defaults import find_defaults
from vcorr.board.tables.ranking import Unreadable, rank
from vcorr.board.site.html import environment, formula_safe
from vcorr.board.site.vega_bundle import chart_library
from vcorr.contract.errors import MissingError, StoreError, UsageError
from vcorr.contract.metric_columns import read_columns
from vcorr.plugins.registry import Registry, installed
from vcorr.runner.metric_trial import find_columns
from vcorr.store.atomic_files import replace_folder
from vcorr.store.run_search import DEPTH, find_all_runs
from vcorr.store.rundir import RECORD, RunDirectory, find_runs
from vcorr.studies.knockout_agreements import FILE as AGREEMENTS
from vcorr.studies.knockout_agreements import AgreementRow, find_main, read_agreements

MARKER = "board.json"
"""File that marks a folder as a board, so that a new board may replace it."""
BOARD_VERSION = 1

_STATIC = ("style.css", "board.js", "charts.js", "clips.js")


def build_site(
    results: Path | Sequence[Path],
    out: Path,
    *,
    boards: Sequence[Path] = (),
    registry: Registry | None = None,
    tell: Callable[[Unreadable], None] = lambda _: None,
) -> Path:
    """Builds one board of all runs in a folder, or in several.

    The same runs give the same bytes. An earlier board at `out` is replaced as a whole, after the new one is complete.
    A run that cannot be read is listed with its reason, and the others are shown.

    Args:
        results: a folder of runs, or one run; or several of them.
        out: the folder of pages: new, empty, or an earlier board.
        boards: YAML files of boards; when empty, the boards that come with vcorr.
        registry: plugins whose pages are added; None for the plugins of this environment.
        tell: is called with each run that cannot be read.

    Returns:
        The path of the first page.

    Raises:
        MissingError: there are no runs.
        UsageError: `out` is not empty and is not a board, two folders have a run of one id, or a board file is wrong.
            So is one with a metric that no run has and no installed plugin gives.
        StoreError: `out` cannot be written.
    """
    folders = [results] if isinstance(results, Path) else list(results)
    runs = _gather_runs(folders)
    for folder in folders:
        _check_out(folder, out)
    configs = tuple(load_board(path) for path in boards) or builtin_boards()
    with replace_folder(out) as folder:
        (folder / "data").mkdir()
        loaded, unreadable = _load(runs, metric_names(configs), folder / "data")
        loaded = _add_agreements(folders, loaded, unreadable)
        _check_metrics(boards, configs, loaded, registry or installed())
        _Site(folder, loaded, unreadable, configs, registry or installed()).write()
        for each in folders:
            _check_out(each, out)  # somebody may have put something else there meanwhile
    for run in unreadable:
        tell(run)
    return out / "index.html"


def _gather_runs(folders: Sequence[Path]) -> list[RunDirectory]:
    """Returns the runs of all folders. Raises MissingError for a folder without runs, UsageError for two of one id."""
    found: dict[str, RunDirectory] = {}
    for folder in folders:
        runs = find_runs(folder)
        if not runs:
            raise _no_runs(folder)
        for run in runs:
            known = found.setdefault(run.run_id, run)
            if known.path.resolve() != run.path.resolve():
                raise UsageError(
                    f"{known.path} and {run.path} are runs of one id, and a board shows each run once.",
                    hint="Leave one of the folders out, or collect both first: vcorr board collect --results DIR --out NEW",
                )
    return list(found.values())


def _load(
    runs: Sequence[RunDirectory], metrics: Sequence[str], data: Path
) -> tuple[list[BoardRun], list[Unreadable]]:
    loaded, unreadable = [], []
    for run in runs:
        try:
            loaded.append(load_run(run, metrics, data / f"{slug(run.run_id)}.arrow"))
        except UnreadableRunError as error:
            # pages are shown elsewhere, where the path of this machine says nothing
            reason = error.message.replace(f"{run.path.parent}{os.sep}", "")
            unreadable.append(Unreadable(run.run_id, reason, error.hint))
    return loaded, unreadable


def _add_agreements(
    folders: Sequence[Path], runs: Sequence[BoardRun], unreadable: list[Unreadable]
) -> list[BoardRun]:
    """Returns the runs with the causal agreement of their models, from the tables of the folders.

    unreadable: gets a table that cannot be read.
    """
    rows: list[AgreementRow] = []
    for folder in folders:
        try:
            rows += read_agreements(folder / AGREEMENTS)
        except StoreError as error:
            reason = error.message.replace(f"{folder}{os.sep}", "")
            unreadable.append(Unreadable(AGREEMENTS, reason, error.hint))
    found = find_main(rows)
    return [replace(run, causal=found.get((run.model, run.weights))) for run in runs]


def _check_metrics(
    files: Sequence[Path], boards: Sequence[BoardConfig], runs: Sequence[BoardRun], registry: Registry
) -> None:
    """Checks that boards read from files show columns of a run or of an installed metric."""
    in_runs = {s.key["metric"] for run in runs for s in run.series}
    in_runs |= {name for run in runs for one in read_columns(run.record) for name in one.columns}
    if not files or in_runs.issuperset(metric_names(boards)):
        return
    metrics = find_columns(registry)
    if not all(one.columns for one in metrics):
        return  # such a metric may give any column
    known = in_runs | {name for one in metrics for name in one.columns}
    for path, board in zip(files, boards, strict=True):
        check_metrics(board, f"Board {path}", known)


class _Site:
    """The pages of one board, written into a folder."""

    def __init__(
        self,
        folder: Path,
        runs: Sequence[BoardRun],
        unreadable: Sequence[Unreadable],
        boards: Sequence[BoardConfig],
        registry: Registry,
    ) -> None:
        self._folder = folder
        self._boards = boards
        rankings, left_out = rank(runs, boards, find_defaults(registry))
        self._board = Board(tuple(runs), tuple(rankings), tuple(left_out), tuple(unreadable))
        self._pages = plugin_pages(self._board, registry)
        self._models = sorted({run.model for run in runs})
        self._best_sites = [row for run in runs for row in best_site_rows(run, boards)]

    def write(self) -> None:
        """Writes all files, the marker last."""
        self._write_static()
        self._write_best_sites()
        self._write_page("index.html", "index.html.j2", board=self._board, clips=self._write_clips())
        for model in self._models:
            self._write_model(model)
        self._write_page(
            "downloads.html",
            "downloads.html.j2",
            board=self._board,
            sizes=self._sizes(),
            best_sites=len(self._best_sites),
        )
        for page in self._pages:
            path = f"pages/{slug(page.name)}.html"
            self._write_page(path, "plugin.html.j2", page=page, frame=frame(page, "../"))
        marker = {"board_version": BOARD_VERSION, "vcorr": metadata.version("vcorr"), "models": self._models}
        self._write(MARKER, json.dumps(marker, indent=2) + "\n")

    def _write_clips(self) -> list[list[ClipPage]]:
        """Writes the pages of clips; returns the ones of each table."""
        found = [make_clip_pages(ranking) for ranking in self._board.rankings]
        for page in chain.from_iterable(found):
            self._write_page(page.path, "clip.html.j2", page=page)
        return found

    def _write_model(self, model: str) -> None:
        runs = [run for run in self._board.runs if run.model == model]
        view = model_view(runs, self._boards, self._standings())
        self._write_page(f"models/{slug(model)}.html", "model.html.j2", view=view)

    def _standings(self) -> dict[str, list[str]]:
        """Returns by run id the rank of each probe, or why it has none."""
        standings: dict[str, list[str]] = {}
        for ranking in self._board.rankings:
            ranked = sum(row.rank is not None for row in ranking.rows)
            for row in ranking.rows:
                standing = f"rank {row.rank} of {ranked}" if row.rank else f"not ranked: {row.unranked}"
                where = f"{row.name}, {ranking.group['clips']}: {standing}"
                standings.setdefault(row.run.run_id, []).append(where)
        for left in self._board.left_out:
            subject = f"{left.probe} left out" if left.probe else "left out"
            standings.setdefault(left.run.run_id, []).append(f"{subject}: {left.reason}")
        return standings

    def _write_static(self) -> None:
        assets = resources.files("vcorr.board.site").joinpath("assets")
        for name in _STATIC:
            self._write(f"assets/{name}", assets.joinpath(name).read_text(encoding="utf-8"))
        self._write("assets/vega.js", chart_library())

    def _write_best_sites(self) -> None:
        rows = self._best_sites
        with (self._folder / "data" / "best_sites.csv").open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            if rows:
                writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
                writer.writeheader()
                writer.writerows({name: formula_safe(value) for name, value in row.items()} for row in rows)

    def _sizes(self) -> dict[str, int]:
        return {f"data/{path.name}": path.stat().st_size for path in sorted((self._folder / "data").iterdir())}

    def _write_page(self, path: str, template: str, **values: Any) -> None:
        text = (
            environment()
            .get_template(template)
            .render(
                here=path,
                root="../" * path.count("/"),
                nav=self._nav(),
                slug=slug,
                version=metadata.version("vcorr"),
                **values,
            )
        )
        self._write(path, text)

    def _nav(self) -> list[tuple[str, str]]:
        pages: list[PluginPage] = self._pages
        return [
            ("index.html", "Ranking"),
            *((f"pages/{slug(page.name)}.html", page.name) for page in pages),
            ("downloads.html", "Downloads"),
        ]

    def _write(self, path: str, text: str) -> None:
        target = self._folder / path
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


def _check_out(results: Path, out: Path) -> None:
    if results.resolve().is_relative_to(out.resolve()):
        raise UsageError(
            f"{out} contains the results; a board there would replace them.",
            hint="Choose another folder with --out DIR.",
        )
    if not out.exists() or _is_board(out):
        return
    if not out.is_dir() or any(out.iterdir()):
        raise UsageError(
            f"{out} is not a board (a board has a file {MARKER}), so it is not replaced.",
            hint="Choose a new or empty folder with --out DIR.",
        )


def _is_board(folder: Path) -> bool:
    try:
        return "board_version" in read_json((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _no_runs(results: Path) -> MissingError:
    if not results.exists():
        return MissingError(
            f"{results} does not exist.", hint="Make a run first, for example: vcorr run --model tiny --probe qk"
        )
    below = [run.path.parent for run in find_all_runs(results, depth=DEPTH)]
    if below:
        return MissingError(
            f"{results} contains no runs, but {below[0]} does.", hint=f"Try: vcorr board build --results {below[0]}"
        )
    return MissingError(
        f"{results} contains no runs.",
        hint="Make a run first, for example: vcorr run --model tiny --probe qk\n"
        "If the runs are elsewhere, name their folder: --results DIR",
    )
