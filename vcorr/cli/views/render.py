"""Builds the tables and lines that commands print for people, with rich. Only the views round values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table

from vcorr.cli.views.site_tables import say_findings, say_unscored
from vcorr.cli.views.terminal import cell, console, duration, number, say
from vcorr.contract.noun_counts import say_count

if TYPE_CHECKING:
    from vcorr.bench.clip_speed import ClipSpeed
    from vcorr.bench.executor_speed import ExecutorSpeed
    from vcorr.bench.guidance_cost import GuidanceCost
    from vcorr.bench.overhead import Overhead
    from vcorr.bench.scoring_cost import CommandCost
    from vcorr.bench.tracking_cost import TrackingCost
    from vcorr.cli.diagnosis import Finding
    from vcorr.runner.coordinator import Outcome
    from vcorr.runner.plan import Plan
    from vcorr.stats.summary import Findings, SiteSummary
    from vcorr.store.rundir import RunDirectory

# ---------------------------------------------------------------------------------------------------------- run, score


def outcome(
    done: Outcome, found: Findings, reference: str, videos: Sequence[Path] = (), cost: Mapping[str, Any] | None = None
) -> None:
    """Prints the end of a run: its best sites, the clips without scores, and the folder of the results.

    reference: where the reference tracks come from, in words. cost: of a tracking run, as its record has it.
    """
    out = console()
    say_findings(out, found)
    say_unscored(out, found.unscored, done.clips)
    _say_reference(out, reference)
    clips = f"{done.clips - len(done.failed)} of {done.clips} clips" + (
        f", {done.reused} reused" if done.reused else ""
    )
    device = done.peak_memory_gib["device"]
    memory = "" if device is None else f", with at most {device:.1f} GiB allocated on the device"
    out.print(f"{clips} in {duration(done.seconds)}{memory}.")
    if cost:
        out.print(f"Cost: {say_cost(cost)}.")
    for clip in done.failed[:5]:
        out.print(cell(f"Failed: clip {clip}; the reason is in the error column of its scores."))
    if len(done.failed) > 5:
        out.print(f"… and {len(done.failed) - 5} more failed clips.")
    if videos:
        say(f"Overlays: {videos[0].parent}")
    say(f"Results: {done.run.place}")


def say_cost(cost: Mapping[str, Any]) -> str:
    """Returns what following the points cost, in words."""
    each = cost["seconds_per_point"]
    per_point = "" if each is None else f", {1000 * each:.3g} ms per point"
    return f"{duration(cost['seconds_per_clip'])} per clip{per_point}, over {say_count(cost['clips'], 'clip')}"


def rescoring(run: RunDirectory, clips: int, found: Findings, reference: str) -> None:
    """Prints the end of `vcorr score` for one run. reference: where the reference tracks come from, in words."""
    out = console()
    say_findings(out, found)
    say_unscored(out, found.unscored, clips)
    _say_reference(out, reference)
    out.print(f"{clips} {'clip' if clips == 1 else 'clips'} scored again.")
    say(f"Results: {run.place}")


def _say_reference(out: Console, reference: str) -> None:
    out.print(cell(f"Reference tracks: {reference}."))


def outcome_dict(done: Outcome, found: Findings, sites: Sequence[SiteSummary], plan: Plan) -> dict[str, Any]:
    """Returns what `vcorr run --json` prints."""
    return {
        **done.to_dict(),
        "reference": plan.reference.to_dict(),
        "notes": list(plan.notes),
        **({"cost": done.run.record().get("cost")} if plan.task.at_one_site else {}),
        **scores_dict(found, sites),
    }


def scores_dict(found: Findings, sites: Sequence[SiteSummary] | None = None) -> dict[str, Any]:
    """Returns as plain values: the best sites or why there are none, every site, and the metrics without skill."""
    return {
        "ranked_by": list(found.metrics),
        "ranking_notes": list(found.notes),
        "best": [b.to_dict() for b in found.best],
        "unranked": [one.to_dict() for one in found.unranked],
        "not_scored": dict(found.unscored),
        "without_scores": list(found.unread),
        **({} if sites is None else {"sites": [s.to_dict() for s in sites]}),
        "without_skill": [one.to_dict() for one in found.without_skill],
    }


# --------------------------------------------------------------------------------------------------------------- doctor


def findings(found: Sequence[Finding]) -> RenderableType:
    """Builds what `vcorr doctor` prints."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for f in found:
        table.add_row(cell("ok" if f.ok else "!!", style="green" if f.ok else "red"), cell(f.what), cell(f.detail))
    return table


# ---------------------------------------------------------------------------------------------------------------- bench


