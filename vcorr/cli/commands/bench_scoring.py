"""Defines `vcorr bench score`."""

from __future__ import annotations

from pathlib import Path

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.folder_type import FOLDER
from vcorr.cli.views.terminal import console, plain_rows, print_json

_MOST = 100_000


@click.command("score", short_help="Measure scoring and reading runs of any size, with made-up predictions.")
@click.option("--clips", type=click.IntRange(4, _MOST), default=20, show_default=True, help="Clips per run.")
@click.option("--sites", type=click.IntRange(1, _MOST), default=30, show_default=True, help="Sites per clip.")
@click.option("--points", type=click.IntRange(1, _MOST), default=16, show_default=True, help="Query points per clip.")
@click.option("--no-scoring", is_flag=True, help="Only read: both runs keep made-up scores.")
@click.option("--out", type=FOLDER, help="A new folder that keeps the runs and the board.  [default: a temporary one]")
@run_flags.RESULTS_AS_JSON
def score(clips: int, sites: int, points: int, no_scoring: bool, out: Path | None, as_json: bool) -> int:
    """Measure the commands that score, show, compare and board runs: seconds, rows per second, peak of memory.

    \b
    In a minute:
      vcorr bench score
    18 million rows per run, as of 1,000 clips x 30 layers x 50 steps:
      vcorr bench score --clips 1000 --sites 1500

    It makes two runs without a model. One of them is scored from its predictions. Every command runs in a process of
    its own. Compare seconds of CPU where other work shares the machine.
    """
    from vcorr.bench.made_runs import RunSize
    from vcorr.bench.scoring_cost import measure_commands
    from vcorr.cli.views import render
    from vcorr.contract.errors import EXIT_OK

    found = list(measure_commands(RunSize(clips, sites, points), out, scores=not no_scoring))
    if as_json:
        print_json(plain_rows(found))
    else:
        console().print(render.scoring_cost_table(found, clips, sites))
    return EXIT_OK
