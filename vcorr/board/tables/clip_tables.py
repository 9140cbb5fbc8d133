"""Decides which entries share a table, and on which clips.

A table has the clips of its first entry, the one with most clips that no earlier table shows. Every entry that has
nearly all of these clips, and compares with all entries of the table, is in it. So a run on few clips makes a small
table of its own and does not shrink the large one. A run on very many clips does not empty the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vcorr.board.tables.row_candidates import ENOUGH, Entry, LeftOut, count_clips_of
from vcorr.stats.series import Heads

_FEW = 2
"""Sets of at most so many clips are named by the ids of their clips."""


@dataclass(frozen=True)
class Incomplete:
    """An entry that has too few of a table's clips. clips: how many it has."""

    entry: Entry
    clips: int
    reason: str


@dataclass(frozen=True)
class ClipTable:
    """Entries that compare, and their clips.

    heads: the kind of sites of its rows. name: the set of clips in words. size: number of clips of the set. clips: ids
    of the clips that all entries have, sorted. incomplete: entries that have too few of the clips.
    """

    entries: tuple[Entry, ...]
    heads: Heads
    name: str
    size: int
    clips: tuple[str, ...]
    incomplete: tuple[Incomplete, ...]


def make_tables(entries: Sequence[Entry]) -> tuple[list[ClipTable], list[LeftOut]]:
    """Groups entries, weightiest first, into tables. Returns the entries without a table with the reason.

    Every two entries of a table compare. Two entries that compare share a table, unless one of them is incomplete.
    """
    compare = _Compare()
    tables = [table for group in _group_by_certain_facts(entries) for table in _tables_of(group, compare)]
    placed = {id(entry) for table in tables for entry in table.entries}
    return tables, [
        LeftOut(
            entry.run,
            f"incomplete: {count_clips_of(entry.run)}, and a row needs {ENOUGH:.0%} of its clips",
            entry.name,
        )
        for entry in entries
        if id(entry) not in placed
    ]


class _Compare:
    """Tells whether entries compare, and remembers it for each pair of runs."""

    def __init__(self) -> None:
        self._known: dict[frozenset[str], bool] = {}

    def __call__(self, a: Entry, b: Entry) -> bool:
        pair = frozenset((a.run.run_id, b.run.run_id))
        if pair not in self._known:
            self._known[pair] = a.is_comparable(b)
        return self._known[pair]


class _Group(NamedTuple):
    """Entries that agree in facts which never agree with other ones. heads: the kind of sites of their rows."""

    heads: Heads
    entries: list[Entry]

    @property
    def starters(self) -> list[Entry]:
        """The entries that a table is made for. A baseline stands next to single heads, and not there alone."""
        return [entry for entry in self.entries if self.heads == "mean" or not entry.is_lone]


def _group_by_certain_facts(entries: Iterable[Entry]) -> list[_Group]:
    groups: dict[tuple[str, ...], _Group] = {}
    for entry in entries:
        measured, key = entry.measured, entry.chooser.key
        facts = (measured.dataset, measured.split, measured.mode, key["tracker"], entry.chooser.variant_text)
        kinds: tuple[Heads, ...] = ("mean", "single") if entry.is_lone else (entry.heads,)
        for heads in kinds:
            groups.setdefault((*facts, heads), _Group(heads, [])).entries.append(entry)
    return [group for _, group in sorted(groups.items())]


def _tables_of(group: _Group, compare: _Compare) -> list[ClipTable]:
    """Makes tables until every entry that has enough of its own clips is in one."""
    tables: list[ClipTable] = []
    shown: set[int] = set()
    for first in group.starters:
        clips, size = first.run.asked, first.run.total
        if id(first) in shown or not first.covers(clips, size):
            continue
        fitting = [x for x in group.entries if x is not first and x.covers(clips, size) and compare(x, first)]
        waiting = fitting
        while waiting or id(first) not in shown:
            # facts that are not known agree with any other, so what fits to one entry need not fit to every other
            rows = _collect(first, [*waiting, *(x for x in fitting if x not in waiting)], compare)
            tables.append(_make_table(rows, group, compare))
            shown |= set(map(id, rows))
            waiting = [entry for entry in waiting if entry not in rows]
    return tables


def _collect(first: Entry, others: Iterable[Entry], compare: _Compare) -> list[Entry]:
    """Returns the first entry, and every other one that compares with all entries before it."""
    rows = [first]
    for entry in others:
        if all(compare(entry, row) for row in rows):
            rows.append(entry)
    return rows


def _make_table(rows: Sequence[Entry], group: _Group, compare: _Compare) -> ClipTable:
    run = rows[0].run
    name = name_clips(run.record, run.asked, run.total)
    others = [
        x for x in group.entries if x not in rows and x.clips & run.asked and all(compare(x, row) for row in rows)
    ]
    incomplete = [Incomplete(x, len(x.clips & run.asked), _describe(x, run.asked, run.total)) for x in others]
    return ClipTable(tuple(rows), group.heads, name, run.total, _find_common(rows, run.asked), tuple(incomplete))


def _describe(entry: Entry, clips: frozenset[str], size: int) -> str:
    has = f"{len(entry.clips & clips)} of the {size} clips"
    failed = f"; {entry.run.failed} failed" if entry.run.failed else ""
    return f"{has}, and a row needs {ENOUGH:.0%}{failed}"


def _find_common(rows: Sequence[Entry], clips: frozenset[str]) -> tuple[str, ...]:
    """Returns the clips that every row has, and that every row or none could score."""
    common = clips.intersection(*(entry.clips for entry in rows))
    everywhere = common.intersection(*(entry.scored for entry in rows))
    somewhere = common.intersection(frozenset().union(*(entry.scored for entry in rows)))
    return tuple(sorted(common - (somewhere - everywhere)))


def name_clips(record: Mapping[str, Any], ids: frozenset[str], total: int) -> str:
    """Returns a set of clips in words, from the record of the run that chose them."""
    if total <= _FEW and ids:
        return f"clip{'' if len(ids) == 1 else 's'} {', '.join(sorted(ids))}"
    spec = record.get("spec")
    if not isinstance(spec, dict) or "limit" not in spec:
        return f"{total} clips"
    limit = spec["limit"]
    if limit is None:
        return f"all {total} clips"
    return f"first {total} clips" if limit == total else f"{total} clips"
