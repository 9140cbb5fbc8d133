"""The flags that name a model with its site, or a tracker, for commands that store no run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.folder_type import RESULTS
from vcorr.contract.errors import UsageError
from vcorr.store.remote.addresses import place_of

SITE_FLAGS = ("model", "tracker", "probe", "layers", "steps", "from_run", "seed", "device", "dtype", "weights")
"""Fields of a run that these flags set."""

_OPTIONS = (
    click.option("--model", "-m", metavar="NAME", help="Model whose tokens are matched; see: vcorr list models."),
    click.option("--tracker", metavar="NAME", help="Tracker in the place of a model; see: vcorr list trackers."),
    click.option("--probe", "-p", metavar="P", help="Probe of the model; see: vcorr list probes."),
    click.option("--layers", metavar="L[,L]", help="Layer, or layers that are averaged.  [default: the card's]"),
    click.option("--steps", metavar="S", help="Step, an index or 'last'."),
    click.option("--from", "from_run", type=RESULTS, metavar="RUN", help="Run that chose the site."),
    run_flags.SEED,
    run_flags.DEVICE,
    run_flags.DTYPE,
    run_flags.WEIGHTS,
    click.option(
        "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any option, e.g. --set track.chunk=9."
    ),
)


def site_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the flags to a command, which gets them by the names of `SITE_FLAGS`, and `assignments`."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return command


def refuse_data_flags(flags: Mapping[str, Any]) -> None:
    """Refuses flags of a dataset where a video is named; raises UsageError for the first that has a value."""
    for name, value in flags.items():
        if value is not None:
            raise UsageError(
                f"--{name} is for measuring on a dataset, and a video is named.",
                hint=f"Leave out --{name}, or the video.",
            )


def read_site_flags(flags: dict[str, Any]) -> dict[str, Any]:
    """Returns the values of the flags as fields of a spec; None where none was given."""
    given = {name: flags[name] for name in SITE_FLAGS}
    if given["from_run"] is not None:
        given["from_run"] = place_of(given["from_run"])
    return given
