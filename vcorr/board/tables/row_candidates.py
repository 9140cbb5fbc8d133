"""Finds the candidates for rows of one board, and why other probes and runs are left out of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vcorr.analysis.comparable import Difference, MeasuredOn, are_comparable, differences, settings_of_records_apart
from vcorr.board.tables.board_runs import BoardRun
from vcorr.board.tables.definitions import BoardConfig, boards_of
from vcorr.board.tables.site_rows import SiteRow, make_row
from vcorr.contract.metric_columns import MOVING
from vcorr.contract.tasks import AT_ONE_SITE, CORRESPONDENCE, MAKING_VIDEOS
from vcorr.contract.visible_text import join_words
from vcorr.stats.series import Heads, Series, heads_of

ENOUGH = 0.95
"""Share of a table's clips that a row needs."""
_NAMED_SETTINGS = 2


@dataclass(frozen=True)
class LeftOut:
    """A run that no table shows, or only one probe of it (`probe`)."""

    run: BoardRun
    reason: str
    probe: str = ""


@dataclass(frozen=True, eq=False)
class Entry:
    """A candidate for rows: one probe of a run under one variant, with sites of one kind of heads.

    heads: "mean" or "single". chooser: scores of the metric that chooses sites, at the sites of this kind. columns:
    the metrics of the board that the run has, at all sites.
    """

    run: BoardRun
    heads: Heads
    chooser: Series
    columns: Mapping[str, Series]
    primary: str

    @property
    def measured(self) -> MeasuredOn:
        """What its run measured. Runs that do not say so have no entries."""
        assert self.run.measured is not None
        return self.run.measured

    @property
    def name(self) -> str:
        """The probe, with its variant and kind of heads unless they are the usual ones."""
        return name_entry(self.chooser)

    @property
    def is_lone(self) -> bool:
        """Whether it has one site, as baselines do. It stands next to sites of either kind."""
        return len(self.chooser.sites) == 1

    @cached_property
    def clips(self) -> frozenset[str]:
        """Ids of the clips that have rows of the metric that ranks."""
        return frozenset(self.columns[self.primary].clips)

    @cached_property
    def scored(self) -> frozenset[str]:
        """Ids of the clips with a value of the metric that ranks, at one site at least."""
        s = self.columns[self.primary]
        return frozenset(s.clips[i] for i in np.flatnonzero(np.isfinite(s.score).any(axis=1)))

    @cached_property
    def identity(self) -> tuple[str, ...]:
        """What makes two entries the same measurement: model and probe with their options, weights, kind of heads.

        A record also says which variants a probe read. Each is an entry of its own, and does not depend on the others.
        In tracking and propagation, their options and sites count as well: nothing chooses among them. So does the
        guidance of generated videos, with the number of steps and the strength of classifier-free guidance.
        """
        resolved = self.run.record.get("resolved") or {}
        probe = self.chooser.key["probe"]
        probes = [p for p in resolved.get("probes") or [] if p.get("name") == probe]
        options = [resolved.get("model"), *({**p, "variants": None} for p in probes)]
        if self.run.task in AT_ONE_SITE:
            settings = resolved.get("settings") or {}
            options += [resolved.get("propagate"), resolved.get("track"), resolved.get("sites"), settings.get("steps")]
        if self.run.task in MAKING_VIDEOS:
            settings = resolved.get("settings") or {}
            options += [resolved.get("guidance"), settings.get("num_steps"), settings.get("cfg")]
        return (
            self.run.model,
            self.run.weights,
            probe,
            self.chooser.variant_text,
            self.heads,
            json.dumps(options, sort_keys=True, default=str),
        )

    @cached_property
    def weight(self) -> tuple[Any, ...]:
        """What orders entries: those with more clips first, then with more sites, then the later ones."""
        return len(self.clips), len(self.chooser.sites), str(self.run.record.get("started", "")), self.run.run_id

    def covers(self, clips: frozenset[str], size: int) -> bool:
        """Returns whether it has enough of a set of `size` clips, of which `clips` are known by their ids."""
        return len(self.clips & clips) >= ENOUGH * size

    def is_comparable(self, other: Entry) -> bool:
        """Returns whether `vcorr compare` accepts its run and another one."""
        return self.run is other.run or are_comparable(self.measured, other.measured)

    def differences(self, other: Entry) -> list[Difference]:
        """Returns why `vcorr compare` refuses its run and another one; nothing if it accepts them."""
        return differences(self.measured, other.measured)


