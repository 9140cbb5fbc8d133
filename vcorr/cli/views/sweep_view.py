"""Prints what a sweep would take, and what its runs found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from vcorr.cli.views import plan_view
from vcorr.cli.views.render import scores_dict
from vcorr.cli.views.site_tables import best_cells, warn_random
from vcorr.cli.views.table_width import Column, fit_table
from vcorr.cli.views.terminal import DASH, cell, console, duration, say, size
from vcorr.contract.noun_counts import say_count
from vcorr.contract.variants import DEFAULT_VARIANT
from vcorr.contract.visible_text import escape
from vcorr.store.remote.addresses import place_of

if TYPE_CHECKING:
    from vcorr.sweeps.expansion import SweepRun
    from vcorr.sweeps.sweep_estimate import EstimatedRun, SweepEstimate, Total
    from vcorr.sweeps.sweep_execution import SweepResult

# -------------------------------------------------------------------------------------------------------------- results

_COLUMNS = (
    Column("run"),
    Column("model", is_name=True),
    Column("data", is_name=True, gives_way=5),
    Column("settings", is_name=True, gives_way=6),
    Column("metric", is_name=True, gives_way=3),
    Column("probe", is_name=True),
    Column("variant", is_name=True),
    Column("site", is_name=True),
    Column("head"),
    Column("value"),
    Column("floor", gives_way=1),
    Column("ceiling", gives_way=1),
    Column("skill"),
    Column("95 % interval", gives_way=2),
    Column("clips", gives_way=0),
    Column("folder", is_name=True, gives_way=4),
)


def say_results(results: Sequence[SweepResult], out: Path, board: Path | None, seconds: float) -> None:
    """Prints one table of all runs, then what failed, and where the results are."""
    to = console()
    cells = [row for result in results for row in _rows(result)]
    metrics = {str(row["metric"]) for row in cells} - {DASH}
    metric = metrics.pop() if len(metrics) == 1 else ""
    usual = {"variant": DEFAULT_VARIANT.text, "head": "mean", "settings": "", "metric": metric}
    columns = [c for c in _COLUMNS if c.name not in usual or any(_says(row, c.name, usual[c.name]) for row in cells)]
    title = f"Best sites by {metric}" if metric else "Best sites"
    to.print(fit_table(to, title, columns, [[row[column.name] for column in columns] for row in cells]))
    to.print(cell(f"{_EXPLAINED} {place_of(out)}/FOLDER", style="dim"), soft_wrap=True)
    warning = warn_random([best.summary for result in results for best in _best(result)])
    if warning.plain:
        to.print(warning)
    for line in _say_failures(results):
        to.print(line, soft_wrap=True)
    whole = sum(result.is_whole for result in results)
    to.print(f"{whole} of {say_count(len(results), 'run')} complete in {duration(seconds)}.")
    say(f"Results: {place_of(out)}")
    if board is not None:
        say(f"Board: {board}")


_EXPLAINED = "skill: 0 if nothing moves, 1 for the best prediction the tokens allow. More about a row: vcorr show run"


def _says(row: Mapping[str, Text | str], name: str, usual: str) -> bool:
    return str(row[name]) not in (usual, DASH)


def _best(result: SweepResult) -> Sequence[Any]:
    return () if result.findings is None else result.findings.best


def _rows(result: SweepResult) -> Iterator[dict[str, Text | str]]:
    """Yields a row per best site, or one of dashes."""
    row: dict[str, Text | str] = {column.name: DASH for column in _COLUMNS}
    row |= {
        "run": str(result.run.number),
        "model": cell(result.model),
        "data": cell(result.data),
        "settings": cell(_describe_settings(result.run)),
    }
    if result.outcome is not None:
        row["folder"] = cell(result.outcome.run.run_id)
    if result.failure is not None:
        row["skill"] = cell("failed", style="red")
    if not _best(result):
        yield row
    for best in _best(result):
        yield {**row, **{name: value for name, value in best_cells(best).items() if name in row}}


def _describe_settings(run: SweepRun) -> str:
    """Returns the settings of a run that no other column shows. A row names one probe, and a run may have several."""
    several = "," in run.varied.get("probe", "")
    return run.describe(("model", "data") if several else ("model", "data", "probe"))


def _say_failures(results: Sequence[SweepResult]) -> Iterator[Text]:
    """Yields a line per run that failed, wholly or in some clips."""
    for result in results:
        run = f"run {result.run.number} ({result.run.label})"
        if result.failure is not None:
            yield cell(f"Failed: {run}: ", style="red") + Text(escape(result.failure.text))
        elif result.outcome is not None and result.outcome.failed:
            failed = result.outcome.failed
            count = f"{len(failed)} of {say_count(result.outcome.clips, 'clip')}"
            named = ", ".join(failed[:_CLIPS_NAMED]) + (" …" if len(failed) > _CLIPS_NAMED else "")
            yield cell(f"Failed: {run}: ", style="red") + cell(
                f"{count} ({named}); the reason is in the error column of {result.outcome.run.place}/scores."
            )


_CLIPS_NAMED = 3


def results_dict(
    results: Sequence[SweepResult], file: Path, out: Path, board: Path | None, seconds: float
) -> dict[str, Any]:
    """Returns what `vcorr sweep --json` prints."""
    return {
        "sweep": str(file),
        "out": place_of(out),
        "board": None if board is None else str(board),
        "seconds": round(seconds, 3),
        "failed": [result.run.number for result in results if not result.is_whole],
        "runs": [_result_dict(result) for result in results],
    }


def _result_dict(result: SweepResult) -> dict[str, Any]:
    done, found = result.outcome, result.findings
    facts = {**_name(result.run), "model": result.model, "data": result.data}
    if done is None or found is None:
        return {**facts, "status": "failed", "error": "" if result.failure is None else result.failure.text}
    return {
        **facts,
        **done.to_dict(),
        **scores_dict(found),
    }


def _name(run: SweepRun) -> dict[str, Any]:
    return {"number": run.number, "label": run.label, "settings": dict(run.settings)}


# -------------------------------------------------------------------------------------------------------------- dry run

_ESTIMATES = (
    Column("run"),
    Column("settings", is_name=True),
    Column("clips"),
    Column("done", gives_way=0),
    Column("passes", gives_way=1),
    Column("device time"),
    Column("memory"),
    Column("disk"),
)


def say_estimate(found: SweepEstimate) -> None:
    """Prints what each run would take, the sums, what is missing, and what the figures are."""
    to = console()
    rows = [*map(_estimate_row, found.runs), None, _total_row(found)]
    to.print(fit_table(to, "What the runs would take (estimates)", _ESTIMATES, rows))
    for line in _explain_estimates(found):
        to.print(cell(line, style="dim"), soft_wrap=True)
    for missing in _say_missing(found):
        to.print()
        to.print(missing, soft_wrap=True)


def _estimate_row(one: EstimatedRun) -> list[Text | str]:
    found = one.estimate
    known = found.clips is not None
    return [
        str(one.run.number),
        cell(one.run.label),
        str(found.clips) if known else DASH,
        str(one.kept),
        str(found.forward_passes) if known else DASH,
        _time(found.device_seconds if known else None),
        _size(found.memory_bytes),
        _size(found.disk_bytes if known else None),
    ]


def _total_row(found: SweepEstimate) -> list[Text | str]:
    clips = sum(one.estimate.clips or 0 for one in found.runs)
    kept, passes = sum(one.kept for one in found.runs), found.passes.value
    named = cell("all; memory: the most of one run", style="bold")
    shown = (str(clips), str(kept), DASH if passes is None else str(int(passes)))
    sums = (_time(found.device_seconds.value), _size(found.memory_bytes), _size(found.disk_bytes.value))
    return ["", named, *shown, *sums]


def _time(seconds: float | None) -> str:
    return DASH if seconds is None else duration(seconds)


def _size(count: float | None) -> str:
    return DASH if count is None else size(count)


def _explain_estimates(found: SweepEstimate) -> Iterator[str]:
    devices = ", ".join(dict.fromkeys(one.plan.hardware.name for one in found.runs))
    yield (
        f"device time: at least, of all devices together ({devices}): forward passes of the denoiser at the speed of a "
        "matrix product, measured just now. Autoencoder, probes, tracks and scores come on top."
    )
    yield "memory: of the denoiser and one pass. disk: at the largest share that compression left in measured runs."
    for name, total in (("device time", found.device_seconds), ("disk", found.disk_bytes)):
        if total.unknown:
            yield f"{name}: not known for {say_count(total.unknown, 'run')}, which the sum leaves out."
    if any(one.kept for one in found.runs):
        yield "done: clips whose predictions are stored. They are not computed again, and the sums still count them."


def _say_missing(found: SweepEstimate) -> Iterator[Text]:
    """Yields what is missing, each thing once with its runs."""
    runs: dict[tuple[str, str, str], list[int]] = {}
    for one in found.runs:
        for gap in one.plan.missing:
            runs.setdefault((gap.kind, gap.message, gap.hint), []).append(one.run.number)
    for (kind, message, hint), numbers in runs.items():
        named = f"{'run' if len(numbers) == 1 else 'runs'} {', '.join(map(str, numbers))}"
        yield cell(f"Missing ({kind}) for {named}: {message}", style="yellow") + Text(escape(f"\n{hint}".rstrip()))


def estimate_dict(found: SweepEstimate, file: Path, out: Path) -> dict[str, Any]:
    """Returns what `vcorr sweep --dry-run --json` prints."""
    runs = [{**_name(one.run), **plan_view.plan_dict(one.plan, one.estimate), "kept": one.kept} for one in found.runs]
    totals = {
        "device_seconds": _total_dict(found.device_seconds),
        "disk_bytes": _total_dict(found.disk_bytes),
        "forward_passes": _total_dict(found.passes),
        "memory_bytes": None if found.memory_bytes is None else round(found.memory_bytes),
    }
    return {"sweep": str(file), "out": place_of(out), "runs": runs, "total": totals}


def _total_dict(total: Total) -> dict[str, Any]:
    return {"value": None if total.value is None else round(total.value, 1), "unknown": total.unknown}
