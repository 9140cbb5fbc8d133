"""Defines `vcorr board`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vcorr.cli.folder_type import FOLDER, RESULTS
from vcorr.cli.views.terminal import say

if TYPE_CHECKING:
    from vcorr.board.tables.ranking import Unreadable


@click.group(short_help="Build and open the leaderboard, and collect its runs.")
def board() -> None:
    """Build and open the leaderboard, a folder of pages that needs no web server."""


@board.command(short_help="Make the pages from the runs in a folder.")
@click.option(
    "--results",
    type=RESULTS,
    multiple=True,
    default=("runs",),
    show_default=True,
    help="Folder of runs, or its URL; repeatable.",
)
@click.option("--out", type=FOLDER, default=Path("site"), show_default=True, help="Folder of pages.")
def build(results: tuple[Path, ...], out: Path) -> int:
    """Make the pages from the runs in a folder, or in several.

    A run that cannot be read is listed with the reason, here and on the first page. The exit code is then 1.

    \b
    For example:
      vcorr board build --results runs --out site
    """
    from vcorr.contract.errors import EXIT_OK, EXIT_SOME_FAILED

    index, unreadable = build_board(results, out)
    say(f"Board: {index}")
    return EXIT_SOME_FAILED if unreadable else EXIT_OK


def build_board(results: Sequence[Path], out: Path) -> tuple[Path, list[Unreadable]]:
    """Makes the pages, and says which runs cannot be read; returns the first page and these runs."""
    from vcorr.board.site.site_build import build_site

    unreadable: list[Unreadable] = []
    index = build_site(results, out, tell=unreadable.append)
    for run in unreadable:
        say(f"Left out: run {run.run_id}: {run.reason}\n{run.hint}", stderr=True)
    return index, unreadable


@board.command(short_help="Copy the scores of runs in a small form.")
@click.option(
    "--results",
    type=RESULTS,
    default=Path("runs"),
    show_default=True,
    help="Folder of runs, or of such folders, or its URL.",
)
@click.option("--out", type=FOLDER, required=True, help="Folder of copies.")
@click.option("--metrics", default="", metavar="NAME[,NAME]", help="More columns to keep than the boards show.")
def collect(results: Path, out: Path, metrics: str) -> int:
    """Copy complete runs without predictions and tracks, to keep or share what a board is built from.

    A copy holds run.json and the columns of scores that the boards show, all clips in one file.
    A run that cannot be read is left out with the reason. The exit code is then 1.

    \b
    For example:
      vcorr board collect --results runs --out leaderboards/results
    """
    from vcorr.board.collecting import collect_runs
    from vcorr.board.site.html import size
    from vcorr.board.tables.definitions import builtin_boards, metric_names
    from vcorr.contract.errors import EXIT_OK, EXIT_SOME_FAILED
    from vcorr.contract.noun_counts import say_count

    also = [name for name in metrics.split(",") if name]
    sizes: list[int] = []
    damaged = False
    for found in collect_runs(results, out, metric_names(builtin_boards()), also):
        if found.reason:
            say(f"Left out: {found.run}: {found.reason}.\n{found.hint}".rstrip(), stderr=True)
            damaged = damaged or found.damaged
        else:
            sizes.append(found.size)
    say(f"{say_count(len(sizes), 'run')}, {size(sum(sizes))}: {out}")
    return EXIT_SOME_FAILED if damaged else EXIT_OK


@board.command("open", short_help="Open the board in a browser.")
@click.option("--out", type=FOLDER, default=Path("site"), show_default=True, help="Folder of pages.")
def open_(out: Path) -> None:
    """Open the board in a browser."""
    from vcorr.contract.errors import MissingError

    index = (out / "index.html").resolve()
    if not index.is_file():
        raise MissingError(f"{index} does not exist.", hint=f"Make it first: vcorr board build --out {out}")
    say(f"Board: {index}")
    click.launch(index.as_uri())
