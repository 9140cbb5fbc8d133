"""Defines `vcorr generate`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.commands.run_command import execute_shown, plan_run, say_plan
from vcorr.cli.folder_type import RESULTS
from vcorr.cli.hints import SpecCommand
from vcorr.cli.number_types import NUMBER
from vcorr.contract.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError
from vcorr.store.remote.addresses import place_of

if TYPE_CHECKING:
    from vcorr.runner.coordinator import Outcome
    from vcorr.runner.plan import Plan

_FLAGS = (
    *("model", "prompt", "data", "limit", "guidance", "from_run", "cfg", "num_steps", "seed", "tracker"),
    *("device", "dtype", "weights", "executor", "workers"),
)
_OF_GUIDANCE = {"layers": "guidance.layers", "scale": "guidance.scale", "guidance_steps": "guidance.steps"}
"""Flags that are options of the guidance."""


@click.command(cls=SpecCommand, short_help="Generate videos, guided or not, and score them.")
@run_flags.GENERATING_MODEL
@click.option("--prompt", metavar="TEXT", help="What the video shows.")
@click.option("--data", metavar="prompts:FILE|NAME", help="In its place, many prompts, from a file or a dataset.")
@click.option("--image", type=click.Path(path_type=Path), metavar="FILE", help="First frame, for models that need one.")
@click.option("--guidance", metavar="NAME", help="What steers sampling; see: vcorr list guidances.  [default: none]")
@click.option("--layers", metavar="L[,L]|card|auto", help="Layers of the guidance; auto: the best of the run --from.")
@click.option("--from", "from_run", type=RESULTS, metavar="RUN", help="Run whose best layers the guidance takes.")
@click.option("--scale", type=NUMBER, metavar="S", help="Scale of the guidance.")
@click.option("--guidance-steps", metavar="A-B|all", help="Steps at which the guidance acts.")
@run_flags.CFG
@run_flags.NUM_STEPS
@run_flags.SEED
@run_flags.LIMIT_PROMPTS
@run_flags.SCORING_TRACKER
@run_flags.OUT_RUNS
@run_flags.DEVICES
@run_flags.DTYPE
@run_flags.WEIGHTS
@run_flags.OFFLOAD
@click.option("--vae-tiling", is_flag=True, help="Decode the video tile by tile.")
@run_flags.REUSE
@run_flags.EXECUTOR
@run_flags.WORKERS
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any option, e.g. --set guidance.heads=0,3."
)
@run_flags.DRY_RUN
@run_flags.RESULTS_AS_JSON
def generate(
    image: Path | None,
    out: Path,
    reuse: str,
    assignments: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    offload: bool,
    vae_tiling: bool,
    **flags: Any,
) -> int:
    """Generate videos with a model, guided or not, and score them without a reference.

    \b
    A first video, offline and on any machine:
      vcorr generate --model tiny --prompt "a red disc" --num-steps 20
    Guided in the layers of the model's card:
      vcorr generate --model cogvideox --prompt "a dog runs" --guidance cag --scale 1

    The videos, the tracks in them and their scores are a run like any other: it is continued, scored again and
    compared, clip by clip, with another guidance (docs/guidance.md).
    """
    given = {name: flags[name] for name in _FLAGS}
    given |= {"offload": offload or None, "vae_tiling": vae_tiling or None, "task": "generation"}
    given["from_run"] = None if given["from_run"] is None else place_of(given["from_run"])
    _check_prompt(given)
    more = [f"{key}={flags[name]}" for name, key in _OF_GUIDANCE.items() if flags[name] is not None]
    if image is not None:
        more.append(f"data.image={image}")
    plan = plan_run(given, [*more, *assignments], dry=dry_run)
    if dry_run:
        return say_plan(plan, out, as_json)
    outcome = execute_shown(plan, out, reuse)
    _say_outcome(plan, outcome, as_json)
    return EXIT_SOME_FAILED if outcome.failed else EXIT_OK


def _check_prompt(given: Mapping[str, Any]) -> None:
    """Raises UsageError for an empty prompt: the words of the error are about the prompt alone."""
    if given["prompt"] is not None and not given["prompt"].strip():
        raise UsageError("The prompt is empty.", hint='Say what the video shows: --prompt "a dog runs on grass"')


def _say_outcome(plan: Plan, outcome: Outcome, as_json: bool) -> None:
    from vcorr.analysis.generated_clips import read_generated, write_videos
    from vcorr.cli.views import video_view
    from vcorr.cli.views.terminal import print_json

    files = write_videos(plan, outcome.run)
    found = read_generated(outcome.run, plan.selection.clips)
    if as_json:
        print_json(video_view.to_dict(plan, outcome, found, files))
    else:
        video_view.say_generated(plan, outcome, found, files)
