"""The sites of a knock-out study: reads them, chooses them by a run, and draws the sites of its controls."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vcorr.contract.errors import UsageError
from vcorr.contract.noun_counts import say_count
from vcorr.contract.records import HEAD_MEAN, Site
from vcorr.contract.seeds import stable_seed

AUTO, AUTO_HEADS = "auto", "auto:heads"
"""Words for sites that the run chooses: layers, or single heads."""
MOST_AUTO = 10
"""Number of sites that are chosen for the word "auto"; all of them if the model has no more."""
_SITE = re.compile(r"(\d{1,6})(?::(\d{0,6}))?(?::(\d{1,6}))?")


class Unit(NamedTuple):
    """One head of one layer."""

    layer: int
    head: int


@dataclass(frozen=True, order=True)
class CutSite:
    """A site that is cut. head: -1 for all heads. step: the only step where it is cut; -1 for every measured step."""

    layer: int
    head: int = HEAD_MEAN
    step: int = -1

    def __str__(self) -> str:
        step = "" if self.step < 0 else str(self.step)
        head = "" if self.head == HEAD_MEAN else str(self.head)
        return f"{self.layer}:{step}:{head}".rstrip(":")


@dataclass(frozen=True)
class SiteSet:
    """Sites that are cut together. name: as people write them, joined by "+"."""

    sites: tuple[CutSite, ...]

    @property
    def name(self) -> str:
        """The sites as people write them."""
        return "+".join(map(str, self.sites))

    @property
    def last_layer(self) -> int:
        """The last layer that is cut."""
        return max(site.layer for site in self.sites)

    @property
    def step(self) -> int:
        """The only step where it is cut; -1 for every measured step."""
        return self.sites[0].step

    def units(self, heads: Mapping[int, int]) -> frozenset[Unit]:
        """Returns the single heads of the set. heads: the number of heads by layer."""
        return frozenset(
            Unit(site.layer, head)
            for site in self.sites
            for head in (range(heads[site.layer]) if site.head == HEAD_MEAN else (site.head,))
        )


def set_of(units: Collection[Unit]) -> SiteSet:
    """Returns the set of some single heads."""
    return SiteSet(tuple(CutSite(*unit) for unit in sorted(units)))


def heads_by_layer(units: Collection[Unit]) -> dict[int, tuple[int, ...]]:
    """Returns the heads of each layer, as `Knockout` takes them."""
    layers = sorted({unit.layer for unit in units})
    return {layer: tuple(sorted(unit.head for unit in units if unit.layer == layer)) for layer in layers}


def count_heads(sites: Sequence[Site]) -> dict[int, int]:
    """Returns the number of heads by layer; raises UsageError if a model does not say it."""
    if unknown := [site.layer for site in sites if site.heads < 1]:
        raise UsageError(
            f"The model does not say how many heads layer {unknown[0]} has, so matched controls cannot be drawn.",
            hint="Its adapter has to give Site(..., heads=N).",
        )
    return {site.layer: site.heads for site in sites}


def parse_sets(text: str, heads: Mapping[int, int], steps: Collection[int]) -> tuple[SiteSet, ...]:
    """Reads `--sites`: sets with commas between them, sites of one set with "+" between them.

    A site is LAYER, LAYER::HEAD, LAYER:STEP or LAYER:STEP:HEAD. A range FIRST-LAST stands for one set per layer.

    Args:
        text: as typed.
        heads: the number of heads by layer.
        steps: the measured steps.

    Raises:
        UsageError: the text has another form, or names a site that does not exist or is not measured.
    """
    found: list[SiteSet] = []
    for part in (each.strip() for each in text.split(",") if each.strip()):
        spread = re.fullmatch(r"(\d{1,6})-(\d{1,6})", part)
        names = [str(layer) for layer in range(int(spread[1]), int(spread[2]) + 1)] if spread else [part]
        found += [SiteSet(tuple(sorted({_parse_site(one) for one in name.split("+")}))) for name in names]
    found = list(dict.fromkeys(found))
    if not found:
        raise UsageError("--sites names no site.", hint="For example: --sites auto, or --sites 17,17::3")
    for one in found:
        _check_set(one, heads, steps)
    return tuple(found)


def _parse_site(text: str) -> CutSite:
    match = _SITE.fullmatch(text.strip())
    if match is None or text.strip().endswith(":"):
        raise UsageError(
            f"--sites: {text.strip()!r} is not a site.",
            hint="Write LAYER, LAYER::HEAD or LAYER:STEP:HEAD, with + between sites that are cut together.",
        )
    layer, step, head = match.groups()
    return CutSite(int(layer), int(head) if head else HEAD_MEAN, int(step) if step else -1)


def _check_set(one: SiteSet, heads: Mapping[int, int], steps: Collection[int]) -> None:
    for site in one.sites:
        if site.layer not in heads:
            raise UsageError(f"--sites: there is no layer {site.layer}.", hint=f"There are layers 0-{max(heads)}.")
        if site.head >= heads[site.layer]:
            raise UsageError(
                f"--sites: layer {site.layer} has no head {site.head}.", hint=f"It has heads 0-{heads[site.layer] - 1}."
            )
        if site.step >= 0 and site.step not in steps:
            raise UsageError(
                f"--sites: step {site.step} of {site} is not measured.", hint=f"Add it: --steps {site.step}"
            )
    if len({site.step for site in one.sites}) > 1:
        raise UsageError(f"--sites: {one.name} joins sites of different steps.", hint="Cut them in sets of their own.")


def choose_auto(skills: Mapping[CutSite, float], count: int = MOST_AUTO) -> tuple[SiteSet, ...]:
    """Chooses sites by skill: the two best, the two worst, and others evenly spread by rank between them.

    Args:
        skills: of all sites that can be cut; NaN where there is none.
        count: how many sites; all if there are no more.

    Raises:
        UsageError: fewer than three sites have a skill.
    """
    ranked = sorted((site for site in skills if not math.isnan(skills[site])), key=lambda site: (-skills[site], site))
    if len(ranked) < 3:
        raise UsageError(f"Only {len(ranked)} sites have a skill in the run.", hint="Name sites: --sites 17,17::3")
    if len(ranked) > count:
        between = np.linspace(2, len(ranked) - 3, count - 4).round().astype(int)
        kept = [0, 1, *between.tolist(), len(ranked) - 2, len(ranked) - 1]
        ranked = [ranked[i] for i in dict.fromkeys(kept)]
    return tuple(SiteSet((site,)) for site in sorted(ranked))


def count_sets(pool: Collection[Unit], size: int, avoid: Collection[frozenset[Unit]]) -> int:
    """Returns how many sets of some size can be drawn from a pool, without those in `avoid`."""
    return math.comb(len(pool), size) - sum(len(one) == size and one <= set(pool) for one in set(avoid))


def draw_controls(
    pool: Collection[Unit], size: int, count: int, seed: int, avoid: Collection[frozenset[Unit]]
) -> list[frozenset[Unit]]:
    """Draws different random sets of single heads, none of which is itself a cut.

    A set may share some heads with a cut, as random sets do.

    Args:
        pool: the heads to draw from.
        size: number of heads per set.
        count: number of sets.
        seed: of the draw.
        avoid: the sets that are cut.

    Raises:
        UsageError: the pool has fewer such sets.
    """
    heads = sorted(pool)
    possible = count_sets(heads, size, avoid)
    if possible < count:
        raise UsageError(
            f"{count} control sets of {say_count(size, 'head')} are needed, but only {max(possible, 0)} can be drawn "
            f"from {say_count(len(heads), 'head')}.",
            hint="Cut another number of heads at once: a whole layer, some heads, or fewer layers.",
        )
    numbers = np.random.default_rng(stable_seed(seed, "knock-out controls", str(size)))
    found: dict[frozenset[Unit], None] = {}
    while len(found) < count:
        drawn = frozenset(heads[i] for i in numbers.choice(len(heads), size, replace=False))
        if drawn not in avoid:
            found.setdefault(drawn)
    return list(found)