def find_entries(runs: Sequence[BoardRun], board: BoardConfig) -> tuple[list[Entry], list[LeftOut]]:
    """Returns the candidates of admitted runs for one board, weightiest first, and what is left out of it.

    Of runs that measured the same with the same model, the weightiest stays. Runs that were scored by an older version
    than a comparable one are left out.
    """
    found: list[Entry] = []
    left_out: list[LeftOut] = []
    for run in runs:
        entries, refused = _entries_of(run, board)
        found += entries
        left_out += refused
    found.sort(key=lambda entry: entry.weight, reverse=True)
    kept, outdated = _leave_out_outdated(found)
    kept, repeated = _leave_out_repeated(kept)
    return kept, [*left_out, *outdated, *repeated]


def own_rows(run: BoardRun, board: BoardConfig) -> list[tuple[str, SiteRow]]:
    """Returns every probe of a run with its name, at the sites that the board's metric chooses on all of its clips.

    Probes with flipped switches are among them. Probes without a site are not.
    """
    found = []
    for columns in run.series_by_probe().values():
        if board.primary not in columns:
            continue
        for part in _choose_by(columns, board).by_heads().values():
            at = make_row(part, columns)
            if at is not None:
                found.append((name_entry(part), at))
    return found


def name_entry(chooser: Series) -> str:
    """Returns the probe with its variant and kind of heads, unless they are the usual ones."""
    single = heads_of(chooser.sites[0]["head"]) == "single"
    return f"{chooser.name}, single heads" if single else chooser.name


