"""Series: the sites of one run, probe and metric over its clips, from rows of the `scores` table.

The rows (docs/results-format.md) may come from one run or from many.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vcorr.contract.metric_columns import MAIN_METRIC, choose_main
from vcorr.contract.records import HEAD_MEAN
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant
from vcorr.stats.bootstrap import Floats, skill

PRIMARY_METRIC = MAIN_METRIC
STRATUM_MARK = "@"
"""Separates a metric from its stratum of pairs in the names of columns."""

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

    def select_sites(self, sites: Sequence[int]) -> Series:
        """Returns the series of the sites with these indices."""
        score, floor, ceiling = (array[:, list(sites)] for array in (self.score, self.floor, self.ceiling))
        return replace(self, sites=tuple(self.sites[i] for i in sites), score=score, floor=floor, ceiling=ceiling)

    def by_heads(self) -> dict[str, Series]:
        """Splits the series into sites of the mean over heads ("mean") and of one head ("single"), where it has any."""
        kinds: dict[str, list[int]] = {"mean": [], "single": []}
        for i, site in enumerate(self.sites):
            kinds[heads_of(site["head"])].append(i)
        return {kind: self.select_sites(sites) for kind, sites in kinds.items() if sites}


def heads_of(head: int) -> Heads:
    """Returns the kind of site that a value of the column `head` means."""
    return "mean" if head == HEAD_MEAN else "single"


def series(scores: pa.Table, *, metric: str | None = None, lower: Collection[str] = ()) -> list[Series]:
    """Returns the series of a scores table, ordered by run, probe and metric.

    metric: selects one metric. lower: the columns in which a lower value is better.
    """
    failed = _count_failed_clips(scores)
    rows = scores.filter(pc.not_equal(scores["metric"], ""))
    if metric is not None:
        rows = rows.filter(pc.equal(rows["metric"], metric))
    return [
        _series(key, part, failed.get(key["run"], 0), key["metric"] in lower) for key, part in _groups(rows, ROW_KEYS)
    ]


def natural(name: str) -> list[tuple[int, str]]:
    """Returns a key that sorts names by the numbers in them: pck_2 before pck_16."""
    return [(int(digits or 0), text) for digits, text in re.findall(r"(\d+)|(\D+)", name)]


def main_metric(scores: pa.Table) -> str:
    """Returns the column that summaries show if nobody named one; see `choose_main`."""
    names = set(pc.unique(scores["metric"]).to_pylist()) - {""}
    return choose_main(sorted(names, key=lambda name: (STRATUM_MARK in name, name)))


def mean_where(values: Floats, used: NDArray[np.bool_]) -> Floats:
    """Returns the mean of `values` (clips, sites) over the clips in `used`, (sites,).

    It is NaN for a site without such a clip, and for a site where one of them is NaN.
    """
    counts = used.sum(axis=0)
    total = np.where(used, np.nan_to_num(values), 0.0).sum(axis=0)
    mean = np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
    return np.asarray(np.where(np.isnan(np.where(used, values, 0.0)).any(axis=0), np.nan, mean))


def _series(key: dict[str, Any], rows: pa.Table, failed: int, lower: bool) -> Series:
    sites = sorted((_site(site, part) for site, part in _groups(rows, SITE_KEYS)), key=_site_id)
    clips = sorted(set(rows["clip"].to_pylist()))
    column = {_site_id(site): i for i, site in enumerate(sites)}
    line = {clip: i for i, clip in enumerate(clips)}
    at_row = np.array([line[clip] for clip in rows["clip"].to_pylist()], dtype=np.int64)
    wanted = zip(*(rows[name].to_pylist() for name in SITE_KEYS), strict=True)
    at_column = np.array([column[site] for site in wanted], dtype=np.int64)

    def spread(name: str) -> Floats:
        grid = np.full((len(clips), len(sites)), np.nan)
        grid[at_row, at_column] = rows[name].to_numpy()
        return grid

    return Series(key, tuple(sites), tuple(clips), spread("value"), spread("floor"), spread("ceiling"), failed, lower)


def _site(key: dict[str, Any], rows: pa.Table) -> dict[str, Any]:
    names = {name: rows[name][0].as_py() for name in ("layer_name", "attention")}
    return {**key, **names, "noise": math.fsum(rows["noise"].to_pylist()) / rows.num_rows}


def _groups(rows: pa.Table, names: Sequence[str]) -> Iterable[tuple[dict[str, Any], pa.Table]]:
    """Groups rows by equal values of `names`, in order of these values; NaN equals NaN, as in Arrow's dictionaries."""
    if not rows.num_rows:
        return []
    codes = np.zeros(rows.num_rows, dtype=np.int64)
    for name in names:
        encoded = rows[name].combine_chunks().dictionary_encode(null_encoding="encode")
        codes = codes * len(encoded.dictionary) + encoded.indices.to_numpy(zero_copy_only=False)
        codes = np.unique(codes, return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    bounds = pairwise([*starts.tolist(), len(order)])
    groups = []
    for begin, end in bounds:
        part = rows.take(pa.array(order[begin:end]))
        groups.append(({name: part[name][0].as_py() for name in names}, part))
    return sorted(groups, key=lambda g: tuple(str(g[0][name]) for name in names))


def _site_id(site: dict[str, Any]) -> tuple[int, int, int]:
    return site["layer"], site["step"], site["head"]


def _count_failed_clips(scores: pa.Table) -> dict[str, int]:
    failed = scores.filter(pc.equal(scores["status"], "failed"))
    counts: dict[str, int] = {}
    for run in cast("list[str]", failed["run"].to_pylist()):
        counts[run] = counts.get(run, 0) + 1
    return counts
