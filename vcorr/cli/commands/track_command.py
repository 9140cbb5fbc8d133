"""Defines `vcorr track`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.commands.run_command import carry_out
from vcorr.cli.commands.site_flags import refuse_data_flags
from vcorr.cli.commands.track_video import track_video
from vcorr.cli.folder_type import RESULTS
from vcorr.cli.hints import SpecCommand
from vcorr.cli.number_types import WHOLE_NUMBER
from vcorr.contract.errors import UsageError
from vcorr.store.remote.addresses import place_of

_POINT = re.compile(r"[+-]?[\d.]+,[+-]?[\d.]+(@\d+)?", re.ASCII)

_FLAGS = (
    *("model", "probe", "layers", "steps", "from_run", "preset", "tracker"),
    *("data", "limit", "seed", "device", "dtype", "weights", "workers"),
)


class _TrackCommand(SpecCommand):
    """Takes several points after one `--points`, with spaces between them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the flags; raises as `SpecCommand`."""
        return super().parse_args(ctx, join_points(args))


def join_points(words: Sequence[str]) -> list[str]:
    """Returns the words with all points after one `--points` as one word, so that click takes them as one value."""
    joined: list[str] = []
    for word in words:
        follows = len(joined) > 1 and joined[-2] == "--points" and _POINT.fullmatch(word)
        if follows:
            joined[-1] += f" {word}"
        else:
            joined.append(word)
    return joined


@click.command(cls=_TrackCommand, short_help="Follow points through videos and score the tracks.")
@click.argument("video", required=False, metavar="[VIDEO]")
@click.option(
    "--points", multiple=True, metavar="X,Y[@FRAME]", help="Points of VIDEO in pixels, in frame 0 or FRAME; repeatable."
)
@click.option(
    "--grid", type=WHOLE_NUMBER, metavar="N", help="In their place, N x N points in the first frame of VIDEO."
)
@click.option("--model", "-m", metavar="NAME", help="Model that follows the points; see: vcorr list models.")
@click.option("--tracker", metavar="NAME", help="Tracker in the place of a model; see: vcorr list trackers.")
@click.option("--probe", "-p", metavar="P", help="Probe of the model; see: vcorr list probes.")
@click.option("--layers", metavar="L[,L]", help="Layer, or layers whose costs are averaged.")
@click.option("--steps", metavar="S", help="Step, an index or 'last'.")
@click.option("--from", "from_run", type=RESULTS, metavar="RUN", help="Run that chose the site, and the threshold.")
@click.option("--preset", metavar="P", help="A published setting: difftrack, ditracker or heft.")
@click.option("--data", metavar="NAME", help="Dataset with tracks.")
@run_flags.DATA_ROOT
@click.option("--queries", metavar="first|strided", help="Query mode of the dataset; means --set data.queries=…")
@run_flags.LIMIT_CLIPS
@run_flags.SEED
@click.option("--out", type=RESULTS, help="Folder of runs, or for the tracks of VIDEO.  [default: runs; tracks/VIDEO]")
@run_flags.DEVICES
@run_flags.DTYPE
@run_flags.WEIGHTS
@run_flags.WORKERS
@run_flags.REUSE
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any option, e.g. --set track.order=sliding."
)
@click.option("--dry-run", is_flag=True, help="Print what would run, its passes and time, and what is missing.")
@run_flags.RESULTS_AS_JSON
def track(
    out: Path | None,
    reuse: str,
    assignments: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    data_root: str | None,
    queries: str | None,
    video: str | None,
    points: tuple[str, ...],
    grid: int | None,
    **flags: Any,
) -> int:
    """Follow the query points of a dataset through every frame, and score position and visibility. Or follow points
    through a video of your own.

    \b
    A tracker without weights, offline:
      vcorr track --tracker dis --data sprites --limit 8
    The embedded model, at the site that its card names:
      vcorr track --model tiny --data sprites --limit 8

    \b
    A video of your own, with an overlay to look at:
      vcorr track clip.mp4 --points 120,80 40,96@35 --tracker dis

    A tracking run is stored, continued, scored again and compared as any other run (docs/tracking.md).
    """
    given = {name: flags[name] for name in _FLAGS}
    _refuse_all(given["layers"])
    _refuse_task(assignments)
    if given["from_run"] is not None:
        given["from_run"] = place_of(given["from_run"])
    of_data = {"path": data_root, "queries": queries}
    if video is not None:
        of_runs = {"data": given["data"], "limit": given["limit"], "reuse": None if reuse == "matching" else reuse}
        refuse_data_flags({**of_runs, "data-root": data_root, "queries": queries})
        return track_video(video, points, grid, given, assignments, out=out, dry_run=dry_run, as_json=as_json)
    _refuse_points(points, grid)
    more = [f"data.{name}={value}" for name, value in of_data.items() if value is not None]
    given["task"] = "tracking"
    return carry_out(
        given, [*more, *assignments], out=out or Path("runs"), reuse=reuse, dry_run=dry_run, as_json=as_json
    )


def _refuse_points(points: Sequence[str], grid: int | None) -> None:
    if points or grid is not None:
        raise UsageError(
            f"{'--points' if points else '--grid'} needs a video.",
            hint="For example: vcorr track clip.mp4 --grid 20 --tracker dis",
        )


def _refuse_all(layers: str | None) -> None:
    if layers is not None and layers.strip() == "all":
        raise UsageError(
            "--layers all: tracking reads one layer, or averages the costs of a few.",
            hint="For example: --layers 5, or --layers 3,5",
        )


def _refuse_task(assignments: Sequence[str]) -> None:
    if any(text.partition("=")[0].strip() == "task" for text in assignments):
        raise UsageError(
            "--set task does not apply: vcorr track follows points.", hint="Correspondence is read by: vcorr run --help"
        )
