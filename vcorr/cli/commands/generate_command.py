"""Defines `vcorr generate`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vcorr.cli.commands.run_command import say_plan
from vcorr.cli.folder_type import FOLDER
from vcorr.cli.hints import SpecCommand
from vcorr.cli.number_types import NUMBER, WHOLE_NUMBER
from vcorr.contract.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError

if TYPE_CHECKING:
    from vcorr.runner.plan import Plan

_FLAGS = (
    *("model", "prompt", "data", "limit", "guidance", "from_run", "cfg", "num_steps", "seed", "tracker"),
    *("device", "dtype", "weights", "executor"),
)
_OF_GUIDANCE = {"layers": "guidance.layers", "scale": "guidance.scale", "guidance_steps": "guidance.steps"}
"""Flags that are options of the guidance."""


@click.command(cls=SpecCommand, short_help="Generate videos, guided or not, and score them.")
@click.option("--model", "-m", metavar="NAME", help="Model that generates; see: vcorr list models.")
@click.option("--prompt", metavar="TEXT", help="What the video shows.")
@click.option("--data", metavar="prompts:FILE|NAME", help="In its place, many prompts, from a file or a dataset.")
@click.option("--image", type=click.Path(path_type=Path), metavar="FILE", help="First frame, for models that need one.")
@click.option("--guidance", metavar="NAME", help="What steers sampling; see: vcorr list guidances.  [default: none]")
@click.option("--layers", metavar="L[,L]|card|auto", help="Layers of the guidance; auto: the best of the run --from.")
@click.option("--from", "from_run", type=FOLDER, metavar="RUN", help="Run whose best layers the guidance takes.")
@click.option("--scale", type=NUMBER, metavar="S", help="Scale of the guidance.")
@click.option("--guidance-steps", metavar="A-B|all", help="Steps at which the guidance acts.")
@click.option("--cfg", type=NUMBER, metavar="STRENGTH", help="Strength of classifier-free guidance; 1 for none.")
@click.option("--num-steps", type=WHOLE_NUMBER, metavar="N", help="Steps of the sampler.  [default: the model's own]")
@click.option("--seed", type=WHOLE_NUMBER, metavar="S", help="Seed of the noise.  [default: 42]")
@click.option("--limit", type=WHOLE_NUMBER, metavar="N", help="Only the first N prompts.")
@click.option("--tracker", metavar="NAME", help="Tracker for the scores; see: vcorr list trackers.  [default: dis]")
@click.option("--out", type=FOLDER, default=Path("runs"), show_default=True, help="Folder of runs.")
@click.option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 ...  [default: cuda if there is one]")
@click.option(
    "--dtype", metavar="DTYPE", help="float32, bfloat16 or float16.  [default: bfloat16 on cuda, else float32]"
)
@click.option(
    "--weights", metavar="hub|random|PATH", help="Weights: the released ones, seeded random ones, or a folder."
)
@click.option("--offload", is_flag=True, help="Keep parts of the model on the CPU while they are not used.")
@click.option("--vae-tiling", is_flag=True, help="Decode the video tile by tile.")
@click.option(
    "--reuse",
    type=click.Choice(["never", "matching", "only"]),
    default="matching",
    show_default=True,
    help="Earlier results: continue from them (matching), compute nothing new (only), or start a new run (never).",
)
@click.option("--executor", metavar="NAME", help="Where the clips are computed: local.  [default: local]")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any option, e.g. --set guidance.heads=0,3."
)
@click.option("--dry-run", is_flag=True, help="Print what would run, its time, memory and disk, and what is missing.")
@click.option("--json", "as_json", is_flag=True, help="Results as JSON on standard output.")
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
    given["from_run"] = None if given["from_run"] is None else str(given["from_run"])
    _check_prompt(given)
    more = [f"{key}={flags[name]}" for name, key in _OF_GUIDANCE.items() if flags[name] is not None]
    if image is not None:
        more.append(f"data.image={image}")
    plan = _plan(given, [*more, *assignments], dry=dry_run)
    if dry_run:
        return say_plan(plan, out, as_json)
    return _run(plan, out, reuse, as_json)


def _check_prompt(given: Mapping[str, Any]) -> None:
    """Raises UsageError for an empty prompt: the words of the error are about the prompt alone."""
    if given["prompt"] is not None and not given["prompt"].strip():
        raise UsageError("The prompt is empty.", hint='Say what the video shows: --prompt "a dog runs on grass"')


def _plan(given: Mapping[str, Any], assignments: Sequence[str], *, dry: bool) -> Plan:
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.plugins.registry import installed
    from vcorr.runner.plan import make_plan
    from vcorr.runner.spec import build_spec

    quiet_libraries()
    return make_plan(build_spec(given, assignments=assignments), installed(), dry=dry)


def _run(plan: Plan, out: Path, reuse: str, as_json: bool) -> int:
    from vcorr.analysis.generated_clips import read_generated, write_videos
    from vcorr.cli.views import progress, video_view
    from vcorr.cli.views.terminal import print_json
    from vcorr.runner.coordinator import Reuse, execute

    with progress.events(plan) as events:
        outcome = execute(plan, out, reuse=Reuse(reuse), events=events, command=["vcorr", *sys.argv[1:]])
    files = write_videos(plan, outcome.run)
    found = read_generated(outcome.run, plan.selection.clips)
    if as_json:
        print_json(video_view.to_dict(plan, outcome, found, files))
    else:
        video_view.say_generated(plan, outcome, found, files)
    return EXIT_SOME_FAILED if outcome.failed else EXIT_OK
