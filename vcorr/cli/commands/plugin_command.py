"""`vcorr plugin`: new and check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from vcorr.authoring.scaffold.pipelines.facts import PipelineFacts

KINDS = ("model", "probe", "metric", "dataset", "tracker", "guidance")


@click.group(short_help="Write a plugin of your own, and check whether one keeps the contract.")
def plugin() -> None:
    """Plugins: write one, check one (docs/plugins.md). What is installed: vcorr list plugins."""


@plugin.command(short_help="Write a complete, tested, installable plugin to start from.")
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="What it brings.")
@click.option("--from-pipeline", metavar="CLASS", help="Write the adapter of this pipeline of diffusers.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("."), help="Folder to write it in.  [default: this one]"
)
def new(name: str, kind: str, from_pipeline: str | None, out: Path) -> None:
    """Write a complete, tested, installable plugin to start from: NAME/ with code that works, tests and README.

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
        raise UsageError(f"--from-pipeline writes a model, not a {kind}.", hint="Say --kind model.")
    names = new_names(name, kind, installed())
    facts = None if from_pipeline is None else _learnt(from_pipeline)
    folder = write_plugin(names, out, facts)
    click.echo(f"Written: {folder}")
    if facts is not None:
        _tell_guesses(facts, folder / names.package / "model.py")
    click.echo(f"Next: pip install -e {folder} && vcorr plugin check {name}")


def _learnt(pipeline: str) -> PipelineFacts:
    from vcorr.cli.quiet import quiet_libraries

    quiet_libraries()  # before diffusers is imported
    from vcorr.authoring.scaffold.pipelines.learn import learn

    return learn(pipeline)


def _tell_guesses(facts: PipelineFacts, model: Path) -> None:
    """What has to be checked, with the line of model.py where it stands there."""
    if facts.unseen:
        click.echo(f"{facts.pipeline_class} could not be looked at: {facts.unseen}.")
    click.echo("Check these (they are in README.md too):")
    lines = model.read_text(encoding="utf-8").splitlines()
    for guess in facts.guesses:
        found = next((number for number, line in enumerate(lines, 1) if f"# Check {guess.where}:" in line), None)
        where = f"{model.name}:{found} {guess.where}" if found else guess.where
        click.echo(f"  {where}: {guess.what}")


@plugin.command(short_help="Run the contract suites on everything a plugin brings.")
@click.argument("name")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Options to check under, e.g. --set model.height=64; over those the plugin itself says.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON on standard output.")
def check(name: str, assignments: tuple[str, ...], as_json: bool) -> int:
    """Run the contract suites on everything a plugin brings.

    NAME is a distribution, a plugin, or one entry. Models run with random weights under the small options their entry
    says (`check`).

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
        click.echo(json.dumps(check_view.to_dict(found), indent=2, ensure_ascii=False))
    else:
        check_view.show(found)
    return found.exit_code
