"""Series: the sites of one run, probe and metric over its clips, from rows of the `scores` table.

The rows (docs/results-format.md) may come from one run or from many.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vcorr.contract.metric_columns import MAIN_METRIC, STRATUM_MARK, choose_main
from vcorr.contract.records import HEAD_MEAN
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant
from vcorr.stats.halves import Halves, split_clips
from vcorr.stats.intervals import Floats, skill
from vcorr.stats.sites import SiteId

PRIMARY_METRIC = MAIN_METRIC

Heads = Literal["mean", "single"]
"""Kinds of sites: the mean over heads, and one head alone."""

ROW_KEYS = (
    *("run", "model", "weights", "probe", "dataset", "split", "mode", "tracker", "metric", "variant", "switches"),
    "seed",
)
SITE_KEYS = ("layer", "step", "head")


@dataclass(frozen=True)
class Series:
    """All sites of one run, probe and metric over its clips: the content of one heat map.

    key: values of `ROW_KEYS`.
    sites: one mapping per site, with `SITE_KEYS`, layer_name, attention and noise; ordered by layer, step and head.
    The noise is the mean over clips, since a schedule may depend on a clip's size.
    clips: ids, sorted.
    still: (clips,), accuracy of zero motion (column `still`); NaN where it is not known.
    content: hash of each clip's content (column `data_hash`); "" where it is not known.
    score, floor, ceiling: (clips, sites), NaN where not scored.
    failed: number of clips of the run that failed.
    lower_is_better: whether the scores are errors.
    """

    key: dict[str, Any]
    sites: tuple[dict[str, Any], ...]
    clips: tuple[str, ...]
    score: Floats
    floor: Floats
    ceiling: Floats
    failed: int
    lower_is_better: bool = False
    still: Floats | None = None
    content: tuple[str, ...] | None = None

    @property
    def site_ids(self) -> tuple[SiteId, ...]:
        """The sites as people write them."""
        return tuple(SiteId(site["layer"], site["step"], site["head"]) for site in self.sites)

    def column_of(self, site: SiteId) -> int | None:
        """Returns the index of a site among `sites`; None if the series does not have it."""
        return next((i for i, each in enumerate(self.site_ids) if each == site), None)

    def halves(self) -> Halves:
        """Returns the halves of the clips, which are the same for every probe, metric and model; see `split_clips`."""
        return split_clips(self.clips, self.still, self.content, mode=self.key.get("mode") or "")

    @property
    def rising(self) -> tuple[Floats, Floats, Floats]:
        """Score, floor and ceiling for skills, with the sign that makes higher better."""
        sign = -1.0 if self.lower_is_better else 1.0
        return sign * self.score, sign * self.floor, sign * self.ceiling

    @property
    def variant_text(self) -> str:
        """The variant with its flipped switches, in the form of `--set variant=`."""
        return NamedVariant(self.key["variant"], self.key.get("switches") or "").text

    @property
    def name(self) -> str:
        """The probe, with the variant if it is not the default. It distinguishes the series of one run and metric."""
        probe = str(self.key["probe"])
        return probe if self.variant_text == DEFAULT_VARIANT.text else f"{probe}, {self.variant_text}"

    @property
    def skill(self) -> Floats:
        """Skill of each site from the means over all clips, (sites,); NaN where floor and ceiling are NaN."""
        with np.errstate(invalid="ignore"):
            usable = np.isfinite(self.score)
            means = [mean_where(array, usable) for array in self.rising]
        return skill(*means)

    def select_clips(self, clips: Sequence[str]) -> Series:
        """Returns the series of the clips with these ids, all of which it has, in sorted order.

        Halves of the result are halves of these clips.
        """
        line = {clip: i for i, clip in enumerate(self.clips)}
        lines = [line[clip] for clip in sorted(clips)]
        score, floor, ceiling = (array[lines] for array in (self.score, self.floor, self.ceiling))
        return replace(
            self,
            clips=tuple(self.clips[i] for i in lines),
            score=score,
            floor=floor,
            ceiling=ceiling,
            still=None if self.still is None else self.still[lines],
            content=None if self.content is None else tuple(self.content[i] for i in lines),
        )

    def select_sites(self, sites: Sequence[int]) -> Series:
        """Returns the series of the sites with these indices."""
        score, floor, ceiling = (array[:, list(sites)] for array in (self.score, self.floor, self.ceiling))
        return replace(self, sites=tuple(self.sites[i] for i in sites), score=score, floor=floor, ceiling=ceiling)

    def by_heads(self) -> dict[str, Series]:
        """Splits the series into sites of the mean over heads ("mean") and of one head ("single"), where it has any."""
        kinds: dict[str, list[int]] = {"mean": [], "single": []}
        for i, site in enumerate(self.sites):
            kinds[heads_of(site["head"])].append(i)
        everything = len(self.sites)  # of one kind, as they mostly are, they need no copy
        return {
            kind: self if len(sites) == everything else self.select_sites(sites)
            for kind, sites in kinds.items()
            if sites
        }


def heads_of(head: int) -> Heads:
    """Returns the kind of site that a value of the column `head` means."""
    return "mean" if head == HEAD_MEAN else "single"


@dataclass(frozen=True)
class Scores:
    """The scores of a run or of several, gathered from tables. It has 24 bytes per value, where rows have hundreds.

    series: one per run, probe, metric and variant, ordered by these.
    rows: number of rows of all tables.
    failed: ids of the clips that failed, once per row. unscored: other clips without a score, each with the reason.
    content: hash of each clip's content, by clip id; without clips whose rows have none.
    probes: the probes that have rows of any metric, also of one that was not gathered.
    """

    series: tuple[Series, ...]
    rows: int = 0
    failed: tuple[str, ...] = ()
    unscored: Mapping[str, str] = field(default_factory=dict)
    content: Mapping[str, str] = field(default_factory=dict)
    probes: frozenset[str] = frozenset()

    @property
    def metrics(self) -> frozenset[str]:
        """The metric columns that have a series."""
        return frozenset(s.key["metric"] for s in self.series)

    @property
    def clips(self) -> tuple[str, ...]:
        """The ids of the clips that have rows of a metric, sorted."""
        return tuple(sorted({clip for s in self.series for clip in s.clips}))


def join_clip_facts(clips: Sequence[str], parts: Iterable[Series]) -> tuple[Floats, tuple[str, ...]]:
    """Returns how still clips are and the hashes of their content, of each clip the first that a part knows.

    Series of an older vcorr do not say how still a clip is. Another one of the same clips may.

    Returns:
        (clips,) NaN where no part knows; and as many hashes, "" where no part knows.
    """
    still, content = dict.fromkeys(clips, math.nan), dict.fromkeys(clips, "")
    for s in parts:
        for i, clip in enumerate(s.clips):
            if clip not in still:
                continue
            if s.still is not None and math.isnan(still[clip]):
                still[clip] = float(s.still[i])
            if s.content is not None:
                content[clip] = content[clip] or s.content[i]
    return np.array(list(still.values())), tuple(content.values())


def gather(tables: Iterable[pa.Table], wanted: Callable[[str], bool] = lambda metric: True) -> Scores:
    """Gathers scores from tables, one after the other, so that only one table is in memory at a time.

    wanted: tells by its name whether a metric column is needed.
    """
    gatherer = _Gatherer(wanted)
    for table in tables:
        gatherer.add(table)
    return gatherer.finish()


def series(scores: pa.Table | Scores, *, metric: str | None = None, lower: Collection[str] = ()) -> list[Series]:
    """Returns the series of a scores table or of gathered scores, ordered by run, probe and metric.

    metric: selects one metric. lower: the columns in which a lower value is better.
    """
    if isinstance(scores, pa.Table):
        scores = gather([scores], lambda name: metric in (None, name))
    chosen = (s for s in scores.series if metric in (None, s.key["metric"]))
    return [replace(s, lower_is_better=s.key["metric"] in lower) for s in chosen]


def natural(name: str) -> list[tuple[int, str]]:
    """Returns a key that sorts names by the numbers in them: pck_2 before pck_16."""
    return [(int(digits or 0), text) for digits, text in re.findall(r"(\d+)|(\D+)", name)]


def main_metric(scores: pa.Table | Scores) -> str:
    """Returns the column that summaries show if nobody named one; see `choose_main`."""
    names = metrics_of(scores)
    return choose_main(sorted(names, key=lambda name: (STRATUM_MARK in name, name)))


def metrics_of(scores: pa.Table | Scores) -> frozenset[str]:
    """Returns the names of all metric columns."""
    if isinstance(scores, Scores):
        return scores.metrics
    return frozenset(pc.unique(scores["metric"]).to_pylist()) - {""}


def mean_where(values: Floats, used: NDArray[np.bool_]) -> Floats:
    """Returns the mean of `values` (clips, sites) over the clips in `used`, (sites,).

    It is NaN for a site without such a clip, and for a site where one of them is NaN.
    """
    counts = used.sum(axis=0)
    total = np.where(used, np.nan_to_num(values), 0.0).sum(axis=0)
    mean = np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
    return np.asarray(np.where(np.isnan(np.where(used, values, 0.0)).any(axis=0), np.nan, mean))


# ------------------------------------------------------------------------------------------------------------ gathering

_SiteKey = tuple[int, int, int]
_VALUES = ("value", "floor", "ceiling", "noise")


class _ClipFacts(NamedTuple):
    """What rows say of a clip. content: its hash, "" if unknown. still: accuracy of zero motion, NaN if unknown."""

    content: str
    still: float


class _Gatherer:
    """Adds up tables of scores. What it keeps of a row are four numbers of 32 bits."""

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        self._wanted = wanted
        self._growing: dict[tuple[Any, ...], _GrowingSeries] = {}
        self._failed: list[tuple[str, str]] = []
        self._unscored: dict[str, str] = {}
        self._content: dict[str, str] = {}
        self._clips: dict[str, dict[str, _ClipFacts]] = defaultdict(dict)
        self._rows = 0
        self._probes: set[str] = set()

    def add(self, table: pa.Table) -> None:
        """Adds the rows of a table."""
        self._rows += table.num_rows
        self._probes.update(name for name in pc.unique(table["probe"]).to_pylist() if name)
        self._add_whole_clips(table)
        names = [name for name in pc.unique(table["metric"]).to_pylist() if name and self._wanted(name)]
        rows = table.filter(pc.is_in(table["metric"], pa.array(names, pa.string())))
        self._add_content(rows)
        numbers = {name: _numbers(rows, name) for name in (*SITE_KEYS, *_VALUES)}
        for key, chosen in _groups(rows, ROW_KEYS):
            growing = self._growing.setdefault(tuple(key.values()), _GrowingSeries(key))
            growing.add(rows, chosen, {name: values[chosen] for name, values in numbers.items()})

    def _add_whole_clips(self, table: pa.Table) -> None:
        """Adds the rows of clips that failed or have no scores."""
        failed = table.filter(pc.equal(table["status"], "failed"))
        self._failed += zip(failed["run"].to_pylist(), failed["clip"].to_pylist(), strict=True)
        without = pc.and_(pc.equal(table["metric"], ""), pc.equal(table["status"], "not_scored"))
        for row in table.filter(without).select(["clip", "error"]).to_pylist():
            self._unscored[row["clip"]] = row["error"]
        self._add_content(table.filter(pc.equal(table["metric"], "")))

    def _add_content(self, rows: pa.Table) -> None:
        names = [name for name in ("run", "clip", "data_hash") if name in rows.column_names]
        for clip, lines in _groups(rows, names):
            known = clip.get("data_hash") or ""
            still = float(rows["still"][int(lines[0])].as_py()) if "still" in rows.column_names else math.nan
            self._clips[clip["run"]][clip["clip"]] = _ClipFacts(known, still)
            if known:
                self._content[clip["clip"]] = known

    def finish(self) -> Scores:
        """Returns the scores. Each series is forgotten here as soon as it is made."""
        found = []
        for key in sorted(self._growing, key=lambda values: tuple(map(str, values))):
            growing = self._growing.pop(key)
            run = growing.key["run"]
            found.append(growing.finish(sum(failed == run for failed, _ in self._failed), self._clips[run]))
        failed = tuple(clip for _, clip in self._failed)
        probes = frozenset(self._probes)
        return Scores(tuple(found), self._rows, failed, self._unscored, self._content, probes)


class _GrowingSeries:
    """One series, to which tables add rows."""

    def __init__(self, key: dict[str, Any]) -> None:
        self.key = key
        self._sites: dict[_SiteKey, dict[str, str]] = {}
        self._columns: dict[_SiteKey, int] = {}
        self._lines: dict[str, int] = {}
        self._blocks: list[_Block] = []
        self._last: tuple[list[NDArray[Any]], NDArray[np.int32]] | None = None

    def add(self, rows: pa.Table, chosen: NDArray[np.int64], numbers: dict[str, NDArray[Any]]) -> None:
        """Adds the rows of a table with these indices. numbers: their columns of numbers."""
        columns = self._columns_of(rows, chosen, [numbers[name] for name in SITE_KEYS])
        lines = self._lines_of(rows["clip"], chosen)
        self._blocks.append(_Block(lines, columns, *(numbers[name] for name in _VALUES)))

    def _columns_of(self, rows: pa.Table, chosen: NDArray[np.int64], site: list[NDArray[Any]]) -> NDArray[np.int32]:
        """Returns the column of each row, in the order in which sites were met."""
        if self._last is not None and all(map(np.array_equal, self._last[0], site)):
            return self._last[1]  # the clips of a run have the same sites in the same order
        found = np.empty(len(chosen), dtype=np.int32)
        for i, key in enumerate(zip(*(values.tolist() for values in site), strict=True)):
            if key not in self._columns:
                self._columns[key] = len(self._columns)
                row = int(chosen[i])
                self._sites[key] = {name: rows[name][row].as_py() for name in ("layer_name", "attention")}
            found[i] = self._columns[key]
        self._last = (site, found)
        return found

    def _lines_of(self, clips: pa.ChunkedArray, chosen: NDArray[np.int64]) -> NDArray[np.int32]:
        """Returns the line of each row, in the order in which clips were met."""
        encoded = pc.dictionary_encode(clips.combine_chunks())
        known = [self._lines.setdefault(clip, len(self._lines)) for clip in encoded.dictionary.to_pylist()]
        if len(known) == 1:
            return np.array(known, dtype=np.int32)
        lines: NDArray[np.int32] = np.asarray(known, dtype=np.int32)[encoded.indices.to_numpy()[chosen]]
        return lines

    def finish(self, failed: int, facts: Mapping[str, _ClipFacts]) -> Series:
        """Returns the series. failed: number of clips that failed. facts: of each clip, by its id."""
        sites, clips = sorted(self._columns), sorted(self._lines)
        column, line = np.empty(len(sites), dtype=np.int64), np.empty(len(clips), dtype=np.int64)
        column[[self._columns[site] for site in sites]] = np.arange(len(sites))
        line[[self._lines[clip] for clip in clips]] = np.arange(len(clips))
        grids = [np.full((len(clips), len(sites)), np.nan) for _ in range(3)]
        for block in self._blocks:
            place = line[block.lines], column[block.columns]
            for grid, values in zip(grids, (block.value, block.floor, block.ceiling), strict=True):
                grid[place] = values
        noise = _mean_noise(self._blocks, len(sites))
        described = tuple(
            {**dict(zip(SITE_KEYS, site, strict=True)), **self._sites[site], "noise": noise[self._columns[site]]}
            for site in sites
        )
        score, floor, ceiling = grids
        still = np.array([facts[clip].still for clip in clips], dtype=np.float64)
        content = tuple(facts[clip].content for clip in clips)
        return Series(self.key, described, tuple(clips), score, floor, ceiling, failed, still=still, content=content)


@dataclass(frozen=True)
class _Block:
    """Rows of one table. lines: the line of each row, or of all of them. columns: the column of each row."""

    lines: NDArray[np.int32]
    columns: NDArray[np.int32]
    value: NDArray[np.float32]
    floor: NDArray[np.float32]
    ceiling: NDArray[np.float32]
    noise: NDArray[np.float32]


def _mean_noise(blocks: Sequence[_Block], sites: int) -> list[float]:
    """Returns the mean noise level of each column, summed without rounding: the order of the clips does not count."""
    columns = np.concatenate([block.columns for block in blocks])
    order = np.argsort(columns, kind="stable")
    noise = np.concatenate([block.noise for block in blocks])[order]
    ends = np.cumsum(np.bincount(columns, minlength=sites))
    return [math.fsum(noise[begin:end].tolist()) / (end - begin) for begin, end in pairwise([0, *ends.tolist()])]


def _numbers(rows: pa.Table, name: str) -> NDArray[Any]:
    found: NDArray[Any] = rows[name].to_numpy()
    return found


def _groups(rows: pa.Table, names: Sequence[str]) -> Iterator[tuple[dict[str, Any], NDArray[np.int64]]]:
    """Yields the groups of rows with equal values of `names`: the values, and the indices of the rows in order."""
    if not rows.num_rows:
        return
    codes = np.zeros(rows.num_rows, dtype=np.int64)
    for name in names:
        encoded = rows[name].combine_chunks().dictionary_encode(null_encoding="encode")
        if len(encoded.dictionary) > 1:
            codes = codes * len(encoded.dictionary) + encoded.indices.to_numpy(zero_copy_only=False)
            codes = np.unique(codes, return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    for begin, end in pairwise([*starts.tolist(), len(order)]):
        first = int(order[begin])
        yield {name: rows[name][first].as_py() for name in names}, order[begin:end]
