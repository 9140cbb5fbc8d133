"""Defines `vcorr study accelerators`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.folder_type import FOLDER
from vcorr.cli.hints import SpecCommand
from vcorr.cli.number_types import WHOLE_NUMBER
from vcorr.contract.errors import EXIT_OK, EXIT_SOME_FAILED

if TYPE_CHECKING:
    from vcorr.runner.spec import RunSpec

_SHARED = ("model", "seed", "device", "dtype", "weights", "executor")
_OF_VIDEOS = ("model", "tracker")
_OF_ATTENTION = ("model", "data", "probe")


@click.command("accelerators", cls=SpecCommand, short_help="What caches, fewer bits, windows and fewer steps cost.")
@click.option("--model", "-m", metavar="NAME", help="Model that is accelerated; see: vcorr list models.")
@click.option(
    "--accelerator",
    "accelerators",
    multiple=True,
    metavar="TEXT",
    help="As model.accelerate takes it, or steps=N, model=NAME, lora=FILE.  [default: all usual ones]",
)
@click.option("--data", metavar="NAME", help="Clips with tracks, for skill and loss.  [default: the model's own]")
@run_flags.LIMIT_CLIPS
@click.option("--probe", "-p", default="qk", show_default=True, metavar="P", help="Probe of the skill.")
@run_flags.LAYERS_READ
@click.option("--steps", default="last", show_default=True, metavar="0,10-20", help="Steps to read.")
@click.option("--site", default="", metavar="LAYER:STEP", help="Where skill is reported.  [default: the model card's]")
@click.option("--prompts", metavar="FILE|NAME", help="Prompts of the videos.  [default: the prompts of the data]")
@click.option("--videos", type=WHOLE_NUMBER, metavar="N", help="Only the first N prompts.")
@run_flags.NUM_STEPS
@click.option("--pairs", type=WHOLE_NUMBER, default=1, show_default=True, help="Pairs of videos that are timed.")
@run_flags.SEED
@click.option("--out", type=FOLDER, help="Folder of the study.  [default: studies/accelerators-MODEL]")
@run_flags.DEVICE
@run_flags.DTYPE
@run_flags.WEIGHTS
@run_flags.EXECUTOR
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="An option of the model, data or probe.")
@run_flags.RESULTS_AS_JSON
def accelerators(
    accelerators: tuple[str, ...],
    pairs: int,
    site: str,
    out: Path | None,
    as_json: bool,
    assignments: tuple[str, ...],
    **flags: Any,
) -> int:
    """Run a model plain and accelerated, and compare correspondence, denoising loss, videos and time in pairs.

    \b
    Offline, on the embedded model:
      vcorr study accelerators --model tiny --limit 8 --videos 2 --num-steps 10
    Chosen ones, at true size:
      vcorr study accelerators --model cogvideox --accelerator fp8 --accelerator steps=25

    Skill and loss are measured on clips with known tracks; caches skip attention, so they have videos and times alone.
    The folder of the study holds its runs and a table with every difference and its interval. Repeat the command to go
    on after an interruption (docs/accelerators.md).
    """
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.cli.views import accelerator_view
    from vcorr.cli.views.study_progress import StudyWatch
    from vcorr.cli.views.terminal import print_json
    from vcorr.plugins.registry import installed
    from vcorr.studies.accelerator_arms import parse_arms
    from vcorr.studies.accelerator_plans import AcceleratorQuestion, find_num_steps
    from vcorr.studies.accelerator_study import run_accelerator_study

    quiet_libraries()
    read, videos = _build_specs(flags, assignments)
    arms = parse_arms(accelerators, find_num_steps(videos, installed()))
    asked = AcceleratorQuestion(read, videos, arms, pairs, site, ("vcorr", *sys.argv[1:]))
    folder = out or Path("studies") / f"accelerators-{read.model or 'model'}"
    study = run_accelerator_study(asked, installed(), folder, StudyWatch().watch_run)
    if as_json:
        print_json(accelerator_view.to_dict(study))
    else:
        accelerator_view.say_study(study)
    return EXIT_SOME_FAILED if study.failed else EXIT_OK


def _build_specs(flags: Mapping[str, Any], assignments: tuple[str, ...]) -> tuple[RunSpec, RunSpec]:
    """Returns the specs of the correspondence runs and of the generation runs of a study."""
    from pathlib import Path

    from vcorr.runner.spec import build_spec
    from vcorr.studies.study_options import check_assignments

    shared = {name: flags[name] for name in _SHARED}
    own = {name: flags[name] for name in ("probe", "data", "limit", "layers", "steps")}
    prompts = flags["prompts"]
    if prompts is not None and Path(prompts).is_file():
        prompts = f"prompts:{prompts}"
    made = {"data": prompts or flags["data"], "limit": flags["videos"], "num_steps": flags["num_steps"]}
    build_spec({**shared, **own}, assignments=assignments)  # raises for an assignment that cannot be read
    check_assignments(assignments, (*_OF_ATTENTION, "tracker"), ("tracker",))
    of_attention = [text for text in assignments if _name_part(text) in _OF_ATTENTION]
    of_videos = [text for text in assignments if _name_part(text) in _OF_VIDEOS]
    read = build_spec({**shared, **own, "mode": "renoise"}, assignments=of_attention)
    videos = build_spec({**shared, **made, "task": "generation"}, assignments=of_videos)
    return read, videos


def _name_part(assignment: str) -> str:
    """Returns the part whose option is set, such as "model" for model.size=small; else the key itself."""
    return assignment.partition("=")[0].partition(".")[0].strip()
