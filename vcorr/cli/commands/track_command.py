"""Defines `vcorr track`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vcorr.cli.commands.run_command import carry_out
from vcorr.cli.folder_type import FOLDER
from vcorr.cli.hints import SpecCommand
from vcorr.cli.number_types import WHOLE_NUMBER
from vcorr.contract.errors import UsageError

_FLAGS = (
    *("model", "probe", "layers", "steps", "from_run", "preset", "tracker"),
    *("data", "limit", "seed", "device", "dtype", "weights"),
)


@click.command(cls=SpecCommand, short_help="Follow points through videos and score the tracks.")
@click.option("--model", "-m", metavar="NAME", help="Model that follows the points; see: vcorr list models.")
@click.option("--tracker", metavar="NAME", help="Tracker in the place of a model; see: vcorr list trackers.")
@click.option("--probe", "-p", metavar="P", help="Probe of the model; see: vcorr list probes.")
@click.option("--layers", metavar="L[,L]", help="Layer, or layers whose costs are averaged.")
@click.option("--steps", metavar="S", help="Step, an index or 'last'.")
@click.option("--from", "from_run", type=FOLDER, metavar="RUN", help="Run that chose the site, and the threshold.")
@click.option("--preset", metavar="P", help="A published setting: difftrack, ditracker or heft.")
@click.option("--data", metavar="NAME", help="Dataset with tracks.")
@click.option("--data-root", metavar="PATH", help="Folder of the dataset's files; means --set data.path=PATH.")
@click.option("--queries", metavar="first|strided", help="Query mode of the dataset; means --set data.queries=…")
@click.option("--limit", type=WHOLE_NUMBER, metavar="N", help="Only the first N clips.")
@click.option("--seed", type=WHOLE_NUMBER, metavar="S", help="Seed of the noise.  [default: 42]")
@click.option("--out", type=FOLDER, default=Path("runs"), show_default=True, help="Folder of runs.")
@click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 ...  [default: cuda if there is one]")
@click.option(
    "--dtype", metavar="DTYPE", help="float32, bfloat16 or float16.  [default: bfloat16 on cuda, else float32]"
)
@click.option(
    "--weights", metavar="hub|random|PATH", help="Weights: the released ones, seeded random ones, or a folder."
)
@click.option(
    "--reuse",
    type=click.Choice(["never", "matching", "only"]),
    default="matching",
    show_default=True,
    help="Earlier results: continue from them (matching), compute nothing new (only), or start a new run (never).",
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any option, e.g. --set track.order=sliding."
)
@click.option("--dry-run", is_flag=True, help="Print what would run, its passes and time, and what is missing.")
@click.option("--json", "as_json", is_flag=True, help="Results as JSON on standard output.")
def track(
    out: Path,
    reuse: str,
    assignments: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    data_root: str | None,
    queries: str | None,
    **flags: Any,
) -> int:
    """Follow the query points of a dataset through every frame, and score position and visibility.

    \b
    A tracker without weights, offline:
      vcorr track --tracker dis --data sprites --limit 8
    The embedded model, at the site that its card names:
      vcorr track --model tiny --data sprites --limit 8

    A tracking run is stored, continued, scored again and compared as any other run (docs/tracking.md).
    """
    given = {name: flags[name] for name in _FLAGS}
    _refuse_all(given["layers"])
    if given["from_run"] is not None:
        given["from_run"] = str(given["from_run"])
    of_data = {"path": data_root, "queries": queries}
    more = [f"data.{name}={value}" for name, value in of_data.items() if value is not None]
    given["task"] = "tracking"
    return carry_out(given, [*more, *assignments], out=out, reuse=reuse, dry_run=dry_run, as_json=as_json)


def _refuse_all(layers: str | None) -> None:
    if layers is not None and layers.strip() == "all":
        raise UsageError(
            "--layers all: tracking reads one layer, or averages the costs of a few.",
            hint="For example: --layers 5, or --layers 3,5",
        )
