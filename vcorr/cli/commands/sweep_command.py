"""Defines `vcorr sweep`."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.commands.board_command import build_board
from vcorr.cli.folder_type import FOLDER
from vcorr.cli.hints import SpecCommand
from vcorr.contract.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError, VcorrError
from vcorr.store.remote.addresses import place_of

if TYPE_CHECKING:
    from vcorr.runner.events import Events
    from vcorr.runner.plan import Plan
    from vcorr.sweeps.expansion import SweepRun
    from vcorr.sweeps.sweep_execution import SweepResult
    from vcorr.sweeps.sweep_plans import PlannedRun
    from vcorr.sweeps.trackio_log import TrackioLog


@click.command(cls=SpecCommand, short_help="Many runs from one file: models x probes x data x options.")
@click.argument("file", type=click.Path(path_type=Path))
@run_flags.add_spec_flags
@run_flags.ASSIGNMENTS
@run_flags.SAVE_VIDEOS
@click.option("--board", type=FOLDER, metavar="SITE", help="Build the board of all runs in --out, in this folder.")
@click.option("--trackio", metavar="PROJECT", help="Log every run to this project of trackio.")
@run_flags.DRY_RUN
@run_flags.RESULTS_AS_JSON
def sweep(
    file: Path,
    out: Path,
    reuse: str,
    assignments: tuple[str, ...],
    board: Path | None,
    trackio: str | None,
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> int:
    """Make many runs from one file: a product of models, probes, data and options, with exceptions.

    \b
    For example, with the file sweep.yaml (docs/scaling.md has all of its keys):
      model: [tiny, zero-motion]
      probe: qk
      limit: 2
    What it would take, then the runs, one table and a board:
      vcorr sweep sweep.yaml --dry-run
      vcorr sweep sweep.yaml --board site

    Each run is the one that `vcorr run` would make. Flags hold for all runs and override the file. A run that fails is
    listed at the end, and the others go on. Repeat the command to go on after an interruption.
    """
    given = {name: value or None if isinstance(value, bool) else value for name, value in flags.items()}
    may_answer = not dry_run and reuse != "never"
    log = None if dry_run else _open_log(trackio)
    planned = _plan(file, given, assignments, dry=dry_run, out=out if may_answer else None)
    if dry_run:
        return _say_estimate(planned, file, out, as_json)
    began = time.monotonic()
    results = _execute(planned, _Watch(len(planned), log), out, reuse)
    seconds = time.monotonic() - began
    site, fault = (None, None) if board is None else _try_board(out, board)
    _say_results(results, file, out, site, seconds, as_json)
    if fault is not None:
        raise fault
    return EXIT_OK if all(result.is_whole for result in results) else EXIT_SOME_FAILED


def _open_log(project: str | None) -> TrackioLog | None:
    """Returns the log to a project of trackio; None without one. Raises MissingError if trackio is not installed."""
    if project is None:
        return None
    if not project.strip():
        raise UsageError("--trackio is empty.", hint="Give the name of a project, or leave it out.")
    from vcorr.sweeps.trackio_log import TrackioLog

    return TrackioLog(project)


def _plan(
    file: Path, given: dict[str, Any], assignments: tuple[str, ...], *, dry: bool, out: Path | None
) -> list[PlannedRun]:
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.cli.views.progress import count_items
    from vcorr.plugins.registry import installed
    from vcorr.runner.spec import read_typed
    from vcorr.sweeps.expansion import expand
    from vcorr.sweeps.sweep_file import read_sweep
    from vcorr.sweeps.sweep_plans import plan_sweep

    quiet_libraries()
    runs = expand(read_sweep(file), read_typed(given, assignments))
    with count_items("planning", len(runs), "runs") as advance:
        return plan_sweep(runs, file, installed(), dry=dry, out=out, advance=advance)


class _Watch:
    """Shows the events of each run, and logs them. total: number of runs."""

    def __init__(self, total: int, log: TrackioLog | None) -> None:
        from vcorr.cli.views.study_progress import StudyWatch

        self._total, self._log, self._shown = total, log, StudyWatch()

    @contextmanager
    def begin(self, one: SweepRun, plan: Plan) -> Iterator[Events]:
        """Says which run begins, and yields what receives its events."""
        title = f"Run {one.number} of {self._total}: {one.label}"
        with self._shown.watch_run(plan, title) as events:
            yield events if self._log is None else self._log.begin(one, plan, events)

    def end(self, result: SweepResult) -> None:
        """Says why a run failed, at once; all of them are listed at the end."""
        from vcorr.cli.views.terminal import say

        if self._log is not None:
            self._log.end(result)
        if result.failure is not None:
            say(f"Run {result.run.number} failed: {result.failure.trace or result.failure.text}", stderr=True)

    def close(self) -> None:
        """Ends the log of a run that was interrupted."""
        if self._log is not None:
            self._log.close()


def _execute(planned: list[PlannedRun], watch: _Watch, out: Path, reuse: str) -> list[SweepResult]:
    from vcorr.runner.coordinator import Reuse
    from vcorr.studies.study_runs import say_kept
    from vcorr.sweeps.sweep_execution import SweepExecution

    results: list[SweepResult] = []
    total = len(planned)
    made = SweepExecution(out, watch.begin, Reuse(reuse), ["vcorr", *sys.argv[1:]])
    with say_kept(lambda: f"{len(results)} of {total} runs have ended; their results are kept in {place_of(out)}."):
        try:
            for result in made.run_each(planned):
                watch.end(result)
                results.append(result)
        finally:
            watch.close()
    return results


def _try_board(out: Path, site: Path) -> tuple[Path | None, VcorrError | None]:
    """Returns the first page of the board, or the error that it met: the results are printed before it."""
    try:
        return build_board([out], site)[0], None
    except VcorrError as error:
        return None, error


def _say_estimate(planned: list[PlannedRun], file: Path, out: Path, as_json: bool) -> int:
    from vcorr.cli.views import sweep_view
    from vcorr.cli.views.progress import count_items
    from vcorr.cli.views.terminal import print_json
    from vcorr.sweeps.sweep_estimate import estimate_sweep

    with count_items("estimating", len(planned), "runs") as advance:
        found = estimate_sweep(planned, out, advance)
    if as_json:
        print_json(sweep_view.estimate_dict(found, file, out))
    else:
        sweep_view.say_estimate(found)
    return EXIT_OK


def _say_results(
    results: list[SweepResult], file: Path, out: Path, board: Path | None, seconds: float, as_json: bool
) -> None:
    from vcorr.cli.views import sweep_view
    from vcorr.cli.views.terminal import print_json

    if as_json:
        print_json(sweep_view.results_dict(results, file, out, board, seconds))
    else:
        sweep_view.say_results(results, out, board, seconds)
