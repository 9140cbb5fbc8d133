"""Ranks the sites of one run by the harmonic mean of accuracy, confidence and attention (docs/protocol.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcorr.analysis.stored_scores import load_scores
from vcorr.metrics.attention_scores import harmonic_mean
from vcorr.stats.series import Series, mean_where, series
from vcorr.stats.sites import SiteId
from vcorr.store.rundir import RunDirectory

ACCURACY, CONFIDENCE, ATTENTION = PARTS = ("matching_accuracy", "confidence_cross", "attention_cross")
"""The columns that the harmonic mean is made of."""


@dataclass(frozen=True)
class HarmonicSite:
    """The harmonic mean at one site: of a probe's accuracy there with the confidence and the attention of the model.

    value: in [0, 1]. The three parts are the means over clips from which it was made; each is scaled to [0, 1] over all
    sites of the run first.
    """

    probe: str
    variant: str
    layer: int
    step: int
    noise: float
    value: float
    accuracy: float
    confidence: float
    attention: float

    @property
    def site(self) -> str:
        """The site as people write it, LAYER:STEP."""
        return str(SiteId(self.layer, self.step))


def rank_harmonic_sites(run: RunDirectory) -> tuple[HarmonicSite, ...]:
    """Returns the sites of each probe by falling harmonic mean, means over heads alone.

    Empty if the run was not scored by all three parts at the same sites. Sites at which a part is NaN are left out.

    Raises:
        StoreError: the run is damaged or has no scores.
    """
    found = series(load_scores(run, PARTS.__contains__).scores)
    parts = [s.by_heads().get("mean") for s in found]
    return tuple(site for s in parts if s is not None for site in _rank(s, [p for p in parts if p is not None]))


def _rank(accuracy: Series, others: Sequence[Series]) -> Iterator[HarmonicSite]:
    """Yields the sites of one series of accuracy, the best first; none for another series, or if a part is missing."""
    if accuracy.key["metric"] != ACCURACY:
        return
    partners = [_find_partner(accuracy, others, metric) for metric in (CONFIDENCE, ATTENTION)]
    tables = [_means_at(part, accuracy.site_ids) for part in (accuracy, *partners) if part is not None]
    if len(tables) < len(PARTS):
        return
    a, c, s = (table[None] for table in tables)  # the order of the sites does not matter
    values = harmonic_mean(a, c, s, variant=accuracy.variant_text)[0]
    for i in np.argsort(-values, kind="stable"):
        if np.isfinite(values[i]):
            yield _site_of(accuracy, int(i), float(values[i]), tables)


def _site_of(accuracy: Series, i: int, value: float, tables: Sequence[NDArray[np.float64]]) -> HarmonicSite:
    site, probe = accuracy.sites[i], str(accuracy.key["probe"])
    place = int(site["layer"]), int(site["step"]), float(site["noise"])
    a, c, s = (float(table[i]) for table in tables)
    return HarmonicSite(probe, accuracy.variant_text, *place, value=value, accuracy=a, confidence=c, attention=s)


def _find_partner(accuracy: Series, others: Sequence[Series], metric: str) -> Series | None:
    """Returns the series of another metric that was read under the same variant and scored by the same tracks."""
    key = {**accuracy.key, "metric": metric}
    return next((s for s in others if {**s.key, "probe": key["probe"]} == key), None)


def _means_at(s: Series, sites: Sequence[SiteId]) -> NDArray[np.float64]:
    """Returns the means over clips at these sites, (sites,); NaN at a site that the series does not have."""
    means = mean_where(s.score, np.isfinite(s.score))
    columns = [s.column_of(site) for site in sites]
    return np.array([np.nan if column is None else means[column] for column in columns])
