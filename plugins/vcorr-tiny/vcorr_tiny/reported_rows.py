"""Reads the scores of several runs over the same clips and chooses the sites that a page reports.

A site is chosen on each half of the clips and reported on the other half (docs/statistics.md). So a row has two picks,
which are mostly the same site. All columns of a row are read at its picks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vcorr import StoreError
from vcorr.contract.variants import DEFAULT_VARIANT
from vcorr.stats.choice import cross_fit
from vcorr.stats.halves import Halves
from vcorr.stats.intervals import Bounded
from vcorr.stats.series import Series, series
from vcorr.stats.sites import SiteId
from vcorr.store.rundir import RunDirectory

MOVING = "matching_accuracy_moving"
"""The column by which sites are chosen and compared within a model."""
ALL_POINTS = "matching_accuracy"
ACROSS = "pck_8_moving"
"""The column by which models and baselines are compared, as gain."""
METRICS = (MOVING, ALL_POINTS, ACROSS)

Source = tuple[str, str]
"""Model and probe."""
QK: Source = ("tiny", "qk")
"""What every page is about. Its clips give the halves for all models."""


class Pick(NamedTuple):
    """A site of a model and probe; layer and step are -1 for a model without a network."""

    model: str
    probe: str
    layer: int
    step: int

    @property
    def source(self) -> Source:
        """Model and probe."""
        return self.model, self.probe


@dataclass(frozen=True)
class Results:
    """The series of all runs by (model, probe, metric), means over heads, all over the same clips."""

    series: Mapping[tuple[str, str, str], Series]

    def __post_init__(self) -> None:
        clips = {s.clips for s in self.series.values()}
        if len(clips) > 1:
            lacking = sorted(frozenset().union(*clips).difference(frozenset.intersection(*map(frozenset, clips))))
            raise StoreError(
                f"The runs have different clips, so they cannot be compared. Not all have {', '.join(lacking[:5])}.",
                hint="Run the same command again: failed clips are run again.",
            )
        self._check_content()

    def _check_content(self) -> None:
        """Checks that clips of one name have one content, as far as it is known. Generated videos have none.

        Raises:
            StoreError: two runs read different clips of one name.
        """
        seen: dict[str, tuple[str, Source]] = {}
        for (model, probe, _), s in self.series.items():
            for clip, content in zip(s.clips, s.content or (), strict=False):
                known, source = seen.setdefault(clip, (content, (model, probe))) if content else ("", ("", ""))
                if known != content and s.key.get("mode") != "generate":
                    raise StoreError(
                        f"Clip {clip} has another content for {probe} of {model} than for {source[1]} of {source[0]}.",
                        hint="The data changed between the runs: measure the older one again, with --reuse never.",
                    )

    def get(self, model: str, probe: str, metric: str = MOVING) -> Series:
        """Returns one series.

        Raises:
            StoreError: no run has it.
        """
        try:
            return self.series[model, probe, metric]
        except KeyError as error:
            raise StoreError(f"No run has {metric} of probe {probe!r} of model {model!r}.") from error

    @property
    def sources(self) -> list[Source]:
        """Every model and probe with the column that sites are chosen by, sorted."""
        return sorted((model, probe) for model, probe, metric in self.series if metric == MOVING)

    @property
    def still_clips(self) -> int:
        """The number of clips without moving points, which do not count in columns of moving points."""
        return int(np.isnan(self.get(*QK).score).all(axis=1).sum())

    @cached_property
    def halves(self) -> Halves:
        """The two halves of the clips, the same for all models."""
        return self.get(*QK).halves()

    def choose(self, sources: Sequence[Source], steps: Collection[int] | None = None) -> Row:
        """Chooses the best site of several probes together, by skill of moving points. steps: None for all steps.

        Raises:
            StoreError: a half of the clips has no site with a skill.
        """
        parts = [self.get(*source) for source in sources]
        picks = [Pick(*source, site["layer"], site["step"]) for source, s in _pairs(sources, parts) for site in s.sites]
        kept = [i for i, pick in enumerate(picks) if steps is None or pick.step in steps]
        joined = zip(*(s.rising for s in parts), strict=True)
        score, floor, ceiling = (np.concatenate(arrays, axis=1)[:, kept] for arrays in joined)
        found = cross_fit(score, floor, ceiling, self.halves)
        by_first, by_second = (None if site is None else picks[kept[site]] for site in found.chosen)
        if by_first is None or by_second is None:
            names = ", ".join(f"{probe} of {model}" for model, probe in sources)
            raise StoreError(f"No site of {names} has a skill by {MOVING} on both halves of the {len(score)} clips.")
        return Row(self, by_second, by_first, found.regret, found.held_out, max(found.tied))

    def select_clips(self, clips: Sequence[str]) -> Results:
        """Returns the results of the clips with these ids, which all runs have."""
        return Results({key: s.select_clips(clips) for key, s in self.series.items()})

    def choose_by(self, source: Source, choose: Callable[[Series, NDArray[np.int64]], tuple[int, int]]) -> Row:
        """Returns the row of the sites that `choose` returns as (layer, step), for the clips of a half (indices)."""
        by_first, by_second = (Pick(*source, *choose(self.get(*source), half)) for half in self.halves)
        return Row(self, by_second, by_first)


def _pairs(sources: Sequence[Source], parts: Sequence[Series]) -> Sequence[tuple[Source, Series]]:
    return list(zip(sources, parts, strict=True))


@dataclass(frozen=True)
class Row:
    """What a page reports: two picks, one for each half of the clips.

    on_first: reported on the clips of the first half and chosen on the second half. on_second: the reverse.
    regret: how much more skill the clips have at the sites that all other clips choose; NaN if it was not computed.
    held_out: False if there are too few clips for halves, so that every clip is reported at a site that it chose.
    tied: number of sites that are as good as a pick on the half that chose it, the pick included.
    """

    results: Results
    on_first: Pick
    on_second: Pick
    regret: float = math.nan
    held_out: bool = True
    tied: int = 1

    def scores(self, metric: str = MOVING) -> Bounded:
        """Returns a column of the row: scores, floors and ceilings, (clips,) each, every clip at its pick."""
        parts = [np.full(len(self._series(self.on_first, metric).clips), np.nan) for _ in range(3)]
        for half, pick in zip(self.results.halves, (self.on_first, self.on_second), strict=True):
            s = self._series(pick, metric)
            column = _column(s, pick)
            for part, array in zip(parts, s.rising, strict=True):
                part[half] = array[half, column]
        return Bounded(*parts)

    def at_probe(self, probe: str) -> Row:
        """Returns the row of another probe at the same sites."""
        return self._with(probe=probe)

    def at_step(self, step: int) -> Row:
        """Returns the row of the same layers at another step."""
        return self._with(step=step)

    def _with(self, **changes: Any) -> Row:
        return replace(self, on_first=self.on_first._replace(**changes), on_second=self.on_second._replace(**changes))

    @property
    def picks(self) -> tuple[Pick, ...]:
        """The picks without repetition."""
        return tuple(dict.fromkeys((self.on_first, self.on_second)))

    def _series(self, pick: Pick, metric: str) -> Series:
        return self.results.get(*pick.source, metric)


def _column(s: Series, pick: Pick) -> int:
    site = SiteId(pick.layer, pick.step)
    column = s.column_of(site)
    if column is None:
        raise StoreError(f"{s.key['probe']} of {s.key['model']} was not read at {site}.")
    return column


def read_results(found: Iterable[RunDirectory], metrics: tuple[str, ...] | None = METRICS) -> Results:
    """Returns the series of several runs; None for all metrics.

    Raises:
        StoreError: two runs have the same probe of a model, or their clips differ.
    """
    series_: dict[tuple[str, str, str], Series] = {}
    runs: dict[Source, Path] = {}
    for run in found:
        for s in read_run(run, metrics):
            source = s.key["model"], s.key["probe"]
            if runs.setdefault(source, run.path) != run.path:
                raise StoreError(
                    f"{runs[source]} and {run.path} both have {source[1]} of {source[0]}.",
                    hint="Move one of them away.",
                )
            series_[*source, s.key["metric"]] = s
    return Results(series_)


@functools.cache
def read_run(run: RunDirectory, metrics: Collection[str] | None = None) -> tuple[Series, ...]:
    """Returns the series of a finished run in the default variant, means over heads. A run is read once.

    metrics: a tuple of columns; None for all.
    """
    return tuple(
        parts["mean"]
        for s in series(run.read("scores"))
        if s.variant_text == DEFAULT_VARIANT.text and (metrics is None or s.key["metric"] in metrics)
        for parts in [s.by_heads()]
        if "mean" in parts
    )
