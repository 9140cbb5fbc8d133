"""Ceilings: the largest share of hits that a read-out can reach (docs/protocol.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.hit_rules import HitRule
from vcorr.contract.records import Readout
from vcorr.contract.variants import Switches, Variant, switches_of
from vcorr.metrics.hit_distances import Floats
from vcorr.metrics.hit_search import most_hits
from vcorr.metrics.hit_windows import Bounds, Counts, Jobs, Ruler, Windows, find_bounds, make_windows
from vcorr.metrics.query_frames import query_frames
from vcorr.metrics.ranged_hits import find_ranged_bounds
from vcorr.metrics.reachable import Chains, Ints, field_slack, field_values, token_slack, token_values
from vcorr.metrics.timemap import FrameMap, frame_map

READOUTS = ("token", "free")

CeilingKind = Literal["token_maximum", "field_maximum", "field_bound", "free"]

SIDES = (1, 3, 5)
"""Sides of the windows of positions that are tried first, in values per axis; most points need the first or second."""
_MOST_WORK = 200_000
"""Pairs of positions that are held at once per frame: small enough for the caches of a processor."""
_SEARCHED_AT_ONCE = 64


@dataclass(frozen=True)
class Ceilings:
    """The ceilings of some columns. values: in [0, 1] by column, NaN without pairs. kind: what they are."""

    values: Mapping[str, float]
    kind: CeilingKind


def find_ceilings(
    rules: Mapping[str, HitRule],
    reference: Floats,
    queries: ArrayLike,
    grid: TokenGrid,
    *,
    query_frame: ArrayLike = 0,
    readout: Readout = "token",
    variant: Variant = "corrected",
) -> Ceilings:
    """Returns the largest share of hits of each column, over everything that the read-out could have predicted.

    Every point and every column is taken by itself. At each latent time the read-out can give certain positions; in the
    latent that covers the query's frame, the query. All sequences of them count, mapped to frames as predictions are.
    No prediction can have more hits. Points that share a token are answered together, so a ceiling may be out of reach.

    Read-out "token" gives query + centre(y) - centre(x*), where x* is the token under the query and y any token.

    Under difftrack the read-out "token" is a sampled field: a weighted sum of four tokens, each any token of the grid.
    Where the four weights make more than 128 values of x or y (`reachable.MOST_VALUES`), the kind is "field_bound": an
    upper bound, for which any value between the least and the largest counts (`ranged_hits`).

    Read-out "free" gives any position, so the ceiling is 1.

    Args:
        rules: which pairs count for each column, and which of them are hits.
        reference: (N, T, 2) pixels, T being the grid's number of video frames; finite where pairs count.
        queries: (N, 2) pixels, inside the frame.
        grid: the grid that the predictions were read from.
        query_frame: video frame of all queries, or (N,) the frame of each.
        readout: "token" or "free".
        variant: "corrected", "difftrack" or `Switches` (`readout`, `time_map`).

    Raises:
        UsageError: the shapes do not fit together, a query lies outside the frame, no latent covers its frame, or the
            read-out is unknown.
    """
    if readout not in READOUTS:
        raise unknown_name("readout", str(readout), READOUTS)
    points = grid.check_inside(queries).astype(np.float32)
    _check(rules, reference, (len(points), grid.video_frames))
    if readout == "free":
        return Ceilings({column: _share(int(rule.counted.sum()), rule) for column, rule in rules.items()}, "free")
    switches = switches_of(variant)
    asked_in = query_frames(query_frame, len(points), grid.video_frames)
    chains = _make_chains(reference, points, asked_in, grid, switches)
    hits = _most_hits(rules, chains, asked_in if switches.time_map == "centres" else None)
    return Ceilings({column: _share(count, rules[column]) for column, count in hits.items()}, _kind(chains, switches))


def _check(rules: Mapping[str, HitRule], reference: Floats, shape: tuple[int, int]) -> None:
    if reference.shape != (*shape, 2):
        raise UsageError(f"reference: expected shape (N, T, 2) = {(*shape, 2)}, got {reference.shape}.")
    for column, rule in rules.items():
        if rule.counted.shape != shape:
            raise UsageError(f"{column}: expected counted of shape (N, T) = {shape}, got {rule.counted.shape}.")
        if not np.isfinite(reference[rule.counted]).all():
            raise UsageError(f"{column}: the reference is NaN or infinite at a pair that counts.")


def _share(hits: int, rule: HitRule) -> float:
    pairs = int(np.count_nonzero(rule.counted))
    return hits / pairs if pairs else float("nan")


def _kind(chains: Chains, switches: Switches) -> CeilingKind:
    if switches.readout == "token":
        return "token_maximum"
    return "field_bound" if any(values.many.any() for values in chains.axes) else "field_maximum"


def _make_chains(
    reference: Floats, queries: NDArray[np.float32], asked_in: Ints, grid: TokenGrid, switches: Switches
) -> Chains:
    times = frame_map(grid, variant=switches)
    token = switches.readout == "token"
    return Chains(
        (token_values if token else field_values)(grid, queries),
        queries,
        grid.latents_at(asked_in),
        reference,
        _near(reference, queries, times, grid.frames),
        times,
        token_slack(grid) if token else field_slack(grid),
    )


def _near(reference: Floats, queries: NDArray[np.float32], times: FrameMap, latents: int) -> NDArray[np.float64]:
    """Returns about where the reference is at the latent times, (N, F, 2); frames without a position are left out."""
    place, frames = times.before + times.fraction, np.arange(reference.shape[1])
    at = np.interp(np.arange(latents), place, frames)
    found = np.empty((len(queries), latents, 2))
    for track, query, near in zip(reference, queries, found, strict=True):
        known = np.isfinite(track).all(axis=1)
        for axis in range(2):
            near[:, axis] = np.interp(at, frames[known], track[known, axis]) if known.any() else query[axis]
    return found


def _most_hits(rules: Mapping[str, HitRule], chains: Chains, given: Ints | None) -> dict[str, int]:
    """Returns the largest number of hits of every column. given: (N,) the frames in which the query itself counts."""
    by_ruler: dict[Ruler, list[str]] = {}
    for column, rule in rules.items():
        by_ruler.setdefault(Ruler(rule.limit, rule.unit, rule.single, chains.slack), []).append(column)
    found: dict[str, int] = {}
    for ruler, columns in by_ruler.items():
        counted = np.stack([rules[column].counted for column in columns])
        fixed = np.zeros(counted.shape[:2], np.int64)
        if given is not None:
            fixed, counted = _take_given(counted, chains, ruler, given)
        best = fixed + _most_of_points(chains, counted, ruler)
        found.update(zip(columns, best.sum(axis=1).tolist(), strict=True))
    return {column: found[column] for column in rules}


def _take_given(
    counted: NDArray[np.bool_], chains: Chains, ruler: Ruler, frames: Ints
) -> tuple[Ints, NDArray[np.bool_]]:
    """Returns the hits in the frames of the queries, (C, N), and `counted` without these frames, (C, N, T)."""
    points = np.arange(len(frames))
    x, y = (ruler.squares(chains.queries[:, axis], chains.reference[points, frames, axis], axis) for axis in range(2))
    fixed = (counted[:, points, frames] & ruler.hits(x, y)).astype(np.int64)
    others = counted.copy()
    others[:, points, frames] = False
    return fixed, others


def _most_of_points(chains: Chains, counted: NDArray[np.bool_], ruler: Ruler) -> Ints:
    """Returns the largest number of hits of each column and point, (C, N), for frames (C, N, T) that count."""
    columns, points, frames = counted.shape
    packed = np.concatenate(
        [
            np.broadcast_to(np.arange(points, dtype=np.uint32).astype(">u4")[None, :, None], (columns, points, 1)).view(
                np.uint8
            ),
            np.packbits(counted, axis=-1),
        ],
        axis=-1,
    ).reshape(columns * points, -1)
    _, first, which = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    jobs = Jobs(first % points, counted.reshape(-1, frames)[first])
    return _decide(chains, jobs, ruler)[which.ravel()].reshape(columns, points)


def _decide(chains: Chains, jobs: Jobs, ruler: Ruler) -> Ints:
    """Returns the largest number of hits of each job, (J,)."""
    best = np.zeros(len(jobs), np.int64)
    many = np.logical_or(*(values.many for values in chains.axes))[jobs.point]
    best[many] = find_ranged_bounds(chains, jobs.take(many), ruler)
    open_ = np.flatnonzero(~many & jobs.counted.any(axis=1))
    for side in SIDES:
        if not len(open_):
            return best
        windows = make_windows(chains, side)
        bounds = _find_all_bounds(chains, windows, jobs.take(open_), ruler, side)
        best[open_] = bounds.low
        undecided = bounds.low < bounds.high
        open_, bounds = open_[undecided], bounds.take(undecided)
    best[open_] = _search_all(chains, windows, jobs.take(open_), ruler, bounds)
    return best


def _find_all_bounds(chains: Chains, windows: Windows, jobs: Jobs, ruler: Ruler, side: int) -> Bounds:
    parts = [find_bounds(chains, windows, jobs.take(part), ruler) for part in _parts(len(jobs), _MOST_WORK // side**4)]
    low, high, suffix = zip(*((part.low, part.high, part.suffix) for part in parts), strict=True)
    return Bounds(np.concatenate(low), np.concatenate(high), np.concatenate(suffix, axis=1))


def _search_all(chains: Chains, windows: Windows, jobs: Jobs, ruler: Ruler, bounds: Bounds) -> Counts:
    found = [
        most_hits(chains, windows, jobs.take(part), ruler, bounds.take(part))
        for part in _parts(len(jobs), _SEARCHED_AT_ONCE)
    ]
    return np.concatenate([np.zeros(0, np.int32), *found])


def _parts(count: int, size: int) -> list[slice]:
    return [slice(start, start + size) for start in range(0, count, size)]