def overhead_table(found: Sequence[Overhead]) -> RenderableType:
    """Builds one row per model that `vcorr bench overhead` measured, then a line per model that failed."""
    first = found[0]
    title = f"{first.probes} on {first.device}, {first.dtype}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("video", "tokens", "batch", "layers", "plain ms", "probed ms", "ratio", "plain GiB", "probed GiB"):
        table.add_column(name, justify="right")
    for one in found:
        times = (number(one.plain_ms, 1), number(one.probed_ms, 1), number(one.ratio))
        sizes = (one.size, *(str(count) if count else "–" for count in (one.tokens, one.batch, one.layers)))
        table.add_row(cell(one.model), *sizes, *times, number(one.plain_gib, 1), number(one.probed_gib, 1))
    failed = [cell(f"{one.model}: {one.error}", style="red") for one in found if one.error]
    return Group(table, *failed)


def guidance_cost_table(found: Sequence[GuidanceCost]) -> RenderableType:
    """Builds one row per model that `vcorr bench guidance` measured, then a line per model that failed."""
    first = found[0]
    title = f"guidance {first.guidance} on {first.device}, {first.dtype}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column("model", overflow="fold")
    counts_memory = any(not math.isnan(one.plain_gib) for one in found)
    memory = ("guided GiB", "row GiB", "memory") if counts_memory else ()
    for name in ("layers", "plain ms", "more ms", "guided", "whole pass", "one row more", *memory, "differs"):
        table.add_column(name, justify="right")
    for one in found:
        times = (number(one.plain_ms, 1), number(one.more_ms, 1))
        ratios = (number(each, 3) for each in (one.ratio, one.whole_ratio, one.three_ratio))
        peaks = (number(one.guided_gib, 2), number(one.three_gib, 2), number(one.memory_ratio, 3))
        held = peaks if counts_memory else ()
        layers = ",".join(map(str, one.layers)) or "–"
        difference = "–" if math.isnan(one.difference) else f"{one.difference:.2g}"
        table.add_row(cell(one.model), layers, *times, *ratios, *held, difference)
    failed = [cell(f"{one.model}: {one.error}", style="red") for one in found if one.error]
    return Group(table, *failed)


def executor_speed_table(found: Sequence[ExecutorSpeed]) -> RenderableType:
    """Builds one row per number of processes that `vcorr bench executor` measured."""
    first = found[0]
    title = f"{first.model} on {first.device}, {first.dtype}; {first.clips} clips after loading"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for name in ("processes", "load s", "clips s", "clips per s", "speed-up", "same bytes"):
        table.add_column(name, justify="right")
    for one in found:
        times = (number(one.load_seconds, 1), number(one.seconds, 1), number(one.clips_per_second, 3))
        table.add_row(str(one.workers), *times, number(one.speedup, 2), "yes" if one.same_bytes else "NO")
    return Group(table)


def clip_speed_table(found: Sequence[ClipSpeed]) -> RenderableType:
    """Builds one row per way of running clips that `vcorr bench clips` measured, or a line with what failed."""
    first = found[0]
    title = (
        f"{first.model} on {first.device}, {first.dtype}; {first.levels} noise levels of {first.size}, {first.probes}"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column("way")
    for name in ("clip s", "CPU s", "clips per h", "ratio", "CPU ratio", "peak GiB"):
        table.add_column(name, justify="right")
    for one in found:
        times = (number(one.seconds, 2), number(one.cpu_seconds, 2), number(one.clips_per_hour, 1))
        table.add_row(one.way, *times, number(one.ratio, 3), number(one.cpu_ratio, 3), number(one.gib, 1))
    failed = [cell(f"{one.model}: {one.error}", style="red") for one in found if one.error]
    return Group(table, *failed) if not failed else Group(*failed)


def tracking_cost_table(found: Sequence[TrackingCost]) -> RenderableType:
    """Builds one row per model that `vcorr bench track` measured, then a line per model that failed."""
    first = found[0]
    title = f"tracking with {first.probe} on {first.device}, {first.dtype}"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    table.add_column("model", overflow="fold")
    for name in ("frames", "passes", "points", "layers", "network ms", "tracking ms", "ratio"):
        table.add_column(name, justify="right")
    for one in found:
        layers = ",".join(map(str, one.layers)) or "–"
        counts = (str(one.frames or "–"), str(one.passes or "–"), str(one.points or "–"), layers)
        times = (number(one.network_ms, 1), number(one.track_ms, 1))
        table.add_row(cell(one.model), *counts, *times, number(one.ratio, 3))
    failed = [cell(f"{one.model}: {one.error}", style="red") for one in found if one.error]
    return Group(table, *failed)


def scoring_cost_table(found: Sequence[CommandCost], clips: int, sites: int) -> RenderableType:
    """Builds one row per command that `vcorr bench score` measured, on runs of so many clips and sites."""
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, title=f"runs of {clips} clips x {sites} sites", title_justify="left"
    )
    table.add_column("command")
    for name in ("rows", "seconds", "CPU seconds", "rows per second", "peak GiB"):
        table.add_column(name, justify="right")
    for one in found:
        times = (number(one.seconds, 1), number(one.cpu_seconds, 1))
        table.add_row(one.command, f"{one.rows:,}", *times, f"{one.rows_per_second:,.0f}", number(one.peak_gib, 2))
    return table
