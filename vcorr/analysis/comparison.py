"""Compares two stored runs on their common clips (docs/statistics.md). Needs no model and no torch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from vcorr.analysis.comparable import (
    check_comparable,
    earlier_scoring_note,
    read_measured_on,
    settings_apart,
    stride_note,
)
from vcorr.analysis.stored_scores import RunFacts, StoredScores, load_scores
from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.metric_columns import MAIN_METRIC, MOVING, STRATUM_MARK, choose_main, is_main, lower_is_better
from vcorr.stats.paired import (
    Candidates,
    NothingScored,
    NothingToChooseBy,
    PairedRow,
    correct_families,
    name_site_flags,
    pair,
    sides_by_heads,
)
from vcorr.stats.series import Series, natural, series
from vcorr.stats.sites import SiteId, parse_site
from vcorr.store.rundir import RunDirectory

DIRECT = "direct"
"""Probe name of models that predict without attention. It is compared with every probe."""


@dataclass(frozen=True)
class Question:
    """What to compare.

    metrics: names or patterns such as "pck_*"; empty for all metrics that both runs have, except strata. probe: a name
    for both sides, "A:B" for one name per side, or "" for all probes that both have. sites_a, sites_b:
    LAYER:STEP[:HEAD]. Both sides give the same number of sites, or one side gives a single site for all. clips: the
    ids that count; None for all that have scores in both.
    """

    metrics: tuple[str, ...] = ()
    probe: str = ""
    sites_a: tuple[str, ...] = ()
    sites_b: tuple[str, ...] = ()
    clips: tuple[str, ...] | None = None


@dataclass(frozen=True)
class LeftOut:
    """A comparison that is not possible, and the reason.

    unscored: no clip has a score on both sides, at any site. flags: the flags that give the sites of both sides, where
    that helps.
    """

    metric: str
    probe: str
    reason: str
    unscored: bool = False
    flags: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two runs, paired.

    settings: what else differs between the runs, name to (A, B). clips: ids that have scores in both. rows: one per
    metric, variant, pair of probes and kind of heads. notes: sentences that a reader must see. lower_is_better: the
    metrics of rows in which a lower value is better.
    """

    a: RunFacts
    b: RunFacts
    settings: dict[str, tuple[Any, Any]]
    clips: tuple[str, ...]
    rows: tuple[PairedRow, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    lower_is_better: tuple[str, ...] = ()

    def only_in(self, side: RunFacts) -> tuple[str, ...]:
        """Returns the clips that have scores on this side only."""
        return tuple(clip for clip in side.clips if clip not in set(self.clips))


class _Key(NamedTuple):
    metric: str
    variant: str
    probe: str
    tracker: str


def compare_runs(a: RunDirectory, b: RunDirectory, question: Question | None = None) -> Comparison:
    """Compares two runs.

    Raises:
        UsageError: they cannot be compared (the message names both sides), or do not have what was requested.
        StoreError: a run is damaged or has no scores.
    """
    asked = question or Question()
    sites = [_sites("--site-a", asked.sites_a), _sites("--site-b", asked.sites_b)]
    check_comparable(
        a, b, *(read_measured_on(run, run.record(), {}) for run in (a, b))
    )  # before millions of rows are read
    wanted = _select_columns(asked.metrics)
    sides = [load_scores(run, wanted) for run in (a, b)]
    check_comparable(a, b, *(side.read_measured_on() for side in sides))
    _check_known(asked.metrics, sides)
    clips = _in_common(sides, asked)
    found = [_series_by_key(side) for side in sides]
    rows, left_out = _rows(found, _site_pairs(*sites), asked, clips)
    if not rows:
        raise _nothing(sides, found, left_out)
    left_out += _on_one_side(sides, found, asked)
    return Comparison(
        a=sides[0].facts,
        b=sides[1].facts,
        settings=settings_apart(a, b),
        clips=clips,
        rows=tuple(rows),
        left_out=tuple(left_out),
        notes=tuple(_notes(sides)),
        lower_is_better=tuple(sorted({row.metric for row in rows} & lower_is_better(a.record()), key=natural)),
    )


def _in_common(sides: Sequence[StoredScores], asked: Question) -> tuple[str, ...]:
    a, b = (side.facts for side in sides)
    common = tuple(sorted(set(a.clips) & set(b.clips)))
    if asked.clips is not None:
        common = tuple(clip for clip in common if clip in set(asked.clips))
    if not common:
        raise UsageError(
            f"The two runs have no clip in common: {a.run} has {_few(a.clips)}; {b.run} has {_few(b.clips)}.",
            hint="Run both on the same clips: the same --data and split, and --limit alike.",
        )
    return common


def _few(ids: Sequence[str]) -> str:
    return ", ".join(ids[:3]) + (f" … {ids[-1]} ({len(ids)})" if len(ids) > 3 else "") if ids else "none with scores"


# -------------------------------------------------------------------------------------------------- what is requested


def _select_columns(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Returns a test for the columns to read: the requested ones, and the metrics whose strata are requested.

    The latter are needed to choose sites.
    """
    if not patterns:
        return lambda name: STRATUM_MARK not in name
    bases = tuple(pattern.split(STRATUM_MARK)[0] for pattern in patterns)
    return lambda name: is_main(name) or _matches(name, (*patterns, *bases))


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_known(patterns: Sequence[str], sides: Sequence[StoredScores]) -> None:
    common = sides[0].metrics & sides[1].metrics
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in common):
            one = [side.facts.run for side in sides if any(fnmatchcase(name, pattern) for name in side.metrics)]
            if one:
                raise UsageError(
                    f"Only run {one[0]} was scored by {pattern!r}.",
                    hint="Score both alike: vcorr score RUN_A RUN_B --set metrics=…",
                )
            if STRATUM_MARK in pattern and not any(STRATUM_MARK in name for name in common):
                raise UsageError(
                    f"The two runs were not scored by strata, as {pattern!r} asks for.",
                    hint="Score both: vcorr score RUN_A RUN_B --set metrics=matching_accuracy,strata",
                )
            listing = ", ".join(sorted(common, key=natural))
            raise unknown_name("metric", pattern, common, hint=f"Both runs have: {listing}.")


def _sites(flag: str, texts: Sequence[str]) -> list[SiteId]:
    try:
        return [parse_site(text) for text in texts]
    except UsageError as error:
        raise UsageError(f"{flag}: {error.message}", hint=error.hint) from error


def _site_pairs(a: list[SiteId], b: list[SiteId]) -> list[tuple[SiteId | None, SiteId | None]]:
    length = max(len(a), len(b), 1)
    if {len(a), len(b)} - {0, 1, length}:
        raise UsageError(
            f"{len(a)} sites of A and {len(b)} of B cannot be paired.",
            hint="Give --site-a and --site-b equally often, or one of them once.",
        )
    left, right = (_repeat(sites, length) for sites in (a, b))
    return list(zip(left, right, strict=True))


def _repeat(sites: Sequence[SiteId], length: int) -> Sequence[SiteId | None]:
    if not sites:
        return [None] * length
    return list(sites) * (length if len(sites) == 1 else 1)


# ---------------------------------------------------------------------------------------------------------------- rows


def _rows(
    found: Sequence[dict[_Key, Series]],
    sites: Sequence[tuple[SiteId | None, SiteId | None]],
    asked: Question,
    clips: Sequence[str],
) -> tuple[list[PairedRow], list[LeftOut]]:
    rows: list[PairedRow] = []
    left_out: list[LeftOut] = []
    for key_a, key_b in _key_pairs(found, asked):
        label = key_a.probe if key_a.probe == key_b.probe else f"{key_a.probe}:{key_b.probe}"
        for site_a, site_b in sites:
            parts = sides_by_heads(found[0][key_a], found[1][key_b], site_a, site_b)
            if not parts:
                reason = "one side has the mean over heads alone, the other single heads"
                left_out.append(LeftOut(key_a.metric, label, reason, flags=_FLAGS_OF_BOTH))
            for heads, (part_a, part_b) in parts.items():
                a = Candidates(part_a, _choosing_series(part_a, key_a, found[0], heads), site_a)
                b = Candidates(part_b, _choosing_series(part_b, key_b, found[1], heads), site_b)
                try:
                    rows.append(pair(a, b, _clips_of(part_a, part_b, clips), heads))
                except NothingScored as nothing:
                    left_out.append(LeftOut(key_a.metric, label, str(nothing), unscored=True))
                except NothingToChooseBy as nothing:
                    left_out.append(LeftOut(key_a.metric, label, str(nothing), flags=name_site_flags(a, b)))
    return correct_families(rows), list(dict.fromkeys(left_out))


def _key_pairs(found: Sequence[dict[_Key, Series]], asked: Question) -> list[tuple[_Key, _Key]]:
    """Returns the pairs of series of A and B that belong together."""
    probe_a, colon, probe_b = asked.probe.partition(":")
    if colon and not (probe_a and probe_b):
        raise UsageError(
            f"--probe {asked.probe!r} names a probe for only one of the two runs.",
            hint="Write --probe P, or --probe A:B, such as qk:feature.",
        )
    _check_probes(found, (probe_a, probe_b or probe_a))
    pairs = []
    for a in found[0]:
        if not _matches(a.metric, asked.metrics):
            continue
        for b in found[1]:
            same = (a.metric, a.variant, a.tracker) == (b.metric, b.variant, b.tracker)
            if same and _belong(a.probe, b.probe, probe_a, probe_b or probe_a):
                pairs.append((a, b))
    return sorted(pairs, key=lambda keys: (*_rank(keys[0].metric), *keys[0][1:], *keys[1][1:]))


def _rank(metric: str) -> tuple[Any, ...]:
    """Returns a key that sorts columns: the main metric first, each column after its twin for moving points."""
    whole, _, stratum = metric.partition(STRATUM_MARK)
    base = whole.removesuffix(MOVING)
    return base != MAIN_METRIC, natural(base), natural(stratum), base == whole


def _on_one_side(sides: Sequence[StoredScores], found: Sequence[dict[_Key, Series]], asked: Question) -> list[LeftOut]:
    """Returns the probes and the metrics that only one run has, where the question did not choose them."""
    reasons = []
    for side, other, keys, others in zip(sides, reversed(sides), found, reversed(found), strict=True):
        only = f"only run {side.facts.run} has it" if side.facts.run != other.facts.run else "only one side has it"
        probes = {key.probe for key in keys} - {key.probe for key in others} - {DIRECT}
        if not asked.probe and DIRECT not in {key.probe for key in others}:
            reasons += [LeftOut("all metrics", probe, only) for probe in sorted(probes)]
        metrics = {key.metric for key in keys} - {key.metric for key in others}
        if not asked.metrics:
            reasons += [LeftOut(metric, "all probes", only) for metric in sorted(metrics, key=natural)]
    return reasons


def _belong(a: str, b: str, probe_a: str, probe_b: str) -> bool:
    if probe_a:
        return a in (probe_a, DIRECT) and b in (probe_b, DIRECT)
    return a == b or DIRECT in (a, b)


def _check_probes(found: Sequence[dict[_Key, Series]], probes: tuple[str, str]) -> None:
    for side, keys, probe in zip("AB", found, probes, strict=True):
        known = {key.probe for key in keys}
        if probe and probe not in known and known != {DIRECT}:
            raise unknown_name(f"probe of run {side}", probe, known, hint=f"It has: {', '.join(sorted(known))}.")


def _choosing_series(part: Series, key: _Key, found: dict[_Key, Series], heads: str) -> tuple[Series, ...]:
    """Returns the series that may choose the sites of a side, in order: all columns are reported at the same sites.

    First comes the main column of the run, then the main column over all points. Where a probe has neither, a metric is
    chosen by itself. A stratum never chooses.
    """
    alike = {k.metric: s for k, s in found.items() if k._replace(metric="") == key._replace(metric="")}
    main = choose_main([name for name in alike if STRATUM_MARK not in name])
    names = dict.fromkeys((main, main.removesuffix(MOVING), key.metric.split(STRATUM_MARK)[0]))
    return tuple(alike[name].by_heads().get(heads, alike[name]) for name in names if name in alike) or (part,)


def _clips_of(a: Series, b: Series, clips: Sequence[str]) -> list[str]:
    both = set(a.clips) & set(b.clips)
    return [clip for clip in clips if clip in both]


def _series_by_key(side: StoredScores) -> dict[_Key, Series]:
    lower = lower_is_better(side.directory.record())
    return {_key(s): s for s in series(side.scores, lower=lower)}


def _key(s: Series) -> _Key:
    return _Key(s.key["metric"], s.variant_text, s.key["probe"], s.key["tracker"])


# --------------------------------------------------------------------------------------------------------------- words


def _nothing(
    sides: Sequence[StoredScores], found: Sequence[dict[_Key, Series]], left_out: Sequence[LeftOut]
) -> UsageError:
    if left_out:
        first = left_out[0]
        return UsageError(
            f"Nothing could be compared. {first.metric}, {first.probe}: {first.reason}.",
            hint=_way_to_score(first.metric) if first.unscored else f"Give what has to be chosen: {first.flags}",
        )
    said = []
    for side, keys in zip(sides, found, strict=True):
        listed = {name: sorted({getattr(key, name) for key in keys}) for name in ("variant", "probe", "metric")}
        words = "; ".join(f"{name} {', '.join(values) or 'none'}" for name, values in listed.items())
        said.append(f"{side.facts.run} has {words}")
    return UsageError(
        f"The two runs have no metric, variant and probe in common: {'. '.join(said)}.", hint=_way_to_compare(*found)
    )


_FLAGS_OF_BOTH = "--site-a LAYER:STEP[:HEAD] --site-b LAYER:STEP[:HEAD]"


def _way_to_score(metric: str) -> str:
    """Returns what to type if no site of a metric has a score on both sides."""
    base, mark, _ = metric.partition(STRATUM_MARK)
    if not mark:
        return "Compare another metric: vcorr show run RUN lists what a run has."
    return f"Compare another stratum: vcorr show run RUN --metric '{base}{mark}*' lists the clips of each."


def _way_to_compare(a: Collection[_Key], b: Collection[_Key]) -> str:
    """Returns what to type if two runs have nothing in common: other probes of one metric can be named."""
    for first in a:
        for second in b:
            if first._replace(probe="") == second._replace(probe=""):
                return f"Two different probes are compared with --probe A:B, as in --probe {first.probe}:{second.probe}"
    return "vcorr score RUN_A RUN_B scores both runs alike, as far as they have a probe in common."


def _notes(sides: Sequence[StoredScores]) -> list[str]:
    notes = [
        f"{name}: random weights ({side.facts.weights}). Its numbers say nothing about a released model."
        for name, side in zip("AB", sides, strict=True)
        if side.facts.is_random
    ]
    notes += [
        f"{name}: the run is {side.facts.status}."
        for name, side in zip("AB", sides, strict=True)
        if side.facts.status != "complete"
    ]
    notes += [
        f"{name}: {note}"
        for name, side in zip("AB", sides, strict=True)
        for note in earlier_scoring_note(side.directory.place, side.directory.record())
    ]
    return notes + stride_note(*(side.directory for side in sides))
