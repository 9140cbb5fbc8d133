"""Builds what `vcorr compare` prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from vcorr.cli.views.table_notes import (
    LATENT_RULE,
    SITE_RULE,
    Remark,
    gather_remarks,
    interval_text,
    is_of_latents,
    say_no_interval,
    with_sign,
)
from vcorr.cli.views.table_width import Column, Row, fit_table
from vcorr.cli.views.terminal import DASH, cell, console, number
from vcorr.contract.metric_columns import AT_ONE_THRESHOLD
from vcorr.contract.noun_counts import say_count

if TYPE_CHECKING:
    from vcorr.analysis.comparison import Comparison
    from vcorr.analysis.stored_scores import RunFacts
    from vcorr.stats.paired import Difference, PairedRow, Side

_CLIPS_NAMED = 4
_WORTH_SAYING = 0.01
"""The smallest possible p is mentioned if it is larger than this."""


def comparison(found: Comparison, *, everything: bool = True) -> None:
    """Prints the two runs, their settings that differ, the differences in score, what was left out, and notes.

    everything: with the scores at each single threshold next to their mean.
    """
    out = console()
    rows = [row for row in found.rows if everything or not AT_ONE_THRESHOLD.fullmatch(row.metric)] or found.rows
    out.print(_runs_table(found))
    out.print(_rows_table(rows))
    lower = [f"Lower is better: {', '.join(found.lower_is_better)}."] if found.lower_is_better else []
    for line in [*lower, *_explain_clips(found), *_explain(rows)]:
        out.print(cell(line, style="dim"))
    if len(rows) < len(found.rows):
        out.print(cell("Not shown: the single thresholds; --metric 'pts_within_*,jaccard_*' shows them.", style="dim"))
    for line in _say_left_out(found):
        out.print(cell(line, style="dim"))
    for note in found.notes:
        out.print(cell(note, style="yellow"))


def _say_left_out(found: Comparison) -> list[str]:
    """Returns a sentence per probe and reason, with all metrics that it holds for."""
    metrics: dict[tuple[str, str], list[str]] = {}
    for left in found.left_out:
        metrics.setdefault((left.probe, left.reason), []).append(left.metric)
    return [f"Left out: {', '.join(names)}, {probe}: {reason}." for (probe, reason), names in metrics.items()]


def comparison_dict(found: Comparison) -> dict[str, Any]:
    """Returns what `vcorr compare --json` prints."""
    return {
        "a": _run_dict(found, found.a),
        "b": _run_dict(found, found.b),
        "settings": {name: {"a": a, "b": b} for name, (a, b) in found.settings.items()},
        "clips": list(found.clips),
        "rows": [row.to_dict() for row in found.rows],
        "left_out": [{name: getattr(left, name) for name in ("metric", "probe", "reason")} for left in found.left_out],
        "notes": list(found.notes),
        "lower_is_better": list(found.lower_is_better),
    }


def _run_dict(found: Comparison, side: RunFacts) -> dict[str, Any]:
    return {
        "path": side.path,
        "run": side.run,
        "status": side.status,
        "model": side.model,
        "weights": side.weights,
        "random_weights": side.is_random,
        "only_here": list(found.only_in(side)),
        "failed": list(side.failed),
        "without_tracks": list(side.untracked),
    }


def _runs_table(found: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("", "A", "B"):
        table.add_column(name, overflow="fold", style="dim" if not name else None)
    sides = (found.a, found.b)
    table.add_row("run", *(cell(side.run) for side in sides))
    table.add_row("model", *(cell(side.model + (" (random weights)" if side.is_random else "")) for side in sides))
    table.add_row("clips in common", *(str(len(found.clips)) for _ in sides))
    for name, clips in (
        ("only here", [found.only_in(side) for side in sides]),
        ("failed", [side.failed for side in sides]),
        ("without tracks", [side.untracked for side in sides]),
    ):
        if any(clips):
            table.add_row(name, *(cell(_clips(ids)) for ids in clips))
    for name, pair in _worth_showing(found.settings):
        table.add_row(cell(name), *(cell(_setting(value)) for value in pair))
    return table


def _worth_showing(settings: dict[str, tuple[Any, Any]]) -> list[tuple[str, tuple[Any, Any]]]:
    """Drops options of two different models, and options of a probe that only one run has; --json has them all."""
    other_model = "model.name" in settings
    return [
        (name, pair)
        for name, pair in settings.items()
        if not (other_model and name.startswith("model.")) and not (name.startswith("probes") and None in pair)
    ]


def _clips(ids: Sequence[str]) -> str:
    if not ids:
        return "0"
    return f"{len(ids)}: {', '.join(ids[:_CLIPS_NAMED])}" + (" …" if len(ids) > _CLIPS_NAMED else "")


def _setting(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return DASH if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _rows_table(rows: Sequence[PairedRow]) -> RenderableType:
    """Builds a block per metric, with a line per comparison for values, and lines for gains and skills if any."""
    columns = [
        Column("metric, probe", is_name=True),
        Column("site A", is_name=True),
        Column("site B", is_name=True),
        Column(""),
        Column("A", gives_way=2),
        Column("B", gives_way=2),
        Column("A - B"),
        Column("95 % interval", gives_way=3),
        Column("p", gives_way=1 if _has_families(rows) else None),
        *([Column("p, Holm")] if _has_families(rows) else []),
        Column("clips", gives_way=0),
    ]
    cells: list[Row] = []
    for metric, group in groupby(rows, key=_metric):
        cells.append((cell(metric, style="bold"), *[""] * (len(columns) - 1)))
        for row in group:
            cells += _lines(row, _has_families(rows))
    return fit_table(console(), "A - B on the same clips", columns, cells)


def _lines(row: PairedRow, families: bool) -> Iterator[Row]:
    names = (f"  {_probes(row)}", _sites(row.a), _sites(row.b))
    yield (*map(Text, names), "value", *_numbers(row.a.value, row.b.value, row.difference, families), str(row.clips))
    # at ceilings of 1, skill is gain
    same = (row.a.gain, row.b.gain) == (row.a.skill, row.b.skill)
    for name in ("gain",) if same else ("gain", "skill"):
        difference: Difference = getattr(row, f"{name}_difference")
        if not math.isnan(difference.estimate):
            numbers = _numbers(getattr(row.a, name), getattr(row.b, name), difference, families)
            yield ("", "", "", name, *numbers, "")


def _numbers(a: float, b: float, difference: Difference, families: bool) -> list[Text]:
    from vcorr.stats.sign_flips import show_p

    # a difference that the test finds is printed in bold
    style = "bold" if difference.is_significant else ""
    interval = interval_text(difference.low, difference.high, signed=True)
    shown = [number(a), number(b), with_sign(difference.estimate), interval]
    tests = [difference.p, difference.p_holm] if families else [difference.p]
    return [cell(text, style=style if i == 2 else "") for i, text in enumerate([*shown, *map(show_p, tests)])]


def _has_families(rows: Sequence[PairedRow]) -> bool:
    return any(row.family > 1 for row in rows)


def _metric(row: PairedRow) -> str:
    return row.metric if row.variant == "corrected" else f"{row.metric} ({row.variant})"


def _probes(row: PairedRow) -> str:
    return row.a.probe if row.a.probe == row.b.probe else f"{row.a.probe}:{row.b.probe}"


def _sites(side: Side) -> str:
    return ", ".join(site.site or DASH for site in side.sites)


# --------------------------------------------------------------------------------------------------------------- notes


def _explain_clips(found: Comparison) -> Iterator[str]:
    """Yields a sentence if the runs do not have the same clips, which the table of the runs names."""
    if any(found.only_in(side) for side in (found.a, found.b)):
        yield (
            f"All numbers are over the {len(found.clips)} clips in common. Clips that only one run has, or that failed "
            "in the other, count for neither."
        )


def _explain(rows: Sequence[PairedRow]) -> Iterator[str]:
    """Yields one sentence per thing in the table that needs one."""
    yield SITE_RULE
    if any(is_of_latents(site) for row in rows for side in (row.a, row.b) for site in side.sites):
        yield LATENT_RULE
    if {"mean", "single"} <= {row.heads for row in rows}:
        yield "Means over heads and single heads are chosen separately, and each kind has rows of its own."
    yield from _explain_choice(rows)
    yield from _explain_tests(rows)
    for say in (_say_power, _say_no_interval):
        yield from _gather(rows, say)
    if any(row.not_scored for row in rows):
        left = max(row.not_scored for row in rows)
        yield f"Rows leave out clips that one of the runs could not score: at most {left} per row."


def _explain_choice(rows: Sequence[PairedRow]) -> Iterator[str]:
    chosen = [side for row in rows for side in (row.a, row.b) if side.chosen_on]
    if not chosen:
        return
    columns = ", ".join(dict.fromkeys(side.chosen_by for side in chosen))
    yield (
        f"Sites that were not given are chosen by {columns}: each half of the clips is reported at the site that the "
        "other half chose. Two sites: the halves chose different ones."
    )
    regrets = [side.regret for side in chosen if not math.isnan(side.regret)]
    if regrets:
        lucky = " Under 0: by luck." if max(regrets) < 0 else ""
        yield f"Regret: choosing on half of the clips costs at most {number(max(regrets))} of skill.{lucky}"
    for say in (_say_passed_over, _say_tied):
        yield from _gather(rows, say)


def _explain_tests(rows: Sequence[PairedRow]) -> Iterator[str]:
    yield (
        "p: two-sided sign-flip test of the differences per clip, approximate for skill. "
        "The test decides, the interval describes."
    )
    sizes = sorted({row.family for row in rows})
    if sizes[-1] > 1:
        count = str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        yield f"p, Holm: corrected for the {count} rows of one metric and variant."


def _say_passed_over(row: PairedRow) -> str:
    return row.passed_over and f"sites are chosen by {row.a.chosen_by or row.b.chosen_by}, because {row.passed_over}"


def _say_tied(row: PairedRow) -> str:
    tied = [(name, side.candidates) for name, side in (("A", row.a), ("B", row.b)) if side.all_tied]
    return " and ".join(f"all {count} sites of {name} are equally good" for name, count in tied)


def _say_power(row: PairedRow) -> str:
    """Returns what the number of clips cannot show; "" if it is large."""
    if row.ties == row.clips:
        return f"A and B are equal on all {say_count(row.clips, 'clip')}"
    from vcorr.stats.sign_flips import SIGNIFICANT

    least = row.smallest_p * row.family
    if least <= _WORTH_SAYING:
        return ""
    others = (
        f"A and B are equal on {row.ties} of {row.clips} clips, and the others"
        if row.ties
        else say_count(row.clips, "clip")
    )
    corrected = f" with Holm's correction for {row.family} rows" if row.family > 1 else ""
    end = ", so no difference can be shown" if least > SIGNIFICANT else ""
    return f"{others} cannot give p under {number(math.floor(1000 * min(least, 1)) / 1000)}{corrected}{end}"


def _say_no_interval(row: PairedRow) -> str:
    differences = (row.difference, row.gain_difference, row.skill_difference)
    reasons = dict.fromkeys(x.no_interval for x in differences if x.no_interval and not math.isnan(x.estimate))
    return say_no_interval("; ".join(reasons)) if reasons else ""


def _gather(rows: Sequence[PairedRow], say: Callable[[PairedRow], str]) -> Iterator[str]:
    """Yields the different remarks on rows, with the metrics that they hold for if they do not hold for all."""
    several = len({_probes(row) for row in rows}) > 1
    names = (_metric(row) + (f" of {_probes(row)}" if several else "") for row in rows)
    remarks = [Remark(name, text) for name, row in zip(names, rows, strict=True) if (text := say(row))]
    yield from gather_remarks(remarks, len(rows))
