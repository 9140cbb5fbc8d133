"""`vcorr score`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Score a run's stored predictions again; no model needed.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="e.g. --set metrics=pck")
@click.option("--json", "as_json", is_flag=True, help="Results as JSON on standard output.")
def score(runs: tuple[Path, ...], assignments: tuple[str, ...], as_json: bool) -> int:
    """Score a run's stored predictions again, with other metrics, thresholds or variants; no model needed.

    \b
    For example:
      vcorr score runs/3f2a81c09d17 --set metric.thresholds=[0.5,1,2]
      vcorr score runs/3f2a81c09d17 --set variant=corrected,corrected+time_map=stretched
    """
    import json

    from vcorr.cli import render
    from vcorr.errors import EXIT_OK
    from vcorr.registry import installed
    from vcorr.spec import build_spec
    from vcorr.stages.run import rescore
    from vcorr.stats.summary import best_sites, summarise
    from vcorr.store.rundir import RunDirectory

    found = []
    for path in runs:
        run = RunDirectory.open(path)
        # a run of both variants stays one of both, unless told otherwise
        spec = build_spec({"variant": run.record().get("spec", {}).get("variant")}, assignments=assignments)
        clips = rescore(run, installed(), spec)
        scores = run.read("scores")
        best = best_sites(scores)
        if as_json:
            found.append({"run": str(path), "clips": clips, **render.scores_dict(best, summarise(scores))})
        else:
            render.scored(run, clips, best)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    return EXIT_OK
