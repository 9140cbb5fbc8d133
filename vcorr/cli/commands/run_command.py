"""Defines `vcorr run`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.hints import SpecCommand
from vcorr.cli.views.terminal import print_json
from vcorr.contract.errors import EXIT_OK, EXIT_SOME_FAILED

if TYPE_CHECKING:
    from vcorr.runner.coordinator import Outcome
    from vcorr.runner.plan import Plan

_FLAGS = (
    "model",
    "probe",
    "data",
    "prompt",
    "mode",
    "layers",
    "steps",
    "limit",
    "seed",
    "cfg",
    "device",
    "dtype",
    "weights",
    "executor",
    "workers",
    "parallel",
)


@click.command(cls=SpecCommand, short_help="Probe a model on a dataset and score the correspondences in its attention.")
@run_flags.add_spec_flags
@click.option(
    "--config", metavar="FILE|NAME", help="A run as YAML: a file, or a config of a plugin; see: vcorr list configs."
)
@run_flags.ASSIGNMENTS
@run_flags.SAVE_VIDEOS
@run_flags.DRY_RUN
@run_flags.RESULTS_AS_JSON
def run(
    out: Path,
    reuse: str,
    config: str | None,
    assignments: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    offload: bool,
    vae_tiling: bool,
    save_videos: bool,
    **flags: Any,
) -> int:
    """Probe a model on a dataset and score the correspondences in its attention.

    \b
    A first run, offline and on any machine:
      vcorr run --model tiny --probe qk --limit 8
    Several probes in one pass, every head scored by itself:
      vcorr run --model tiny --probe qk,feature,feature-fair --set probe.heads=each
    The corrected variant and the published code's variant, from the same pass:
      vcorr run --model tiny --probe qk,attention --set variant=both

    The results of every clip are on disk before the next clip begins: repeat the command to go on after an
    interruption.
    """
    given = {name: flags[name] for name in _FLAGS}
    given |= {"offload": offload or None, "vae_tiling": vae_tiling or None, "save_videos": save_videos or None}
    return carry_out(given, assignments, config=config, out=out, reuse=reuse, dry_run=dry_run, as_json=as_json)


def carry_out(
    given: Mapping[str, Any],
    assignments: Sequence[str],
    *,
    out: Path,
    reuse: str,
    dry_run: bool,
    as_json: bool,
    config: str | None = None,
) -> int:
    """Plans and executes a run, or prints the plan, and returns the exit code.

    given: values of flags by their field of the spec. assignments: of `--set`. The others are as the flags.
    """
    may_answer = not dry_run and reuse != "never"
    plan = plan_run(given, assignments, config=config, dry=dry_run, out=out if may_answer else None)
    if dry_run:
        return say_plan(plan, out, as_json)
    outcome = execute_shown(plan, out, reuse)
    _say_outcome(plan, outcome, as_json)
    return EXIT_SOME_FAILED if outcome.failed else EXIT_OK


def plan_run(
    given: Mapping[str, Any],
    assignments: Sequence[str],
    *,
    config: str | None = None,
    dry: bool = False,
    out: Path | None = None,
) -> Plan:
    """Returns the plan of a run; raises as `build_spec` and `make_plan`. The arguments are as of `carry_out`.

    out: the folder in which a finished run of the same spec is looked for; None to plan anew.
    """
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.plugins.recipes import config_path
    from vcorr.plugins.registry import installed
    from vcorr.runner.plan import make_plan
    from vcorr.runner.plan_again import plan_again
    from vcorr.runner.spec import build_spec, naming_file

    quiet_libraries()
    file = config_path(config, installed()) if config else None
    spec = build_spec(given, config_file=file, assignments=assignments)
    with naming_file(file, given, assignments):
        finished = plan_again(spec, installed(), out) if out is not None else None
        return finished or make_plan(spec, installed(), dry=dry)


def say_plan(plan: Plan, out: Path, as_json: bool) -> int:
    """Prints the plan. What is missing is a part of it, not an error: the exit code is 0."""
    from vcorr.analysis.estimate import estimate
    from vcorr.cli.views import plan_view

    found = estimate(plan, out)
    if as_json:
        print_json(plan_view.plan_dict(plan, found))
    else:
        plan_view.plan(plan, found)
    return EXIT_OK


def execute_shown(plan: Plan, out: Path, reuse: str) -> Outcome:
    """Executes a plan and shows its progress; raises as `vcorr.runner.coordinator.execute`."""
    from vcorr.cli.views import progress
    from vcorr.runner.coordinator import Reuse, execute

    with progress.events(plan) as events:
        return execute(plan, out, reuse=Reuse(reuse), events=events, command=["vcorr", *sys.argv[1:]])


def _say_outcome(plan: Plan, outcome: Outcome, as_json: bool) -> None:
    from vcorr.analysis.object_means import average_objects
    from vcorr.analysis.run_findings import read_findings
    from vcorr.analysis.track_overlays import draw_best
    from vcorr.cli.views import render
    from vcorr.cli.views.mask_view import say_objects
    from vcorr.stats.summary import summarise_each

    read = read_findings(plan, outcome.run)
    scores, record, lower, found = read.scores, read.record, read.lower, read.found
    videos = draw_best(plan, outcome.run, found, lower) if plan.spec.save_videos else []
    objects = average_objects(
        outcome.run.iter_shards("scores", plan.selection.clips) if plan.task.scores_objects else ()
    )
    if as_json:
        facts = render.outcome_dict(outcome, found, summarise_each(scores, found.metrics, lower), plan)
        of_objects = {"objects": objects} if plan.task.scores_objects else {}
        print_json({**facts, **of_objects, "videos": [str(path) for path in videos]})
    else:
        if plan.task.scores_objects:
            say_objects(objects, plan.dataset)
        render.outcome(outcome, found, plan.reference.text, videos, record.get("cost"))
