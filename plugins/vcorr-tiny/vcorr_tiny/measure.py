"""Measures everything that pages say of the embedded model: ``python -m vcorr_tiny.measure --device cuda:0,cuda:1``.

The tasks of all measurements run in one pool, the long ones first, and past failures. A small copy of what a task
stored is made as soon as it has ended. So an interruption leaves copies of all that was finished.
``--tables-only --out COPIES --docs docs`` makes all pages, pictures and tables of the copies.

The scores of faults in docs/video-scores.md read no network, so `vcorr_tiny.video_scores` measures them alone.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vcorr import VcorrError
from vcorr.board.collecting import collect_runs
from vcorr.board.tables.definitions import builtin_boards, metric_names
from vcorr_tiny import (
    accelerated,
    findings,
    guided_costs,
    guided_videos,
    knockouts,
    propagated,
    rigid_scores,
    switches,
    tracked,
    traits,
)
from vcorr_tiny.command_runs import Work, end, make_parser, read_work
from vcorr_tiny.measurements import Measurement
from vcorr_tiny.small_copies import SmallCopies
from vcorr_tiny.task_pool import Task, choose, run_tasks

MEASUREMENTS = (
    findings.MEASUREMENT,
    guided_videos.MEASUREMENT,
    guided_costs.MEASUREMENT,
    tracked.MEASUREMENT,
    knockouts.MEASUREMENT,
    propagated.MEASUREMENT,
    switches.MEASUREMENT,
    rigid_scores.MEASUREMENT,
    accelerated.MEASUREMENT,
    traits.MEASUREMENT,
)
ALL_CLIPS = max(measurement.clips for measurement in MEASUREMENTS)
COPIES = Path("runs", "copies")
BOARDS = {
    Path(): findings.MEASUREMENT,
    Path("tracking"): tracked.MEASUREMENT,
    Path("propagation"): propagated.MEASUREMENT,
    Path("guidance"): guided_videos.MEASUREMENT,
}
"""Measurements whose runs boards show, by their folder in leaderboards/results."""


def list_tasks(work: Work) -> list[Task]:
    """Returns the tasks of all measurements, each with the name of its measurement before its own."""
    return [task.inside(name) for name, one, own in _each(work) for task in one.list_tasks(own)]


def _each(work: Work) -> Iterator[tuple[str, Measurement, Work]]:
    """Yields each measurement with its name and its own work."""
    for one in MEASUREMENTS:
        yield one.name, one, work.inside(one.name, one.clips)


def measure_all(work: Work, tasks: Sequence[Task], target: Path) -> None:
    """Runs tasks, and makes small copies of what each stored.

    Raises:
        VcorrError: tasks failed or were interrupted, or copies cannot be written.
    """
    copies = SmallCopies(target, {name: (one, own) for name, one, own in _each(work)})
    copies.drop_others()
    try:
        run_tasks(work, tasks, copies.ask)
    finally:
        failed = copies.finish()
    if failed:
        raise VcorrError(f"Not everything was copied to {target}.", hint="Choose another folder: --copies DIR")


def needs_no_network(task: Task) -> bool:
    """Returns whether a task can run while networks are trained: it runs none, and waits for no other task."""
    return not task.after and not task.make().on_device


def write_all_tables(work: Work, docs: Path | None) -> Mapping[str, str]:
    """Makes the tables of all measurements, past failures. Returns what went wrong, by measurement."""
    failed = {}
    for name, one, own in _each(work):
        try:
            one.write_tables(own, docs)
        except VcorrError as error:
            failed[name] = str(error)
        except Exception as error:  # a fault in one page must not stop the others
            failed[name] = f"{type(error).__name__}: {error}"
        sys.stderr.write(f"{name}: {failed.get(name, 'tables made')}\n")
    return failed


def keep_for_boards(work: Work, results: Path) -> None:
    """Copies the runs that boards show into leaderboards/results, in place of the earlier ones.

    A measurement without runs leaves what is there. Runs that choose a site are left out.
    """
    for folder, one in BOARDS.items():
        own = work.inside(one.name, one.clips).out
        source = own / tracked.REPORTED if (own / tracked.REPORTED).is_dir() else own
        if not source.is_dir():
            continue
        for path in (results / folder).glob("*/run.json"):
            shutil.rmtree(path.parent)
        list(collect_runs(source, results / folder, [*metric_names(builtin_boards()), *one.kept.columns]))


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the options of the command."""
    parser = make_parser("vcorr_tiny.measure", __doc__ or "", "runs", ALL_CLIPS)
    parser.add_argument("--copies", type=Path, default=COPIES, help="folder of small copies (default: %(default)s)")
    parser.add_argument("--without-networks", action="store_true", help="run only tasks that need no network")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = read_options(arguments)
    work = read_work(options)
    tasks = choose(list_tasks(work), work.only)
    tasks = [task for task in tasks if needs_no_network(task)] if options.without_networks else tasks
    if options.list:
        sys.stdout.write("".join(f"{task.name}\n" for task in tasks))
        return 0
    if work.tables_only:
        if options.docs:
            keep_for_boards(work, options.docs.parent / "leaderboards" / "results")
        return 1 if write_all_tables(work, options.docs) else 0
    measure_all(replace(work, only=()), tasks, options.copies)
    return 0


if __name__ == "__main__":
    end(main)
