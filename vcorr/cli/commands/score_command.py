"""Defines `vcorr score`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from vcorr.cli.commands import run_flags
from vcorr.cli.folder_type import RESULTS
from vcorr.cli.views.terminal import print_json

if TYPE_CHECKING:
    from vcorr.runner.rescore import Rescored
    from vcorr.store.rundir import RunDirectory

_KEYS = ("metrics", "metric", "variant")
"""Parts of a spec that can still change after the predictions are stored."""


@click.command(short_help="Score a run's stored predictions again; no model needed.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=RESULTS)
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="e.g. --set metrics=pck")
@run_flags.RESULTS_AS_JSON
def score(runs: tuple[Path, ...], assignments: tuple[str, ...], as_json: bool) -> int:
    """Score a run's stored predictions again, with other metrics, thresholds or variants; no model needed.

    A run is named by its folder, or by its id or the beginning of it (vcorr list runs).

    \b
    For example:
      vcorr score 3f2a81c09d17 --set 'metric.thresholds=[0.5,1,2]'
      vcorr score 3f2a81c09d17 --set variant=corrected,corrected+time_map=stretched
    """
    from vcorr.contract.errors import EXIT_OK, EXIT_SOME_FAILED
    from vcorr.store.run_search import locate_run

    found: list[dict[str, Any]] = []
    any_failed = False
    for path in runs:
        run = locate_run(path)
        rescored = _score_again(run, assignments)
        any_failed = any_failed or bool(rescored.failed)
        _report(run, rescored.clips, found if as_json else None)
    if as_json:
        print_json(found)
    return EXIT_SOME_FAILED if any_failed else EXIT_OK


def _score_again(run: RunDirectory, assignments: Sequence[str]) -> Rescored:
    """Scores a run again, and says what was mended and what failed."""
    from vcorr.cli.views.terminal import say
    from vcorr.plugins.registry import installed
    from vcorr.runner.rescore import rescore
    from vcorr.runner.spec import build_spec
    from vcorr.store.recovery import heal_record

    if healed := heal_record(run):
        say(healed, stderr=True)
    # without a --set, a run keeps the variants that it was made with
    spec = build_spec({"variant": _variant_of(run.record())}, assignments=assignments)
    _check_keys(assignments)
    command = ["vcorr", "score", run.place, *(word for text in assignments for word in ("--set", text))]
    rescored = rescore(run, installed(), spec, command)
    _say_failures(rescored)
    return rescored


def _report(run: RunDirectory, clips: int, as_json: list[dict[str, Any]] | None) -> None:
    """Prints the best sites of a run that was scored, or adds its facts and sites to `as_json`."""
    from vcorr.cli.views import render
    from vcorr.contract.metric_columns import lower_is_better, ranking_columns
    from vcorr.runner.reference import Reference
    from vcorr.stats.series import gather
    from vcorr.stats.summary import Findings, summarise_each
    from vcorr.store.record import probe_names

    record, scores = run.record(), gather(run.iter_shards("scores"))
    lower, reference = lower_is_better(record), Reference.of_record(record)
    findings = Findings.of(scores, ranking_columns(record), lower, probe_names(record))
    if as_json is None:
        render.rescoring(run, clips, findings, reference.text)
        return
    sites = summarise_each(scores, findings.metrics, lower)
    facts = {"run": run.place, "clips": clips, "reference": reference.to_dict()}
    as_json.append({**facts, **render.scores_dict(findings, sites)})


def _say_failures(rescored: Rescored) -> None:
    """Prints notes, and why a metric failed for a clip, to standard error."""
    from vcorr.cli.views.terminal import say

    for line in (*rescored.notes, *(f"{name} failed: {error}" for name, error in rescored.failed.items())):
        say(line, stderr=True)


def _variant_of(record: Mapping[str, Any]) -> str | None:
    spec = record.get("spec")
    return spec.get("variant") if isinstance(spec, dict) else None


def _hint_for(key: str, value: str) -> str:
    if key == "track.threshold":  # stored tracks keep their confidence, so another threshold needs no model
        return f"Another threshold on the stored tracks: --set metric.visible_above={value}"
    return "vcorr score takes metrics, metric.KEY and variant. For everything else: vcorr run"


def _check_keys(assignments: Iterable[str]) -> None:
    from vcorr.contract.errors import UsageError

    for assignment in assignments:
        key = assignment.partition("=")[0].strip()
        if key.partition(".")[0] not in _KEYS:
            raise UsageError(
                f"--set {key} cannot change predictions that are already stored; run.json holds the value they used.",
                hint=_hint_for(key, assignment.partition("=")[2]),
            )
