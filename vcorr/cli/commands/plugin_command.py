"""Defines `vcorr plugin new` and `vcorr plugin check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.folder_type import FOLDER
from vcorr.cli.views.terminal import print_json, say

if TYPE_CHECKING:
    from vcorr.authoring.scaffold.pipelines.facts import PipelineFacts

KINDS = ("model", "probe", "metric", "dataset", "tracker", "guidance")


@click.group(short_help="Write a plugin of your own, and check that a plugin keeps the contract.")
def plugin() -> None:
    """Write a plugin, or check one (docs/plugins.md). To see what is installed: vcorr list plugins."""


@plugin.command(short_help="Write a complete, tested, installable plugin to start from.")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What the plugin adds.")
@click.option("--from-pipeline", metavar="CLASS", help="Write an adapter for this pipeline of diffusers.")
@click.option("--out", type=FOLDER, default=Path("."), help="Folder to write it in.  [default: this one]")
def new(name: str, kind: str, from_pipeline: str | None, out: Path) -> None:
    """Write a complete, tested, installable plugin to start from: a folder NAME with working code, tests and a README.

    \b
    For example:
      vcorr plugin new vcorr-mymodel --kind model
      vcorr plugin new vcorr-mymodel --kind model --from-pipeline LTXPipeline
    """
    from vcorr.authoring.scaffold.names import new_names
    from vcorr.authoring.scaffold.write import write_plugin
    from vcorr.contract.errors import UsageError
    from vcorr.plugins.registry import installed

    if from_pipeline is not None and kind != "model":
        raise UsageError(f"--from-pipeline writes a model, not a {kind}.", hint="Use --kind model.")
    names = new_names(name, kind, installed())
    facts = None if from_pipeline is None else _learn(from_pipeline)
    folder = write_plugin(names, out, facts)
    say(f"Written: {folder}")
    if facts is not None:
        _print_guesses(facts, folder / names.package / "model.py")
    say(f"Next: pip install -e {folder} && vcorr plugin check {name}")


def _learn(pipeline: str) -> PipelineFacts:
    from vcorr.cli.quiet import quiet_libraries

    quiet_libraries()  # before diffusers is imported
    from vcorr.authoring.scaffold.pipelines.learn import learn

    return learn(pipeline)


def _print_guesses(facts: PipelineFacts, model: Path) -> None:
    """Prints every guess that its author must check, with its line in model.py."""
    if facts.unseen:
        say(f"{facts.pipeline_class} could not be examined: {facts.unseen}.")
    say("Check these guesses (README.md lists them too):")
    lines = model.read_text(encoding="utf-8").splitlines()
    for guess in facts.guesses:
        found = next((number for number, line in enumerate(lines, 1) if f"# Check {guess.where}:" in line), None)
        where = f"{model.name}:{found} {guess.where}" if found else guess.where
        say(f"  {where}: {guess.what}")


@plugin.command(short_help="Run the contract suites on everything a plugin adds.")
@click.argument("name")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Options to check with, e.g. --set model.height=64; they replace the options that the plugin gives.",
)
@run_flags.FACTS_AS_JSON
def check(name: str, assignments: tuple[str, ...], as_json: bool) -> int:
    """Run the contract suites on everything a plugin adds.

    NAME is a distribution, a plugin, or one entry. Models run with random weights and with the small options that
    their entry gives (`check`).

    \b
    For example:
      vcorr plugin check vcorr-tiny
      vcorr plugin check ltx-video
    """
    from vcorr.cli.quiet import quiet_libraries

    quiet_libraries()  # before the suites, which import torch
    from vcorr.authoring.check.suites import check_plugin
    from vcorr.authoring.check.targets import find_target
    from vcorr.cli.views import check_view
    from vcorr.plugins.registry import installed
    from vcorr.runner.spec import build_spec

    options = build_spec({}, assignments=assignments).options
    found = check_plugin(find_target(name, installed()), installed(), options)
    if as_json:
        print_json(check_view.to_dict(found))
    else:
        check_view.show(found)
    return found.exit_code
