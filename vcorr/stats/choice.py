"""Chooses layers, steps and heads on each half of the clips and reports them on the other (docs/statistics.md)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.noun_counts import say_count
from vcorr.stats.halves import Halves
from vcorr.stats.intervals import Bounded, Floats, skill
from vcorr.stats.series import Series

MIN_CLIPS_FOR_HALVES = 4
"""With fewer scored clips there are no halves to choose on: all clips choose a site, and report it."""
LUCKY_REGRET = "A regret below 0 is luck: by chance, the halves chose better than all other clips did."
"""The note on a negative regret. A table without a column of regrets leaves it out."""
NOWHERE = -1
"""In `CrossFit.reports`: the clip is reported at no site."""
_TIED = 1e-9
"""Values closer than this share of the largest one are equally good: sums of the same numbers differ by rounding."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class CrossFit:
    """A cross-fitted choice of sites: each half of the clips chooses one, and the other half reports it.

    So every clip is reported, and none at a site that it chose.

    clips: ids of the clips. sites: names of the sites. Both are in the order of the arrays that chose.
    halves: indices of the clips of the two halves.
    chosen: index of the site that the first half chose, and of the site that the second half chose. None where a half
    has nothing to choose by; the clips of the other half are then reported nowhere.
    held_out: False for a single site, and if there are too few clips for halves: all clips then choose and report.
    pooled: score, floor and ceiling of each clip at its site, (clips,) each.
    regret: how much better the clips would be reported at the sites that all other clips choose. For each clip, that is
    the site that is best on all clips but this one. It is a difference of skills of pooled clips, or of mean scores if
    there are no floors and ceilings. No clip takes part in a choice that it is reported for. So luck does not raise
    it, and it can be slightly negative. 0 for a single site; NaN if no clips are held out or one half chose nothing.
    candidates: number of sites that could be chosen.
    incomplete: number of further sites with scores. They lack clips that most sites have, so they do not compare.
    tied: number of candidates that are as good as the chosen site, itself included, on the first half and the second.
    """

    clips: tuple[str, ...]
    sites: tuple[Hashable, ...]
    halves: Halves
    chosen: tuple[int | None, int | None]
    held_out: bool
    pooled: Bounded
    regret: float
    candidates: int
    incomplete: int
    tied: tuple[int, int]

    @property
    def reports(self) -> Ints:
        """The index of the site at which each clip is reported, (clips,); `NOWHERE` for none."""
        return _sites_of_clips(self.halves, self.chosen)

    @property
    def is_empty(self) -> bool:
        """Whether neither half chose a site."""
        return self.chosen == (None, None)

    @property
    def differs(self) -> bool:
        """Whether the two halves chose different sites."""
        return None not in self.chosen and self.chosen[0] != self.chosen[1]

    @property
    def all_tied(self) -> bool:
        """Whether all candidates are equally good on both halves, so that the first is shown without being better."""
        return self.candidates > 1 and set(self.tied) == {self.candidates}

    @property
    def chosen_on(self) -> int:
        """The number of clips of the smaller half; 0 if no clips are held out."""
        return min(map(len, self.halves)) if self.held_out else 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know about the choice, a sentence each: too few clips, ties, sites that were left out."""
        return tuple(_describe(self)) if len(self.sites) > 1 else ()

    def report(self, scores: Bounded | Series) -> Bounded:
        """Returns score, floor and ceiling of each clip at the site that it did not choose, (clips,) each.

        Args:
            scores: arrays (clips, sites) in the order of `clips` and `sites`; or another series of the same run, such
                as another metric, threshold or stratum. A series is matched by the ids of its clips and sites. Values
                that it lacks are NaN.

        Raises:
            UsageError: arrays have another shape.
        """
        if isinstance(scores, Series):
            return self._report_series(scores)
        shape = len(self.clips), len(self.sites)
        arrays = [np.asarray(part, dtype=np.float64) for part in scores]
        if any(array.shape != shape for array in arrays):
            raise UsageError(f"scores: expected (clips, sites) = {shape}, got {[array.shape for array in arrays]}.")
        return _pick(arrays, np.arange(shape[0]), self.reports)

    def _report_series(self, s: Series) -> Bounded:
        line = {clip: i for i, clip in enumerate(s.clips)}
        column: dict[Hashable, int] = {site: i for i, site in enumerate(s.site_ids)}
        lines = [line.get(clip, NOWHERE) for clip in self.clips]
        columns = [NOWHERE if site == NOWHERE else column.get(self.sites[site], NOWHERE) for site in self.reports]
        return _pick([s.score, s.floor, s.ceiling], np.array(lines, dtype=np.int64), np.array(columns, dtype=np.int64))


def choose_sites(s: Series) -> CrossFit:
    """Chooses the sites of a series by skill, cross-fitted on the halves of its clips; see `cross_fit`."""
    return cross_fit(s.score, s.floor, s.ceiling, s.halves(), not s.lower_is_better, clips=s.clips, sites=s.site_ids)


def cross_fit(
    score: ArrayLike,
    floor: ArrayLike | None,
    ceiling: ArrayLike | None,
    halves: Halves,
    higher_is_better: bool = True,
    *,
    clips: Sequence[str] | None = None,
    sites: Sequence[Hashable] | None = None,
) -> CrossFit:
    """Chooses the best site on each half of the clips, and reports each clip at the site that the other half chose.

    Sites are compared by skill if floor and ceiling are given, else by their mean score. Of equally good sites the
    first is chosen. All sites are compared on the same clips: on the clips that more than half of the sites have. A
    site that lacks one of these clips is no candidate. If no site has them all, sites are compared on the clips that
    every site has.

    With fewer than `MIN_CLIPS_FOR_HALVES` such clips, all of them choose one site, which flatters: `held_out` is then
    False. A single site needs no choice: all clips report it.

    Args:
        score: (clips, sites), NaN where not scored.
        floor: (clips, sites); given with `ceiling` or not at all.
        ceiling: (clips, sites).
        halves: as `split_clips` or `Series.halves` returns them.
        higher_is_better: False for errors. Score, floor and ceiling then change their signs in the formula of skill.
        clips: ids of the clips; None for their numbers.
        sites: names of the sites, such as `SiteId`; None for their indices.

    Raises:
        UsageError: shapes do not fit together, or the halves are not halves of these clips.
    """
    arrays = _check(score, floor, ceiling, halves)
    rising = arrays if higher_is_better else [-array for array in arrays]
    total, width = arrays[0].shape
    compared, candidates, incomplete = _find_comparable(rising)
    held_out = width > 1 and len(compared) >= MIN_CLIPS_FOR_HALVES
    choosing = [np.intersect1d(half, compared) if held_out else compared for half in halves]
    first, second = (_Pick(0, 1) if width == 1 else _choose(rising, clips, candidates) for clips in choosing)
    chosen = (first.site, second.site)
    reports = _sites_of_clips(halves, chosen)
    regret = math.nan if width > 1 else 0.0
    if held_out and None not in chosen:
        regret = _regret(rising, compared, candidates, reports)
    return CrossFit(
        clips=tuple(clips if clips is not None else map(str, range(total))),
        sites=tuple(sites if sites is not None else range(width)),
        halves=halves,
        chosen=chosen,
        held_out=held_out,
        pooled=_pick(_with_bounds(arrays), np.arange(total), reports),
        regret=regret,
        candidates=len(candidates),
        incomplete=incomplete,
        tied=(first.tied, second.tied),
    )


@dataclass(frozen=True)
class _Pick:
    """The site that some clips chose, and how many candidates are as good on these clips."""

    site: int | None
    tied: int


def _find_comparable(arrays: list[Floats]) -> tuple[Ints, Ints, int]:
    """Returns the clips on which sites are compared, the sites that have them all, and how many more have scores."""
    scored = np.logical_and.reduce([np.isfinite(array) for array in arrays])
    used = np.flatnonzero(scored.any(axis=0))
    scored = scored[:, used]
    clips = np.flatnonzero(2 * scored.sum(axis=1) > len(used))
    complete = scored[clips].all(axis=0)
    if not complete.any():
        clips = np.flatnonzero(scored.all(axis=1)) if len(used) else clips
        complete = np.ones(len(used), dtype=np.bool_)
    return clips, used[complete], int((~complete).sum())


def _choose(arrays: list[Floats], clips: Ints, candidates: Ints) -> _Pick:
    if not len(clips) or not len(candidates):
        return _Pick(None, 0)
    best = _find_best(_values([array[np.ix_(clips, candidates)].mean(axis=0) for array in arrays]))
    return _Pick(int(candidates[best[0]]), len(best)) if len(best) else _Pick(None, 0)


def _regret(arrays: list[Floats], clips: Ints, candidates: Ints, reports: Ints) -> float:
    """Returns the value at the sites that all other clips choose, minus the value at the sites that are reported."""
    sums = [array[np.ix_(clips, candidates)].sum(axis=0) for array in arrays]
    wished = np.full(len(reports), NOWHERE)
    for clip in clips:
        others = [
            (total - array[clip, candidates]) / (len(clips) - 1) for total, array in zip(sums, arrays, strict=True)
        ]
        best = _find_best(_values(others))
        wished[clip] = candidates[best[0]] if len(best) else NOWHERE
    at_wished, at_reported = (_stack_at(arrays, sites) for sites in (wished, reports))
    used = np.isfinite(at_wished + at_reported).all(axis=0)
    if not used.any():
        return math.nan
    return float(_values([*at_wished[:, used].mean(axis=1)]) - _values([*at_reported[:, used].mean(axis=1)]))


def _stack_at(arrays: list[Floats], sites: Ints) -> Floats:
    """Returns the values of each clip at its site, (arrays, clips)."""
    picked = _pick(_with_bounds(arrays), np.arange(len(sites)), sites)
    return np.array([np.asarray(part) for part in picked[: len(arrays)]])


def _describe(fit: CrossFit) -> Iterator[str]:
    """Yields what a reader must know about a choice."""
    if not fit.held_out:
        scored = int(np.isfinite(np.asarray(fit.pooled.score)).sum())
        yield (
            f"{say_count(scored, 'clip')} with scores: too few to choose on one half and report on the other. "
            "The same clips choose the site and report it, so its score tends to be too high."
        )
    elif None in fit.chosen:
        silent = int((fit.reports == NOWHERE).sum())
        others = say_count(silent, "clip")
        yield f"Only one half of the clips can choose a site. The {others} of this half are reported nowhere."
    if fit.all_tied:
        yield f"All {fit.candidates} sites are equally good: the first one is shown."
    elif max(fit.tied) > 1:
        yield f"{max(fit.tied)} sites are equally good on the clips that choose: the first of them is taken."
    if fit.incomplete:
        verb = "site lacks" if fit.incomplete == 1 else "sites lack"
        yield f"{fit.incomplete} {verb} clips that most sites have, and could not be chosen."
    if fit.regret < 0:
        yield LUCKY_REGRET


def _values(means: Sequence[ArrayLike]) -> Floats:
    """Returns skills from three means, or the means of the scores themselves."""
    return skill(*means) if len(means) == 3 else np.asarray(means[0])


def _find_best(values: Floats) -> Ints:
    """Returns the indices of the best values (sites,), which are equal but for rounding; none if all are NaN."""
    known = np.isfinite(values)
    if not known.any():
        return np.empty(0, dtype=np.int64)
    largest = values[known].max()
    margin = _TIED * np.abs(values[known]).max()
    return np.flatnonzero(known & (values >= largest - margin))


def _sites_of_clips(halves: Halves, chosen: tuple[int | None, int | None]) -> Ints:
    """Returns the site of each clip, which the half without the clip chose."""
    found = np.full(sum(map(len, halves)), NOWHERE)
    for half, site in zip(halves, reversed(chosen), strict=True):
        found[half] = NOWHERE if site is None else site
    return found


def _pick(arrays: Sequence[Floats], clips: Ints, sites: Ints) -> Bounded:
    """Returns the values of arrays (C, S) at (clips, sites), NaN where one of the indices is `NOWHERE`."""
    there = (clips != NOWHERE) & (sites != NOWHERE)
    picked = [np.full(len(clips), np.nan) for _ in arrays]
    for values, array in zip(picked, arrays, strict=True):
        values[there] = array[clips[there], sites[there]]
    return Bounded(*picked)


def _with_bounds(arrays: list[Floats]) -> list[Floats]:
    """Returns score, floor and ceiling; the last two are NaN if they are not there."""
    return arrays if len(arrays) == 3 else [arrays[0], *(np.full_like(arrays[0], np.nan) for _ in range(2))]


def _check(score: ArrayLike, floor: ArrayLike | None, ceiling: ArrayLike | None, halves: Halves) -> list[Floats]:
    if (floor is None) != (ceiling is None):
        raise UsageError("floor and ceiling: give both, for skill, or neither.")
    arrays = [np.asarray(value, dtype=np.float64) for value in (score, floor, ceiling) if value is not None]
    shapes = [array.shape for array in arrays]
    if arrays[0].ndim != 2 or len(set(shapes)) > 1 or not arrays[0].size:
        raise UsageError(f"score: expected (clips, sites), and floor and ceiling alike, got {shapes}.")
    if sorted(np.concatenate(halves).tolist()) != list(range(len(arrays[0]))):
        raise UsageError(f"halves: expected each of {len(arrays[0])} clips in one half.")
    return arrays
