"""Ranks runs in tables, and lists what is left out and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vcorr.board.tables.board_runs import GROUP_KEYS, BoardRun
from vcorr.board.tables.definitions import BoardConfig, boards_of
from vcorr.contract.modes import MODES
from vcorr.stats.series import Series
from vcorr.stats.summary import BestSite

GENERATED = frozenset(mode.name for mode in MODES if mode.makes_video)
"""Modes in which a run generates its own clips, so that equal clip names do not mean equal content."""


@dataclass(frozen=True)
class Row:
    """One row of a ranking: a model and probe at the best site of the primary metric.

    Attributes:
        series: scores of the primary metric.
        best: its best site.
        attention: which tokens a token can attend to at that site.
        others: the best site for each further metric of the board, in the order of its columns; None where the run
            lacks the metric.
        rank: from 1; None for rows that are shown but not ranked.
        unranked: why the row is not ranked; "" when it is.
    """

    run: BoardRun
    series: Series
    best: BestSite
    attention: str
    others: tuple[BestSite | None, ...]
    rank: int | None = None
    unranked: str = ""


@dataclass(frozen=True)
class Ranking:
    """Rows that can be compared: one board, dataset, split, mode, tracker and scoring variant."""

    board: BoardConfig
    group: dict[str, str]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class LeftOut:
    """A run that no table shows, or only one probe of it (`probe`)."""

    run: BoardRun
    reason: str
    probe: str = ""


@dataclass(frozen=True)
class Unreadable:
    """A run that cannot be read, so that nothing of it is on the board. hint: what to do."""

    run_id: str
    reason: str
    hint: str


def count_scored(s: Series) -> int:
    """Counts the clips with a score at one site at least."""
    return int(np.isfinite(s.score).any(axis=1).sum())


def rank(runs: Sequence[BoardRun], boards: Sequence[BoardConfig]) -> tuple[list[Ranking], list[LeftOut]]:
    """Returns the rankings of all boards, and what they leave out."""
    admitted, left_out = [], []
    for run in runs:
        reason = _refusal(run, boards)
        if reason:
            left_out.append(LeftOut(run, reason))
        else:
            admitted.append(run)
    rankings = []
    for board in boards:
        tables, refused = _rankings(board, [r for r in admitted if board in boards_of(r.dataset, boards)])
        rankings += tables
        left_out += refused
    return rankings, left_out


def _refusal(run: BoardRun, boards: Sequence[BoardConfig]) -> str:
    if run.is_random:
        return "random weights: the numbers say nothing about the released model"
    if not run.rows:
        return "no scores yet"
    if run.failed and not run.series:
        return "no clip could be run"
    chosen = boards_of(run.dataset, boards)
    if not chosen:
        return f"no board ranks the dataset {run.dataset}"
    if not any(s.key["metric"] == board.primary for board in chosen for s in run.series):
        return f"not scored by {' or '.join(board.primary for board in chosen)}"
    return ""


def _rankings(board: BoardConfig, runs: Iterable[BoardRun]) -> tuple[list[Ranking], list[LeftOut]]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    left_out = []
    for run in runs:
        for s in run.series:
            if s.key["metric"] != board.primary:
                continue
            row = _row(board, run, s)
            if s.key.get("switches"):
                reason = f"flipped switches ({s.key['switches']}): the numbers belong to neither variant"
                left_out.append(LeftOut(run, reason, s.name))
            elif row is None:
                left_out.append(LeftOut(run, "nothing could be scored", s.name))
            else:
                groups.setdefault(tuple(s.key[key] for key in GROUP_KEYS), []).append(row)
    rankings = []
    for key, rows in sorted(groups.items()):
        group = dict(zip(GROUP_KEYS, key, strict=True))
        same, other = _keep_same_content(rows, group["mode"])
        kept, repeated = _keep_one_per_probe(same)
        rankings.append(Ranking(board, group, tuple(_assign_ranks(board, kept))))
        left_out += [*other, *repeated]
    return rankings, left_out


def _row(board: BoardConfig, run: BoardRun, s: Series) -> Row | None:
    best = run.best_of(s)
    if best is None:
        return None
    site = (best.summary.layer, best.summary.step, best.summary.head)
    attention = next(x["attention"] for x in s.sites if (x["layer"], x["step"], x["head"]) == site)
    others = tuple(_best_for(run, s, column.name) for column in board.metrics if column.name != board.primary)
    return Row(run, s, best, attention, others)


def _best_for(run: BoardRun, s: Series, metric: str) -> BestSite | None:
    wanted = {**s.key, "metric": metric}
    return next((best for best in run.best if best.key == wanted), None)


def _keep_one_per_probe(rows: list[Row]) -> tuple[list[Row], list[LeftOut]]:
    """Keeps one row per model, weights and probe: the run with the most clips, and of equal runs the latest."""
    kept: dict[tuple[str, ...], Row] = {}
    repeated = []
    for row in sorted(rows, key=_weight, reverse=True):
        first = kept.setdefault(_identity(row), row)
        if first is not row:
            reason = f"run {first.run.run_id} measured the same on more clips, or later"
            repeated.append(LeftOut(row.run, reason, row.series.name))
    return list(kept.values()), repeated


def _keep_same_content(rows: list[Row], mode: str) -> tuple[list[Row], list[LeftOut]]:
    """Leaves out rows of runs that have a clip whose content differs from the clip of that name in an earlier row.

    Rows are ordered by falling number of clips, and rows with equal numbers from late to early. In modes where models
    generate their videos all rows stay.
    """
    if mode in GENERATED:
        return rows, []
    kept: list[Row] = []
    left_out = []
    first: dict[str, Row] = {}
    for row in sorted(rows, key=_weight, reverse=True):
        own = row.run.content
        other = next((clip for clip in own if clip in first and first[clip].run.content[clip] != own[clip]), None)
        if other is None:
            kept.append(row)
            first = {**dict.fromkeys(own, row), **first}
        else:
            reason = f"the content of clip {other} differs from run {first[other].run.run_id}: the data changed"
            left_out.append(LeftOut(row.run, reason, row.series.name))
    return kept, left_out


def _identity(row: Row) -> tuple[str, ...]:
    return row.run.model, row.run.weights, row.series.key["probe"]


def _weight(row: Row) -> tuple[int, str, str]:
    return count_scored(row.series), str(row.run.record.get("started", "")), row.run.run_id


def _assign_ranks(board: BoardConfig, rows: list[Row]) -> list[Row]:
    """Returns the rows with their ranks, by falling skill, and then the rows that get no rank."""
    rows = sorted(rows, key=lambda row: (-_number(row.best.summary.skill), *_identity(row)))
    reasons = [_why_unranked(board, row) for row in rows]
    ranks = iter(range(1, len(rows) + 1))
    ranked = [replace(row, rank=next(ranks)) for row, why in zip(rows, reasons, strict=True) if not why]
    return ranked + [replace(row, unranked=why) for row, why in zip(rows, reasons, strict=True) if why]


def _why_unranked(board: BoardConfig, row: Row) -> str:
    clips = count_scored(row.series)
    if clips < board.admission.min_clips:
        noun = "clip" if clips == 1 else "clips"
        return f"{clips} {noun}: too few to rank (this board needs {board.admission.min_clips})"
    if math.isnan(row.best.summary.skill):
        return "no skill: floor and ceiling are too close, or unknown"
    return ""


def _number(value: float) -> float:
    return -math.inf if math.isnan(value) else value
