"""Defines `vcorr compare`."""

from __future__ import annotations

from pathlib import Path

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.folder_type import RESULTS
from vcorr.cli.views.terminal import print_json


@click.command(short_help="Compare two runs on the clips they have in common.")
@click.argument("run_a", metavar="RUN_A", type=RESULTS)
@click.argument("run_b", metavar="RUN_B", type=RESULTS)
@click.option("--metric", metavar="M[,M]", help="Metrics to compare, or patterns.  [default: all but strata]")
@click.option("--probe", metavar="P", help="Probe of both runs, or A:B.  [default: all that both have]")
@click.option("--site-a", "sites_a", multiple=True, metavar="LAYER:STEP[:HEAD]", help="Site of RUN_A; repeatable.")
@click.option("--site-b", "sites_b", multiple=True, metavar="LAYER:STEP[:HEAD]", help="Site of RUN_B; repeatable.")
@run_flags.RESULTS_AS_JSON
def compare(
    run_a: Path,
    run_b: Path,
    metric: str | None,
    probe: str | None,
    sites_a: tuple[str, ...],
    sites_b: tuple[str, ...],
    as_json: bool,
) -> int:
    """Compare two runs clip by clip, on the clips they have in common; no model needed.

    Both are of one task: correspondence (vcorr run), tracking (vcorr track) or propagation (vcorr propagate). Each is
    named by its folder, or by its id or the beginning of it (vcorr list runs).

    \b
    For example:
      vcorr compare 3f2a81c09d17 90b1f6d2c4aa
    Query-key matching with feature matching, both in one run:
      vcorr compare 3f2a81c09d17 3f2a81c09d17 --probe qk:feature

    Sites that are not given are chosen on each half of the clips and reported on the other. A sign-flip test decides
    (p), a 95 % interval describes.
    """
    from vcorr.analysis.comparison import Question, compare_runs
    from vcorr.cli.views import compare_view
    from vcorr.contract.errors import EXIT_OK
    from vcorr.store.run_search import open_run

    names = tuple(name.strip() for name in (metric or "").split(",") if name.strip())
    question = Question(names, probe or "", sites_a, sites_b)
    found = compare_runs(open_run(run_a), open_run(run_b), question)
    if as_json:
        print_json(compare_view.comparison_dict(found))
    else:
        compare_view.comparison(found, everything=bool(names))
    return EXIT_OK
