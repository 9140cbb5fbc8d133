"""Builds the tables of best sites and of extremes, with the notes that explain exactly the columns that are shown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.text import Text

from vcorr.cli.views.table_notes import (
    LATENT_RULE,
    SITE_RULE,
    Remark,
    gather_remarks,
    interval_text,
    is_of_latents,
    say_no_interval,
)
from vcorr.cli.views.table_width import Column, Fitted, fit_columns
from vcorr.cli.views.terminal import DASH, cell, console, number
from vcorr.contract.metric_columns import MAIN_COLUMN, PROPAGATION_COLUMNS
from vcorr.contract.records import HEAD_MEAN, is_random
from vcorr.contract.variants import DEFAULT_VARIANT

if TYPE_CHECKING:
    from vcorr.stats.summary import BestSite, Extremes, Findings, SiteSummary, Unranked

_CLIPS_NAMED = 3
_OF_VALUE = "95 % of value"
"""Column of the interval of the value itself. Tables of tracking have it: their values are what others report."""


def say_findings(out: Console, found: Findings) -> None:
    """Prints a table of best sites per ranked metric, what is not ranked and why, and metrics without skill.

    Where no probe has a choice of sites, all metrics share one table.
    """
    if len(found.metrics) > 1 and found.best and all(one.candidates == 1 for one in found.best):
        out.print(best_table(found.best, [one for one in found.unranked if one.key["metric"] in found.metrics]))
    else:
        _say_each_metric(out, found)
    for line in [*found.notes, *reasons(found.unranked)]:
        out.print(cell(line))
    if found.without_skill:
        out.print(extremes_table(found.without_skill))
    if len(found.absent) and found.absent != (MAIN_COLUMN,):
        out.print(cell(f"No scores by {', '.join(found.absent)}: no probe of the run predicts what it scores."))
    if found.unread:
        out.print(cell(f"Without scores: {', '.join(found.unread)}. None of the metrics scores what it predicts."))


def _say_each_metric(out: Console, found: Findings) -> None:
    said: set[str] = set()
    for metric in found.metrics:
        best = [one for one in found.best if one.summary.metric == metric]
        unranked = [one for one in found.unranked if one.key["metric"] == metric]
        if best or unranked:
            out.print(best_table(best, unranked, metric=metric, said=said))


def reasons(unranked: Sequence[Unranked]) -> list[str]:
    """Returns a sentence per reason, with all metrics and probes that it holds for."""
    groups: dict[str, list[Unranked]] = {}
    for one in unranked:
        groups.setdefault(one.reason, []).append(one)
    lines = []
    for reason, members in groups.items():
        metrics = ", ".join(dict.fromkeys(one.key["metric"] for one in members))
        probes = ", ".join(dict.fromkeys(one.key["probe"] for one in members))
        lines.append(f"{metrics} of {probes}: {reason}.")
    return lines


def say_unscored(out: Console, unscored: Mapping[str, str], clips: int) -> None:
    """Prints how many clips have no score at all, with their names and the reason."""
    for reason, count in Counter(unscored.values()).items():
        names = [clip for clip, why in unscored.items() if why == reason]
        listing = ", ".join(names[:_CLIPS_NAMED]) + (" …" if count > _CLIPS_NAMED else "")
        out.print(cell(f"Not scored: {count} of {clips} clips ({listing}): {reason or 'no score'}."))


# ----------------------------------------------------------------------------------------------------------- best sites


_COLUMNS = (
    Column("metric", is_name=True),
    Column("probe", is_name=True),
    Column("variant", is_name=True),
    Column("site", is_name=True),
    Column("head"),
    Column("noise", gives_way=0),
    Column("value"),
    Column(_OF_VALUE, gives_way=6),
    Column("floor", gives_way=3),
    Column("ceiling", gives_way=3),
    Column("skill"),
    Column("95 % interval", gives_way=5),
    Column("gain", gives_way=2),
    Column("all points", gives_way=4),
    Column("regret", gives_way=1),
    Column("clips"),
)


def best_table(
    best: Sequence[BestSite], unranked: Sequence[Unranked] = (), *, metric: str = "", said: set[str] | None = None
) -> RenderableType:
    """Builds one row per probe: its best site, or two if the halves differ, with value, skill, its interval and gain.

    A probe without a best site has a row of dashes; `reasons` says why. Columns appear where they say something: heads
    if rows differ in it, variants if one is not the default, all points next to moving points.

    metric: the one of all rows; "" for rows of several metrics, at one site each.
    said: sentences that a table before this one has; new ones are added, and none is repeated.
    """
    placed = {(one.summary.metric, one.summary.probe, one.summary.variant_text, one.heads) for one in best}
    empty = [
        one for one in unranked if (one.key["metric"], one.key["probe"], one.variant_text, one.heads) not in placed
    ]
    cells = [*map(best_cells, best), *map(_empty_cells, empty)]
    usual = {"variant": DEFAULT_VARIANT.text, "head": "mean", "all points": DASH}
    dropped = {name for name, value in usual.items() if _all(cells, name, value)} | _needless(best, metric)
    columns = [column for column in _COLUMNS if column.name not in dropped]
    rows = [[row[column.name] for column in columns] for row in cells]
    title = f"Best sites by {metric}" if metric else "Scores"
    fitted = fit_columns(console(), title, columns, rows)
    known = set() if said is None else said
    lines = [line for line in _explain(best, fitted) if line not in known]
    known.update(lines)
    notes = [cell(line, style="dim") for line in lines]
    return fitted.with_notes(*notes, warn_random([found.summary for found in best]))


def _needless(best: Sequence[BestSite], metric: str) -> set[str]:
    """Returns the columns that say nothing in a table of one metric, or of several. At ceilings of 1, gain is skill."""
    if metric:
        return {"metric", _OF_VALUE}
    free = all(found.summary.ceiling == 1 for found in best)
    return {"regret", "ceiling", "gain"} if free else {"regret"}


def _all(cells: Sequence[Mapping[str, Text | str]], name: str, usual: str) -> bool:
    return all(str(row[name]) in (usual, DASH) for row in cells)


def best_cells(found: BestSite) -> dict[str, Text | str]:
    """Returns the cells of a best site, by the name of their column."""
    s = found.summary
    return {
        "metric": cell(s.metric),
        "probe": cell(s.probe),
        "variant": Text(s.variant_text.replace("+", "\n+")),
        "site": found.site or DASH,
        "head": DASH if s.layer < 0 else ", ".join(dict.fromkeys(describe_head(site.head) for site in found.sites)),
        "noise": ", ".join(dict.fromkeys(number(site.noise, 2) for site in found.sites)),
        "value": number(s.value),
        _OF_VALUE: interval_text(s.value_low, s.value_high),
        "floor": number(s.floor),
        "ceiling": number(s.ceiling),
        "skill": cell(number(s.skill), style="bold"),
        "95 % interval": interval_text(s.skill_low, s.skill_high),
        "gain": number(s.gain),
        "all points": number(found.all_points.value) if found.all_points else DASH,
        "regret": number(found.regret),
        "clips": str(s.clips),
    }


def _empty_cells(one: Unranked) -> dict[str, Text | str]:
    row: dict[str, Text | str] = {column.name: DASH for column in _COLUMNS}
    head = "mean" if one.heads == "mean" else "one"
    return {
        **row,
        "metric": cell(one.key["metric"]),
        "probe": cell(one.key["probe"]),
        "variant": Text(one.variant_text.replace("+", "\n+")),
        "head": head,
        "clips": str(one.clips),
    }


def describe_head(head: int) -> str:
    """Returns the head of a site in words: its number, or "mean" for the mean over heads."""
    return "mean" if head == HEAD_MEAN else str(head)


def _explain(best: Sequence[BestSite], fitted: Fitted) -> Iterator[str]:
    """Yields one sentence per thing in the table that needs one, and none for columns that are not shown."""
    if not best:
        return
    yield from _explain_choice(best, fitted)
    yield from _explain_columns(fitted, best[0].summary.metric)
    yield from gather_remarks(list(_remarks(best, fitted)), len(best))
    left = max(b.summary.not_scored for b in best)
    if left:
        yield f"clips: without the clips that could not be scored at the site, at most {left} per row."


def _explain_choice(best: Sequence[BestSite], fitted: Fitted) -> Iterator[str]:
    if any(b.chosen_on for b in best):
        yield "Each half of the clips chooses a site, and the other half reports it; two sites if they differ."
        if "regret" in fitted.shown:
            yield "regret: how much more skill at the sites that all other clips of each clip choose."
    if any(is_of_latents(site) for b in best for site in b.sites):
        yield LATENT_RULE
    single = max((b.candidates for b in best if b.heads == "single"), default=0)
    if single:
        means = max((b.candidates for b in best if b.heads == "mean"), default=0)
        yield SITE_RULE
        mean = "the only mean over heads" if means == 1 else f"the best of {means} means over heads"
        if means:
            yield f"Chosen separately: {mean}, and the best of {single} single heads."


def _explain_columns(fitted: Fitted, metric: str) -> Iterator[str]:
    if "metric" in fitted.shown and not {"ceiling", "gain"} & {*fitted.shown, *fitted.hidden}:
        of_masks = metric in PROPAGATION_COLUMNS
        still = "the mask stays where it is" if of_masks else "nothing moves, and every point is visible"
        yield f"skill = (value - floor) / (ceiling - floor); floor: {still}; ceiling: 1 in every row, so skill is gain."
    elif {"floor", "ceiling"} <= fitted.shown:
        yield (
            "skill = (value - floor) / (ceiling - floor); floor: nothing moves; "
            "ceiling: best prediction the tokens allow."
        )
    else:
        yield "skill: 0 if nothing moves, 1 for the best prediction the tokens allow."
    if _OF_VALUE in fitted.shown:
        yield f"{_OF_VALUE}: interval of the value; the other one is of the skill. Both describe the mean over clips."
    if "gain" in fitted.shown:
        yield "gain = (value - floor) / (1 - floor); it compares models of different token sizes."
    if "all points" in fitted.shown:
        yield "all points: value at the same sites, still points included; the other columns count moving points."


def _remarks(best: Sequence[BestSite], fitted: Fitted) -> Iterator[Remark]:
    """Yields what has to be said of single rows: ties, too few clips, and why there is no interval."""
    from vcorr.stats.choice import LUCKY_REGRET

    for found in best:
        s = found.summary
        name = s.probe if s.variant_text == DEFAULT_VARIANT.text else f"{s.probe} ({s.variant_text})"
        for note in found.notes:
            if note != LUCKY_REGRET or "regret" in fitted.shown:
                yield Remark(name, note)
        if s.no_skill_interval and not math.isnan(s.skill) and "95 % interval" in fitted.shown:
            yield Remark(name, say_no_interval(s.no_skill_interval))


# ------------------------------------------------------------------------------------------------------------- extremes


_EXTREMES = (
    Column("metric", is_name=True),
    Column("probe", is_name=True, gives_way=2),
    Column("head"),
    Column("largest"),
    Column("at site"),
    Column("smallest"),
    Column("at its site"),
    Column("sites", gives_way=0),
    Column("clips", gives_way=1),
)
_AT_ONE_SITE = (
    Column("metric", is_name=True),
    Column("probe", is_name=True, gives_way=0),
    Column("value"),
    Column("clips"),
)


def extremes_table(found: Sequence[Extremes]) -> RenderableType:
    """Builds one row per metric that has no skill: its value, or where it is largest and where it is smallest."""
    cells = [_extremes_cells(one) for one in found]
    at_one_site = all(one.sites == 1 for one in found)
    columns = [
        c for c in (_AT_ONE_SITE if at_one_site else _EXTREMES) if c.name != "head" or not _all(cells, "head", "mean")
    ]
    rows = [[row[column.name] for column in columns] for row in cells]
    fitted = fit_columns(console(), "Without floor and ceiling", columns, rows)
    note = "Means over all clips. These metrics have no skill"
    note += "." if at_one_site else ", so they choose no site and no clips are held out."
    notes = [cell(note, style="dim")]
    lower = sorted({one.largest.metric for one in found if one.lower_is_better})
    if lower:
        notes.append(cell(f"Lower is better: {', '.join(lower)}.", style="dim"))
    return fitted.with_notes(*notes, warn_random([one.largest for one in found]))


def _extremes_cells(found: Extremes) -> dict[str, Text | str]:
    large, small = found.largest, found.smallest
    plain = large.variant_text == DEFAULT_VARIANT.text
    return {
        "metric": cell(large.metric if plain else f"{large.metric} ({large.variant_text})"),
        "probe": cell(large.probe),
        "head": "mean" if large.head == HEAD_MEAN else "one",
        "value": number(large.value),
        "largest": number(large.value),
        "at site": large.site or DASH,
        "smallest": number(small.value),
        "at its site": small.site or DASH,
        "sites": str(found.sites),
        "clips": str(large.clips),
    }


def warn_random(shown: Sequence[SiteSummary]) -> Text:
    """Returns a warning if some of the values are of random weights; empty if none is."""
    if not any(is_random(site.weights) for site in shown):
        return Text("")
    return Text(
        "Random weights: these numbers say nothing about the released model and never reach a board.", style="yellow"
    )
