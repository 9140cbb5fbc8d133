"""Defines `vcorr study knockout`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.folder_type import FOLDER, RESULTS
from vcorr.cli.number_types import NUMBER, WHOLE_NUMBER
from vcorr.cli.views.terminal import print_json, say

_FLAGS = ("model", "data", "seed", "num_steps", "cfg", "tracker", "device", "dtype", "weights")


@click.command(short_help="Cut attention at chosen sites, and compare with random cuts of the same size.")
@click.option("--model", "-m", metavar="NAME", help="Model to cut.  [default: the model of the run]")
@click.option(
    "--from", "observed", required=True, type=RESULTS, metavar="RUN", help="Run of qk that chooses sites and readers."
)
@click.option(
    "--sites",
    metavar="auto|17,17::3",
    default="auto",
    show_default=True,
    help="Cuts with commas; LAYER[:STEP[:HEAD]], joined by +; auto:heads for single heads.",
)
@click.option(
    "--kind",
    metavar="KIND",
    default="cross-frame",
    show_default=True,
    help="cross-frame, self-frame, text, head or head-mean.",
)
@click.option("--dose", metavar="D[,D]", default="1", show_default=True, help="Shares of the cut, above 0 and up to 1.")
@click.option(
    "--mode",
    metavar="renoise|generate",
    default="renoise",
    show_default=True,
    help="Cut while noisy clips are denoised, or while videos are sampled.",
)
@click.option("--data", metavar="NAME", help="Dataset with known tracks.  [default: the data of the run]")
@click.option("--limit", type=WHOLE_NUMBER, default=8, show_default=True, metavar="N", help="Number of clips.")
@click.option(
    "--controls", type=WHOLE_NUMBER, default=20, show_default=True, metavar="N", help="Number of random sets."
)
@click.option(
    "--norm",
    type=click.Choice(["common", "own"]),
    default="common",
    show_default=True,
    help="Norm of the change: the smallest among the cuts, for all; or the own norm of each cut.",
)
@click.option(
    "--steps",
    metavar="0,10-20",
    help="Steps that are measured; of videos, that are cut.  [default: the best step of the run; of videos, all]",
)
@click.option("--num-steps", type=WHOLE_NUMBER, metavar="N", help="Steps of the sampler.  [default: as in the run]")
@click.option("--cfg", type=NUMBER, metavar="STRENGTH", help="Strength of classifier-free guidance; for videos.")
@click.option("--tracker", metavar="NAME", help="Tracker for the scores of videos.  [default: dis]")
@click.option("--seed", type=WHOLE_NUMBER, metavar="S", help="Seed of the noise and of the controls.")
@click.option("--out", type=FOLDER, default=Path("runs"), show_default=True, help="Folder of studies.")
@run_flags.DEVICE
@click.option("--dtype", metavar="DTYPE", help="float32, bfloat16 or float16.")
@click.option("--weights", metavar="hub|random|PATH", help="Weights.  [default: as in the run]")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="An option of the model or the data.")
@run_flags.RESULTS_AS_JSON
def knockout(
    observed: Path,
    sites: str,
    kind: str,
    dose: str,
    mode: str,
    limit: int,
    controls: int,
    norm: str,
    steps: str | None,
    out: Path,
    assignments: tuple[str, ...],
    as_json: bool,
    **flags: Any,
) -> int:
    """Cut attention at chosen sites, and compare with random cuts of the same size.

    \b
    Observe the sites, then cut the best, the worst and some between:
      vcorr run --model tiny --probe qk,head-traits --set probe.heads=each --limit 16
      vcorr study knockout --model tiny --from runs/RUN --sites auto

    \b
    Cut while videos are sampled, and compare their scores:
      vcorr study knockout --from runs/RUN --mode generate --sites 4,8 --limit 6 --num-steps 6

    Noise is added to clips that the run did not measure. A cut is measured by the denoising loss, and by matching at
    later layers. With --mode generate, videos of their prompts are made and scored. Repeat the command to go on after
    an interruption.
    """
    from vcorr.cli.quiet import quiet_libraries
    from vcorr.cli.views.knockout_view import say_page
    from vcorr.contract.errors import EXIT_OK

    quiet_libraries()
    from vcorr.plugins.registry import installed
    from vcorr.store.run_search import open_run
    from vcorr.studies.knockout_observed import read_observed
    from vcorr.studies.knockout_options import KnockoutOptions, read_doses
    from vcorr.studies.knockout_plan import plan_study
    from vcorr.studies.knockout_run import StudyFolder, finish_study, run_study

    options = KnockoutOptions(kind, sites, read_doses(dose), controls, limit, steps, own=norm == "own", mode=mode)
    options.check()
    found = read_observed(open_run(observed))
    given = {name: flags[name] for name in _FLAGS}
    study = plan_study(found, options, installed(), given, assignments)
    for note in study.plan.notes:
        say(note, stderr=True)
    folder = StudyFolder.of(study, out)
    rows = run_study(study, folder, lambda text: say(text, stderr=True))
    finished = finish_study(study, folder, rows)
    if as_json:
        print_json({"study": str(folder.path), **finished.results.to_dict()})
    else:
        say_page(finished.page)
        say(f"Results: {folder.path}", stderr=True)
    return EXIT_OK
