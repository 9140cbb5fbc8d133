"""Defines `vcorr study`, the group of the studies. Each study is a command in a module `study_*` of its own."""

from __future__ import annotations

import click

from vcorr.cli.commands import study_accelerators, study_guidance, study_knockout


@click.group(short_help="Compare interventions with their controls, on the same clips and seeds.")
def study() -> None:
    """Compare interventions with their controls, on the same clips and seeds."""


STUDIES: tuple[click.Command, ...] = (
    study_guidance.guidance,
    study_knockout.knockout,
    study_accelerators.accelerators,
)
"""The studies, in the order of the help page."""

for _one in STUDIES:
    study.add_command(_one)
