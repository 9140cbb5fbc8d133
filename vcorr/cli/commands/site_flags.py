"""The flags that name a model with its site, or a tracker, for commands that store no run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from vcorr.cli.folder_type import FOLDER
from vcorr.cli.number_types import WHOLE_NUMBER

SITE_FLAGS = ("model", "tracker", "probe", "layers", "steps", "from_run", "seed", "device", "dtype", "weights")
"""Fields of a run that these flags set."""

_OPTIONS = (
    click.option("--model", "-m", metavar="NAME", help="Model whose tokens are matched; see: vcorr list models."),
    click.option("--tracker", metavar="NAME", help="Tracker in the place of a model; see: vcorr list trackers."),
    click.option("--probe", "-p", metavar="P", help="Probe of the model; see: vcorr list probes."),
    click.option("--layers", metavar="L[,L]", help="Layer, or layers that are averaged.  [default: the card's]"),
    click.option("--steps", metavar="S", help="Step, an index or 'last'."),
    click.option("--from", "from_run", type=FOLDER, metavar="RUN", help="Run that chose the site."),
    click.option("--seed", type=WHOLE_NUMBER, metavar="S", help="Seed of the noise.  [default: 42]"),
    click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 ...  [default: cuda if there is one]"),
    click.option(
        "--dtype", metavar="DTYPE", help="float32, bfloat16 or float16.  [default: bfloat16 on cuda, else float32]"
    ),
    click.option(
        "--weights", metavar="hub|random|PATH", help="Weights: the released ones, seeded random ones, or a folder."
    ),
    click.option(
        "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any option, e.g. --set track.chunk=9."
    ),
)


def site_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the flags to a command, which gets them by the names of `SITE_FLAGS`, and `assignments`."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return command


def read_site_flags(flags: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of the flags as fields of a spec; None where none was given."""
    given = {name: flags[name] for name in SITE_FLAGS}
    if given["from_run"] is not None:
        given["from_run"] = str(given["from_run"])
    return given