def find_refusal(run: BoardRun, boards: Sequence[BoardConfig]) -> str:
    """Returns why no board shows a run, as far as this does not depend on other runs; "" if it may be shown."""
    chosen = boards_of(run.dataset, boards, run.task)
    primaries = list(dict.fromkeys(board.primary for board in chosen))
    reasons = {
        "random weights: the numbers say nothing about the released model": run.is_random,
        "no scores yet": not run.rows,
        "no clip could be run": run.failed and not run.series,
        f"no board ranks {_say_task(run)}the dataset {run.dataset}": not chosen,
        f"not scored by {' or '.join(primaries)}": not any(s.key["metric"] in primaries for s in run.series),
        f"{run.incomparable}. {_score_again(run)} completes it": run.incomparable,
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _say_task(run: BoardRun) -> str:
    return "" if run.task == CORRESPONDENCE else f"{run.task} on "


def count_clips_of(run: BoardRun) -> str:
    """Returns how many clips of a run have scores, in words, and which ones do not."""
    missing = [f"{count} {word}" for count, word in ((run.failed, "failed"), (run.unscored, "without tracks")) if count]
    never = run.total - len(run.asked)
    missing += [f"{never} not run"] if never else []
    return f"{run.clips} of its {run.total} clips have scores" + (f" ({', '.join(missing)})" if missing else "")


def _entries_of(run: BoardRun, board: BoardConfig) -> tuple[list[Entry], list[LeftOut]]:
    entries: list[Entry] = []
    left_out: list[LeftOut] = []
    for columns in run.series_by_probe().values():
        if board.primary not in columns:
            continue
        primary = columns[board.primary]
        chooser = _choose_by(columns, board)
        if reason := _why_no_entry(primary, chooser, columns, board):
            left_out.append(LeftOut(run, reason, primary.name))
            continue
        parts = chooser.by_heads().values()
        entries += [Entry(run, heads_of(s.sites[0]["head"]), s, columns, board.primary) for s in parts]
    return entries, left_out


def _choose_by(columns: Mapping[str, Series], board: BoardConfig) -> Series:
    """Returns the metric that chooses the sites of a probe; where nothing moves, the same metric over all points."""
    found = columns.get(board.chosen_by, columns[board.primary])
    everything = columns.get(board.chosen_by.removesuffix(MOVING), found)
    return everything if np.isnan(found.score).all() else found


def _why_no_entry(primary: Series, chooser: Series, columns: Mapping[str, Series], board: BoardConfig) -> str:
    if primary.key.get("switches"):
        return f"flipped switches ({primary.key['switches']}): the numbers belong to neither variant"
    if board.chosen_by not in columns and len(primary.sites) > 1:
        return f"not scored by {board.chosen_by}, which chooses the sites of this board"
    if np.isnan(primary.score).all():
        return explain_nothing(primary)
    if np.isnan(chooser.score).all() and len(chooser.sites) > 1:
        return explain_nothing(chooser)
    return ""


def explain_nothing(s: Series) -> str:
    """Returns why a metric has no value on any clip."""
    if s.key["metric"].endswith(MOVING):
        return f"nothing moves: no clip has a point that {s.key['metric']} counts as moving"
    return f"could not be scored by {s.key['metric']}: no clip has a visible point in a frame that counts"


# -------------------------------------------------------------------------------------------------- one of several runs


def _leave_out_outdated(entries: Sequence[Entry]) -> tuple[list[Entry], list[LeftOut]]:
    """Leaves out entries that were scored by older versions than another entry of the same clips."""
    kept: list[Entry] = []
    left_out: list[LeftOut] = []
    for entry in entries:
        newer = _find_newer(entry, entries)
        if newer is None:
            kept.append(entry)
            continue
        other, older = newer
        reason = f"{older.what} is {older.a}, and {older.b} in run {other.run.run_id}: score it again, "
        left_out.append(LeftOut(entry.run, reason + _score_again(entry.run), entry.name))
    return kept, left_out


def _find_newer(entry: Entry, entries: Iterable[Entry]) -> tuple[Entry, Difference] | None:
    for other in entries:
        if _is_scored_alike(entry, other) or not entry.clips & other.clips:
            continue
        found = entry.differences(other)
        if found and all(_is_older(difference) for difference in found):
            return other, found[0]
    return None


def _is_scored_alike(entry: Entry, other: Entry) -> bool:
    a, b = entry.measured, other.measured
    return a.scoring == b.scoring and a.metrics == b.metrics


def _is_older(difference: Difference) -> bool:
    """Returns whether its first side was scored by an older version, and nothing else differs."""
    a, b = difference.a, difference.b
    return difference.remedy == "score" and "version" in difference.what and isinstance(a, int) and a < (b or 0)


def _leave_out_repeated(entries: Sequence[Entry]) -> tuple[list[Entry], list[LeftOut]]:
    """Keeps one entry of those that measured the same on the same clips: the first of the list, which is sorted."""
    kept: list[Entry] = []
    left_out: list[LeftOut] = []
    for entry in entries:
        first = next((x for x in kept if _repeats(entry, x)), None)
        if first is None:
            kept.append(entry)
        else:
            left_out.append(LeftOut(entry.run, _why_repeated(entry, first), entry.name))
    return kept, left_out


def _repeats(entry: Entry, first: Entry) -> bool:
    return (
        entry.identity == first.identity
        and first.covers(entry.clips, len(entry.clips))
        and entry.run is not first.run
        and entry.is_comparable(first)
    )


def _why_repeated(entry: Entry, first: Entry) -> str:
    """Returns in which way the run that is shown has more."""
    name = first.run.run_id
    if len(first.clips) > len(entry.clips):
        how = f"on more clips ({len(first.clips)}, not {len(entry.clips)})"
    elif len(first.chooser.sites) > len(entry.chooser.sites):
        how = f"at more sites ({len(first.chooser.sites)}, not {len(entry.chooser.sites)})"
    else:
        how = "later"
    apart = settings_of_records_apart(entry.run.record, first.run.record)
    shown = [f"{what} {b} there, {a} here" for what, (a, b) in apart.items() if not what.startswith("versions")]
    told = f" ({'; '.join(shown[:_NAMED_SETTINGS])})" if shown else ""
    return f"run {name} measured the same {how}{told}"


def _score_again(run: BoardRun) -> str:
    return join_words(["vcorr", "score", f"runs/{run.run_id}"])
