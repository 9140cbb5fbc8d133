"""Defines `vcorr doctor`."""

from __future__ import annotations

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.views.terminal import console, print_json


@click.command(short_help="Check this installation: versions, devices, plugins, disk.")
@run_flags.FACTS_AS_JSON
def doctor(as_json: bool) -> int:
    """Check this installation: versions, devices, plugins, disk, and whether capture works here."""
    from vcorr.cli.diagnosis import examine
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.cli.views import render
    from vcorr.contract.errors import EXIT_OK, EXIT_PLUGIN

    quiet_libraries()
    findings = examine()
    if as_json:
        print_json([f.to_dict() for f in findings])
    else:
        console().print(render.findings(findings))
    return EXIT_OK if all(f.ok for f in findings) else EXIT_PLUGIN
