"""Defines `vcorr study guidance`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.folder_type import FOLDER, RESULTS
from vcorr.cli.hints import SpecCommand
from vcorr.cli.number_types import NUMBER
from vcorr.contract.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError
from vcorr.store.remote.addresses import place_of

_FLAGS = (
    *("model", "data", "limit", "from_run", "cfg", "num_steps", "tracker"),
    *("device", "dtype", "weights", "executor"),
)


@click.command("guidance", cls=SpecCommand, short_help="All guidances on the same prompts and seeds, paired.")
@run_flags.GENERATING_MODEL
@click.option("--prompts", metavar="FILE", help="One prompt per line.  [default: the model's own data]")
@click.option("--data", metavar="NAME", help="In its place, a dataset whose prompts are taken.")
@click.option("--guidances", metavar="G[,G]", help="Guidances, such as cag,cag+scale=2,pag.  [default: all installed]")
@click.option("--seeds", default="42", show_default=True, metavar="S[,S]", help="Seeds; each makes every video.")
@click.option("--from", "from_run", type=RESULTS, metavar="RUN", help="Run whose best layers the guidances take.")
@click.option("--layers", metavar="L[,L]|card|auto", help="Layers of all guidances that have layers.")
@click.option("--scale", type=NUMBER, metavar="S", help="Scale of all guidances that have one.")
@click.option("--guidance-steps", metavar="A-B|all", help="Steps at which the guidances act.")
@click.option("--cfg", type=NUMBER, metavar="STRENGTH", help="Strength of classifier-free guidance, for all.")
@run_flags.NUM_STEPS
@run_flags.LIMIT_PROMPTS
@run_flags.SCORING_TRACKER
@click.option("--out", type=FOLDER, help="Folder of the study.  [default: studies/guidance-MODEL]")
@run_flags.DEVICE
@run_flags.DTYPE
@run_flags.WEIGHTS
@run_flags.EXECUTOR
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any option of all runs.")
@run_flags.RESULTS_AS_JSON
def guidance(
    prompts: str | None,
    guidances: str | None,
    seeds: str,
    layers: str | None,
    scale: float | None,
    guidance_steps: str | None,
    out: Path | None,
    as_json: bool,
    assignments: tuple[str, ...],
    **flags: Any,
) -> int:
    """Generate the same prompts from the same seeds under several guidances, and compare their scores in pairs.

    \b
    Offline, on the embedded model:
      vcorr study guidance --model tiny --guidances cag,random-layers,more-steps --limit 8 --num-steps 20

    The folder of the study holds its runs, a table with every difference and its interval, and a page with strips of
    frames. Repeat the command to go on after an interruption (docs/guidance.md).
    """
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.cli.views import study_view
    from vcorr.cli.views.study_progress import StudyWatch
    from vcorr.cli.views.terminal import print_json
    from vcorr.plugins.registry import installed
    from vcorr.runner.spec import build_spec
    from vcorr.studies.guidance_arms import parse_arms
    from vcorr.studies.guidance_page import write_page
    from vcorr.studies.guidance_study import GuidanceQuestion, run_guidance_study
    from vcorr.studies.study_runs import say_kept

    quiet_libraries()
    given: dict[str, Any] = {name: flags[name] for name in _FLAGS} | {"task": "generation"}
    given["from_run"] = None if given["from_run"] is None else place_of(given["from_run"])
    given["data"] = _choose_data(prompts, given["data"])
    shared = {"guidance.layers": layers, "guidance.scale": scale, "guidance.steps": guidance_steps}
    more = [f"{key}={value}" for key, value in shared.items() if value is not None]
    spec = build_spec(given, assignments=[*more, *assignments])
    arms = parse_arms(guidances, installed())
    asked = GuidanceQuestion(spec, arms, read_seeds(seeds), ("vcorr", *sys.argv[1:]))
    folder = out or Path("studies") / f"guidance-{spec.model or 'model'}"
    study = run_guidance_study(asked, installed(), folder, StudyWatch().watch_run)
    with say_kept(lambda: f"All runs and the table are finished and kept in {folder}."):
        page = write_page(study)
    if as_json:
        print_json(study_view.to_dict(study, page))
    else:
        study_view.say_study(study, page)
    return EXIT_SOME_FAILED if study.failed else EXIT_OK


def _choose_data(prompts: str | None, data: str | None) -> str | None:
    if prompts is None:
        return data
    if data is not None:
        raise UsageError("--prompts and --data exclude each other.", hint="A file of prompts is a dataset.")
    return f"prompts:{prompts}"


def read_seeds(text: str) -> tuple[int, ...]:
    """Returns the seeds of `--seeds`; raises UsageError for a word that is no whole number."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words:
        if not (word.isascii() and word.isdigit()):
            raise UsageError(f"--seeds {text}: {word!r} is no whole number.", hint="For example: --seeds 42,43")
    return tuple(map(int, words))
