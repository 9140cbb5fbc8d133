"""Builds the tables and lines that commands print for people, with rich. Only the views round values."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from vcorr.cli.views.table_width import Column, fit_table
from vcorr.contract.records import is_random
from vcorr.contract.variants import DEFAULT_VARIANT

if TYPE_CHECKING:
    from vcorr.bench.overhead import Overhead
    from vcorr.cli.diagnosis import Finding
    from vcorr.runner.coordinator import Outcome
    from vcorr.runner.plan import Plan
    from vcorr.stats.summary import BestSite, Extremes, Findings, SiteSummary
    from vcorr.store.rundir import RunDirectory

PIPE_WIDTH = 120
"""Width in characters when the output is not a terminal; rich would assume 80, too narrow for the tables."""


def console(*, stderr: bool = False) -> Console:
    """Returns a console that writes plain text when its stream is not a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else PIPE_WIDTH, highlight=False)


def number(value: float, digits: int = 3) -> str:
    """Formats a value for a table; NaN becomes a dash."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def size(count: float) -> str:
    """Formats a number of bytes with a decimal unit (kB, MB, GB, TB)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """Formats seconds as seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


# ---------------------------------------------------------------------------------------------------------- run, score


def outcome(done: Outcome, found: Findings, reference: str, videos: Sequence[Path] = ()) -> None:
    """Prints the end of a run: its best sites, the clips that failed, and the folder of the results.

    reference: where the reference tracks come from, in words.
    """
    out = console()
    _say_findings(out, found)
    _say_reference(out, reference)
    clips = f"{done.clips - len(done.failed)} of {done.clips} clips" + (
        f", {done.reused} reused" if done.reused else ""
    )
    device = done.peak_memory_gib["device"]
    memory = "" if device is None else f", with at most {device:.1f} GiB allocated on the device"
    out.print(f"{clips} in {duration(done.seconds)}{memory}.")
    for clip in done.failed[:5]:
        out.print(Text(f"Failed: clip {clip}; the reason is in the error column of its scores."))
    if len(done.failed) > 5:
        out.print(f"… and {len(done.failed) - 5} more failed clips.")
    if videos:
        _say_path("Overlays", videos[0].parent)
    _say_path("Results", done.run.path)


def rescoring(run: RunDirectory, clips: int, found: Findings, reference: str) -> None:
    """Prints the end of `vcorr score` for one run. reference: where the reference tracks come from, in words."""
    out = console()
    _say_findings(out, found)
    _say_reference(out, reference)
    out.print(f"{clips} {'clip' if clips == 1 else 'clips'} scored again.")
    _say_path("Results", run.path)


def _say_findings(out: Console, found: Findings) -> None:
    if found.best:
        out.print(best_table(found.best))
    if found.unranked:
        out.print(Text(found.unranked))
    if found.without_skill:
        out.print(extremes_table(found.without_skill))


def _say_reference(out: Console, reference: str) -> None:
    out.print(Text(f"Reference tracks: {reference}."))


def extremes_table(found: Sequence[Extremes]) -> RenderableType:
    """Builds one row per metric that has no skill: where it is largest and where it is smallest."""
    columns = (
        Column("metric", is_name=True),
        Column("probe", is_name=True, gives_way=2),
        Column("largest"),
        Column("at layer"),
        Column("step"),
        Column("smallest"),
        Column("at layer"),
        Column("step"),
        Column("sites", gives_way=0),
        Column("clips", gives_way=1),
    )
    table = fit_table(console(), "Without floor and ceiling", columns, [_extremes_cells(one) for one in found])
    note = "Means over all clips. These metrics have no skill, so they choose no site and no clips are held out."
    warning = _random_warning([one.largest for one in found])
    return Group(table, Text(note, style="dim"), *([warning] if warning else []))


def _extremes_cells(found: Extremes) -> tuple[str, ...]:
    large, small = found.largest, found.smallest
    metric = large.metric if large.variant_text == DEFAULT_VARIANT.text else f"{large.metric} ({large.variant_text})"
    places = [(number(s.value), _index(s.layer), _index(s.step)) for s in (large, small)]
    return (metric, large.probe, *places[0], *places[1], str(found.sites), str(large.clips))


def best_table(best: Sequence[BestSite]) -> RenderableType:
    """Builds one row per probe: its best site with value, floor, ceiling, skill and interval."""
    # the column says nothing when every row has the default variant
    variants = any(found.summary.variant_text != DEFAULT_VARIANT.text for found in best)
    columns = [column for column in _BEST_COLUMNS if variants or column.name != "variant"]
    cells = [_best_cells(found) for found in best]
    rows = [[row[column.name] for column in columns] for row in cells]
    table = fit_table(console(), f"Best sites by {best[0].summary.metric}", columns, rows)
    return Group(table, Text(_how_chosen(best), style="dim"), _random_warning([found.summary for found in best]))


_BEST_COLUMNS = (
    Column("probe", is_name=True),
    Column("variant", is_name=True),
    Column("layer"),
    Column("step"),
    Column("noise", gives_way=0),
    Column("head", gives_way=4),
    Column("value"),
    Column("floor", gives_way=1),
    Column("ceiling", gives_way=1),
    Column("skill"),
    Column("95 % interval", gives_way=5),
    Column("regret", gives_way=3),
    Column("clips"),
)


def _best_cells(found: BestSite) -> dict[str, Text | str]:
    s = found.summary
    return {
        "probe": Text(s.probe),
        "variant": Text(s.variant_text.replace("+", "\n+")),
        "layer": _index(s.layer),
        "step": _index(s.step),
        "noise": number(s.noise, 2),
        "head": "mean" if s.head < 0 else str(s.head),
        "value": number(s.value),
        "floor": number(s.floor),
        "ceiling": number(s.ceiling),
        "skill": Text(number(s.skill), style="bold"),
        "95 % interval": f"{number(s.skill_low)} … {number(s.skill_high)}",
        "regret": number(found.regret),
        "clips": str(s.clips),
    }


def outcome_dict(done: Outcome, found: Findings, sites: Sequence[SiteSummary], plan: Plan) -> dict[str, Any]:
    """Returns what `vcorr run --json` prints."""
    return {
        "run": done.run.run_id,
        "path": str(done.run.path),
        "status": done.status,
        "clips": done.clips,
        "reused": done.reused,
        "failed": list(done.failed),
        "seconds": round(done.seconds, 3),
        "peak_memory_gib": dict(done.peak_memory_gib),
        "reference": plan.reference.to_dict(),
        "notes": list(plan.notes),
        **scores_dict(found, sites),
    }


def scores_dict(found: Findings, sites: Sequence[SiteSummary]) -> dict[str, Any]:
    """Returns as plain values: the best sites or why there are none, every site, and the metrics without skill."""
    return {
        "best": [b.to_dict() for b in found.best],
        "unranked": found.unranked,
        "sites": [s.to_dict() for s in sites],
        "without_skill": [one.to_dict() for one in found.without_skill],
    }


def _how_chosen(best: Sequence[BestSite]) -> str:
    from vcorr.stats.summary import MIN_CLIPS_FOR_HALVES

    lines = [
        "skill = (value - floor) / (ceiling - floor); floor: nothing moves; ceiling: best prediction the tokens allow."
    ]
    single = max((b.candidates for b in best if b.heads == "single"), default=0)
    if single:
        means = max((b.candidates for b in best if b.heads == "mean"), default=0)
        lines.insert(
            0, f"Chosen separately: the best of {means} means over heads, and the best of {single} single heads."
        )
    halves = max(b.chosen_on for b in best)
    if halves:
        lines.insert(
            0,
            f"Sites chosen on {halves} clips, reported on the others; "
            "regret: how much more skill the best site there has.",
        )
    if any(not b.chosen_on and b.candidates > 1 for b in best):
        lines.insert(
            0,
            f"Fewer than {MIN_CLIPS_FOR_HALVES} clips: sites are chosen and reported on the same clips, "
            "so their scores tend to be too high.",
        )
    return "\n".join(lines)


def _random_warning(shown: Sequence[SiteSummary]) -> Text:
    if not any(is_random(site.weights) for site in shown):
        return Text("")
    return Text(
        "Random weights: these numbers say nothing about the released model and never reach a board.", style="yellow"
    )


def _index(value: int) -> str:
    return "–" if value < 0 else str(value)


def _say_path(label: str, path: Any) -> None:
    # no wrapping, so that the path can be copied in one piece
    console().print(Text(f"{label}: {path}"), soft_wrap=True)


# ---------------------------------------------------------------------------------------------------------- list, show


def listing(kind: str, rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Builds the table of one kind of entries, or of the plugins."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=kind, title_justify="left", title_style="bold")
    if kind == "plugins":
        for name in ("plugin", "version", "state", "provides"):
            table.add_column(name, overflow="fold")
        for row in rows:
            provides = Text("\n".join(row["reasons"]) or f"{len(row['provides'])} entries")
            table.add_row(Text(_plugin_name(row)), Text(row["version"]), _state(row["state"]), provides)
        return table
    licensed = any("licence" in row for row in rows)
    for name in ("name", "summary", *(["licence"] if licensed else []), "plugin"):
        table.add_column(name, overflow="fold", no_wrap=name in ("name", "plugin"))
    for row in rows:
        licence = [Text(row["licence"])] if licensed else []
        table.add_row(Text(row["name"], style="bold"), Text(row["summary"]), *licence, Text(row["plugin"], style="dim"))
    return table


def facts(values: Mapping[str, Any]) -> RenderableType:
    """Builds indented lines from nested facts."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in values.items():
        if isinstance(value, Mapping):
            table.add_row(Text(key, style="bold"), "")
            for inner, v in value.items():
                table.add_row(Text(f"  {inner}"), _fact(v))
        else:
            table.add_row(Text(key), _fact(value))
    return table


def _fact(value: Any) -> Text:
    if isinstance(value, list) and any(isinstance(v, Mapping) for v in value):
        return Text("\n".join(_inline(v) for v in value))
    return Text(_inline(value))


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_inline(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(_inline(v) for v in value)
    return str(value)


def _plugin_name(row: Mapping[str, Any]) -> str:
    same = row["name"] == row["distribution"]
    return str(row["distribution"]) if same else f"{row['distribution']} ({row['name']})"


def _state(state: str) -> Text:
    return Text(state, style={"ok": "green", "warning": "yellow", "broken": "red"}.get(state, "dim"))


# --------------------------------------------------------------------------------------------------------------- doctor


def findings(found: Sequence[Finding]) -> RenderableType:
    """Builds what `vcorr doctor` prints."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for f in found:
        table.add_row(Text("ok" if f.ok else "!!", style="green" if f.ok else "red"), Text(f.what), Text(f.detail))
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
        table.add_row(Text(one.model), *sizes, *times, number(one.plain_gib, 1), number(one.probed_gib, 1))
    failed = [Text(f"{one.model}: {one.error}", style="red") for one in found if one.error]
    return Group(table, *failed)
