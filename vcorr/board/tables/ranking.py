"""Ranks runs in tables, and lists what is left out and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from vcorr.analysis.comparable import is_earlier
from vcorr.board.tables.board_runs import BoardRun, InputFacts, TokenSize
from vcorr.board.tables.clip_tables import ClipTable, Incomplete, make_tables
from vcorr.board.tables.data_defaults import DataDefaults, no_defaults
from vcorr.board.tables.definitions import BoardConfig, RankedBy, boards_of
from vcorr.board.tables.row_candidates import Entry, LeftOut, find_entries, find_refusal
from vcorr.board.tables.site_rows import SiteRow, make_row
from vcorr.contract.noun_counts import say_count
from vcorr.contract.tasks import AT_ONE_SITE, MAKING_VIDEOS
from vcorr.stats.intervals import Bounded, Floats, gain_differences, skill_differences
from vcorr.stats.series import Series, join_clip_facts
from vcorr.stats.sign_flips import SIGNIFICANT, holm, sign_flip_test, smallest_p
from vcorr.stats.summary import SiteSummary
from vcorr.store.fingerprint import find_differences, flat
from vcorr.studies.knockout_agreements import AgreementRow
from vcorr.studies.knockout_observed import PROBE

Apart = Literal["", "ceiling", "floor"]
_APART: Mapping[Apart, str] = {
    "ceiling": "trained on tracks of points: a ceiling, not ranked",
    "floor": "nothing moves: the floor, not ranked",
}
_NAMED = 3
"""Most facts that are named where tables differ in nothing else that is shown."""
_EQUAL = 1e-9
"""Gains that differ by less are equal: they are sums of the same numbers."""


@dataclass(frozen=True)
class Row:
    """One row of a ranking: a model and probe, at the sites that one metric chose.

    Attributes:
        series: scores of the metric that ranks, on the clips of the table.
        at: the sites, and every metric at these sites.
        token: size of a token at these sites; None if it is not known or not the same for all clips and sites.
        options: options in which rows of the same model, weights and probe differ, in words.
        rank: from 1; equal for equal rows; None for rows that are shown but not ranked.
        p: of the sign-flip test of this row and the best one, corrected by Holm for the rows of the table; NaN for the
            best row and rows without a rank.
        unranked: why the row is not ranked; "" when it is.
        apart: "ceiling" or "floor" for a row that its board never ranks; else "".
    """

    run: BoardRun
    series: Series
    at: SiteRow
    token: TokenSize | None
    options: str = ""
    rank: int | None = None
    p: float = math.nan
    unranked: str = ""
    apart: Apart = ""

    @property
    def name(self) -> str:
        """The probe, with its variant and kind of heads unless they are the usual ones."""
        return self.series.name if self.at.best.heads == "mean" else f"{self.series.name}, single heads"

    @property
    def causal(self) -> AgreementRow | None:
        """How well the skill of sites foresees the effect of cutting them, for the probe that it is known of."""
        return self.run.causal if self.series.key["probe"] == PROBE else None

    @property
    def cell(self) -> SiteSummary:
        """The metric that ranks."""
        return self.at.cells[self.series.key["metric"]]

    @property
    def tied(self) -> bool:
        """Whether the test does not distinguish the row from the best one."""
        return self.p > SIGNIFICANT


@dataclass(frozen=True)
class Ranking:
    """Rows that can be compared: of one board, on the same clips (docs/statistics.md).

    group: what the rows share, in words, by name. clips: ids of the clips that all rows have. size: number of clips of
    the set that the table stands for. incomplete: what has too few of these clips.
    """

    board: BoardConfig
    group: dict[str, str]
    rows: tuple[Row, ...]
    clips: tuple[str, ...]
    size: int
    incomplete: tuple[Incomplete, ...] = ()

    @property
    def has_causal(self) -> bool:
        """Whether a row has a causal agreement (docs/knockouts.md)."""
        return any(row.causal is not None for row in self.rows)

    @property
    def ties_text(self) -> str:
        """What the test says about the best row, as a sentence; "" where fewer than two rows are ranked."""
        others = [row for row in self.rows if row.rank and not math.isnan(row.p)]
        if not others:
            return ""
        tied = sum(row.tied for row in others)
        clips = min(row.cell.clips for row in (*others, self.rows[0]))  # others of the table have nothing to score
        least = min(1.0, smallest_p(clips) * len(others))
        if least > SIGNIFICANT:
            return (
                f"{say_count(clips, 'clip')} and {say_count(len(others), 'comparison')} cannot give the test a p under "
                f"{least:.2g}, so "
                "it separates no row from the best one."
            )
        if not tied:
            return "The test separates the best row from every other one."
        return f"The test does not separate the best row from {tied} of the {len(others)} others."


@dataclass(frozen=True)
class Unreadable:
    """A run that cannot be read, so that nothing of it is on the board. hint: what to do."""

    run_id: str
    reason: str
    hint: str


def rank(
    runs: Iterable[BoardRun], boards: Sequence[BoardConfig], defaults: DataDefaults = no_defaults
) -> tuple[list[Ranking], list[LeftOut]]:
    """Returns the tables of all boards, and what they leave out.

    defaults: gives the default options of a dataset; a table names the options that differ from them.
    """
    admitted: list[BoardRun] = []
    left_out: list[LeftOut] = []
    for run in runs:
        if reason := find_refusal(run, boards):
            left_out.append(LeftOut(run, reason))
        else:
            admitted.append(run)
    rankings: list[Ranking] = []
    for board in boards:
        own = [run for run in admitted if board in boards_of(run.dataset, boards, run.task)]
        found, refused = _rank_board(board, own, defaults)
        rankings += found
        left_out += refused
    return rankings, left_out


def _rank_board(
    board: BoardConfig, runs: Sequence[BoardRun], defaults: DataDefaults
) -> tuple[list[Ranking], list[LeftOut]]:
    entries, left_out = find_entries(runs, board)
    tables, incomplete = make_tables(entries)
    left_out += incomplete
    rankings = []
    for table, group in zip(tables, _describe(tables, defaults), strict=True):
        made = {entry: _make_row(entry, table) for entry in table.entries}
        rows = [row for row in made.values() if row is not None]
        left_out += [LeftOut(x.run, _why_no_site(x, board), x.name) for x, row in made.items() if row is None]
        if rows:
            ranked = _assign_ranks(board, _with_options(rows), len(table.clips))
            rankings.append(Ranking(board, group, tuple(ranked), table.clips, table.size, table.incomplete))
    return rankings, left_out


# ---------------------------------------------------------------------------------------------------------------- rows


def _make_row(entry: Entry, table: ClipTable) -> Row | None:
    clips = table.clips
    if not clips or not set(clips) <= set(entry.chooser.clips):
        return None
    columns = {name: s.select_clips([c for c in clips if c in set(s.clips)]) for name, s in entry.columns.items()}
    at = make_row(_with_clip_facts(entry.chooser.select_clips(clips), table), columns)
    return None if at is None else Row(entry.run, columns[entry.primary], at, _find_token(entry, at))


def _with_clip_facts(s: Series, table: ClipTable) -> Series:
    """Returns the series with all that is known of its clips, so that all rows of a table have the same halves."""
    still, content = join_clip_facts(s.clips, (entry.chooser for entry in table.entries))
    return replace(s, still=still, content=content)


def _find_token(entry: Entry, at: SiteRow) -> TokenSize | None:
    sizes = {size for site in at.sites for size in entry.run.tokens.get((at.best.key["probe"], site.layer), ())}
    return sizes.pop() if len(sizes) == 1 else None


def _why_no_site(entry: Entry, board: BoardConfig) -> str:
    if len(entry.chooser.sites) > 1:
        return f"no site has a skill by {board.chosen_by} on either half of the clips, so none can be chosen"
    return "no clip in common with the other rows could be scored"


def _with_options(rows: Sequence[Row]) -> list[Row]:
    """Notes on each row in which options it differs from the rows of the same model, weights and probe."""
    alike: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        alike.setdefault((row.run.model, row.run.weights, row.at.best.key["probe"]), []).append(row)
    return [replace(row, options=_differing_options(row, same)) for same in alike.values() for row in same]


def _differing_options(row: Row, alike: Sequence[Row]) -> str:
    own = _options_of(row)
    names = {name for other in alike for name in find_differences(own, _options_of(other))}
    values = dict(flat(own))
    return ", ".join(f"{name} {_say_option(values.get(name))}" for name in sorted(names))


def _say_option(value: object) -> str:
    if value is None:
        return "null"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _options_of(row: Row) -> Mapping[str, object]:
    resolved = row.run.record.get("resolved") or {}
    probes = [p for p in resolved.get("probes") or [] if p.get("name") == row.at.best.key["probe"]]
    return {
        "model": (resolved.get("model") or {}).get("config") or {},
        "probe": (probes[0].get("config") if probes else None) or {},
        "track": resolved.get("track") or {},
        **(_sampling_of(resolved) if row.run.task in MAKING_VIDEOS else {}),
    }


def _sampling_of(resolved: Mapping[str, Any]) -> dict[str, object]:
    """Returns how videos were sampled, and with which guidance: its name and its options, in words."""
    guided, settings = resolved.get("guidance") or {}, resolved.get("settings") or {}
    words = {**(guided.get("config") or {}), "layers": ",".join(map(str, guided.get("layers") or ()))}
    told = [f"{name} {_say_option(value)}" for name, value in words.items() if value not in (None, "")]
    name = str(guided.get("name") or "none")
    return {
        "guidance": f"{name} ({', '.join(told)})" if told else name,
        "cfg": settings.get("cfg"),
        "sampling steps": settings.get("num_steps"),
    }


# --------------------------------------------------------------------------------------------------------------- ranks


def _assign_ranks(board: BoardConfig, rows: Sequence[Row], clips: int) -> list[Row]:
    """Returns the rows with their ranks, the best first, and then the rows that get no rank."""
    rows = sorted(rows, key=lambda row: (-_number(rank_value(row.cell, board.by)), row.run.model, row.series.name))
    rows = [replace(row, apart=_find_apart(board, row.run.model)) for row in rows]
    reasons = [_why_unranked(board, row, clips) for row in rows]
    ranked = [row for row, why in zip(rows, reasons, strict=True) if not why]
    values = [rank_value(row.cell, board.by) for row in ranked]
    places = [1 + sum(other > value + _EQUAL for other in values) for value in values]
    tested = zip(ranked, places, _test_against_best(board, ranked), strict=True)
    unranked = [replace(row, unranked=why) for row, why in zip(rows, reasons, strict=True) if why]
    return [replace(row, rank=place, p=p) for row, place, p in tested] + unranked


def rank_value(cell: SiteSummary, by: RankedBy) -> float:
    """Returns the number that ranks rows."""
    return {"gain": cell.gain, "skill": cell.skill, "value": cell.value}[by]


def _find_apart(board: BoardConfig, model: str) -> Apart:
    if model in board.ceilings:
        return "ceiling"
    return "floor" if model in board.floors else ""


def _test_against_best(board: BoardConfig, ranked: Sequence[Row]) -> list[float]:
    """Returns the corrected p of the best row and each row, NaN for the best one."""
    if len(ranked) < 2:
        return [math.nan] * len(ranked)
    best, *others = (row.at.scores[board.primary] for row in ranked)
    differ = {"gain": gain_differences, "skill": skill_differences, "value": _value_differences}[board.by]
    found = holm(sign_flip_test(np.stack([differ(best, other) for other in others], axis=1)))
    return [math.nan, *map(float, found)]


def _value_differences(a: Bounded, b: Bounded) -> Floats:
    """Returns the difference of the scores of each clip."""
    return np.asarray(a.score, dtype=np.float64) - np.asarray(b.score, dtype=np.float64)


def _why_unranked(board: BoardConfig, row: Row, clips: int) -> str:
    if row.apart:
        return _APART[row.apart]
    if clips < board.admission.min_clips:
        return f"{say_count(clips, 'clip')}: too few to rank (this board needs {board.admission.min_clips})"
    if row.series.lower_is_better and board.by != "skill":
        return f"no {board.by}: {board.primary} is an error, so a board ranks it by skill"
    return _why_no_number(board, row) if math.isnan(rank_value(row.cell, board.by)) else ""


def _why_no_number(board: BoardConfig, row: Row) -> str:
    return {
        "gain": f"no gain: standing still scores {row.cell.floor:.3f}, so the points hardly move",
        "skill": "no skill: floor and ceiling are too close, or unknown",
        "value": "no clip could be scored",
    }[board.by]


def _number(value: float) -> float:
    return -math.inf if math.isnan(value) else value


# --------------------------------------------------------------------------------------------------------------- words


def _describe(tables: Sequence[ClipTable], defaults: DataDefaults) -> list[dict[str, str]]:
    """Returns what the rows of each table share, by name. Tables that would read alike say in what they differ."""
    facts = [_add_options(_facts_of(table), table, tables, defaults) for table in tables]
    alike = [[x for x, other in zip(tables, facts, strict=True) if other == own] for own in facts]
    return [
        own if len(same) == 1 else {**own, "only here": _tell_apart(table, [x for x in same if x is not table])}
        for table, own, same in zip(tables, facts, alike, strict=True)
    ]


def _add_options(
    facts: dict[str, str], table: ClipTable, tables: Iterable[ClipTable], defaults: DataDefaults
) -> dict[str, str]:
    """Returns the facts with options of the dataset after its name: the ones in which its tables differ, or that differ
    from its defaults.
    """
    own = table.entries[0].measured
    others = [x.entries[0].measured for x in tables if x.entries[0].measured.dataset == own.dataset]
    names = {name for other in others for name in find_differences(own.options, other.options)}
    usual = defaults(own.dataset)
    names |= {name for name, value in own.options.items() if name in usual and usual[name] != value}
    shown = {name: str(own.options[name]) for name in sorted(names) if name in own.options}
    return {"dataset": facts["dataset"], **shown, **facts}


def _facts_of(table: ClipTable) -> dict[str, str]:
    first = table.entries[0]
    key, measured = first.chooser.key, first.measured
    frames = sorted({measured.clips[clip].frames for clip in table.clips if clip in measured.clips} - {0})
    counts = [str(frames[0])] if len(frames) == 1 else [f"{frames[0]} to {frames[-1]}"] if frames else ["unknown"]
    seed = {"seed": str(measured.seed)} if measured.makes_video else {}
    mode = {"mode": str(key["mode"])} if first.run.task not in AT_ONE_SITE else _name_inputs(first.run.inputs)
    return {
        "dataset": first.run.dataset,
        "split": str(key["split"]),
        **mode,
        "clips": table.name,
        "frames": counts[0],
        **seed,
        "tracker" if first.run.task not in AT_ONE_SITE else "reference": str(key["tracker"]),
        "variant": str(key["variant"]),
        **({"heads": "single heads"} if table.heads == "single" else {}),
        **({"scored by": "an earlier version, its ceilings can be passed"} if is_earlier(measured.scoring) else {}),
    }


def _name_inputs(inputs: Iterable[InputFacts]) -> dict[str, str]:
    """Returns how query frames were chosen and which class of input the clips are, where rows say so."""
    found = {
        "queries": sorted({each.query_mode for each in inputs} - {""}),
        "input class": sorted({each.input_class for each in inputs} - {""}),
    }
    return {name: ", ".join(values) for name, values in found.items() if values}


def _tell_apart(table: ClipTable, alike: Sequence[ClipTable]) -> str:
    """Returns in words what distinguishes a table from tables of the same description."""
    pairs = ((a, b) for other in alike for a in table.entries for b in other.entries)
    found = (difference for a, b in pairs for difference in a.differences(b))
    told = list(dict.fromkeys(f"{difference.what} {difference.a}" for difference in found))[:_NAMED]
    if not told:
        told = [f"clips {table.clips[0]} to {table.clips[-1]}"] if table.clips else ["no clips in common"]
    return "; ".join(told)
