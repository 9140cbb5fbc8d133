"""An upper bound of the hits of a chain (`vcorr.metrics.reachable`), for points whose values are too many to list.

Shapes: N points, T frames, J jobs, S sets of frames between two latents.

Any position between the least and the largest value counts as reachable. Let r be the radius of a hit. Three facts
limit the hits:

- A frame that no position in its range hits is a miss in every chain.
- Frames between two latents lie on a line, at even speed. Let t < u < v be such frames, and w the share of the way from
  t to v at u. If all three are hit, the reference at u is within 2 r of (1 - w) reference(t) + w reference(v).
- The query may be at one of the latents. It is then a third point of the line, with radius 0. Let n and m be two frames
  that are hit, m farther from this latent, and s the ratio of their distances from it. The reference at n is then
  within (1 + s) r of query + s (reference(m) - query).

A chain hits at most the largest set of frames between two latents that meets these conditions. The frames of different
latents are taken apart from each other.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from vcorr.metrics.hit_distances import Floats
from vcorr.metrics.hit_windows import Flags, Jobs, Ruler
from vcorr.metrics.reachable import Chains, Ints

MOST_FRAMES = 8
"""Between two latents with more frames, only the first fact is used. There are 2 to the power of frames sets."""


def find_ranged_bounds(chains: Chains, jobs: Jobs, ruler: Ruler) -> Ints:
    """Returns an upper bound of the hits of each job, (J,)."""
    within = _within_range(chains, ruler)
    hits = sum(((within[:, frames][jobs.point] & jobs.counted[:, frames]).sum(axis=1) for frames in chains.at), start=0)
    for latent, frames in enumerate(chains.between):
        hits = hits + _most_on_a_line(chains, jobs, ruler, within, latent, frames)
    return np.asarray(hits, dtype=np.int64)


def _within_range(chains: Chains, ruler: Ruler) -> Flags:
    """Returns which frames some position in their range hits, (N, T)."""
    squares = []
    for axis in range(2):
        ends = np.repeat(chains.axes[axis].ends[:, None], chains.latents, axis=1)
        ends[np.arange(len(ends)), chains.own] = chains.queries[:, [axis]]
        start, stop = ends[:, chains.times.before], ends[:, chains.times.after]
        least, most = np.moveaxis(start + chains.times.fraction[:, None] * (stop - start), -1, 0)
        reference = chains.reference[..., axis].astype(np.float64)
        squares.append(ruler.squares(np.clip(reference, least, most), reference, axis))
    return ruler.hits(*squares)


def _most_on_a_line(
    chains: Chains, jobs: Jobs, ruler: Ruler, within: Flags, latent: int, frames: Ints
) -> NDArray[np.int64]:
    if not 2 <= len(frames) <= MOST_FRAMES:
        return np.asarray((within[:, frames][jobs.point] & jobs.counted[:, frames]).sum(axis=1))
    members = np.arange(2 ** len(frames))[:, None] >> np.arange(len(frames)) & 1 == 1  # (S, frames)
    possible = ~(members[None] & ~within[:, None, frames]).any(axis=2)  # (N, S)
    for chosen, fits in _conditions(chains, ruler, latent, frames):
        holds_all = members[:, chosen].all(axis=1)
        possible &= fits[:, None] | ~holds_all
    counts = jobs.counted[:, frames].astype(np.int64) @ members.T
    return np.asarray(np.where(possible[jobs.point], counts, 0).max(axis=1))


def _conditions(chains: Chains, ruler: Ruler, latent: int, frames: Ints) -> list[tuple[list[int], Flags]]:
    """Returns indices of frames that can be hit together, and for which points they can, (N,)."""
    unit = np.array(ruler.unit)
    radius = max(ruler.radius(axis) / ruler.unit[axis] for axis in range(2))
    reference = chains.reference[:, frames].astype(np.float64) / unit
    query, place = chains.queries.astype(np.float64) / unit, chains.times.fraction[frames]
    found = []
    for t, u, v in combinations(range(len(frames)), 3):
        w = (place[u] - place[t]) / (place[v] - place[t])
        away = _length(reference[:, u] - ((1 - w) * reference[:, t] + w * reference[:, v]))
        found.append(([t, u, v], away <= 2 * radius))
    for t, u in combinations(range(len(frames)), 2):
        for own, near, far, s in (
            (latent, t, u, place[t] / place[u]),
            (latent + 1, u, t, (1 - place[u]) / (1 - place[t])),
        ):
            away = _length(reference[:, near] - (query + s * (reference[:, far] - query)))
            found.append(([t, u], (chains.own != own) | (away <= (1 + s) * radius)))
    return found


def _length(offsets: Floats) -> Floats:
    return np.asarray(np.hypot(offsets[:, 0], offsets[:, 1]))
