"""Says where the tracks of a tracking run come from, as the stored rows say it; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vcorr.contract.records import HEAD_MEAN, NO_SITE, Attention, RunSettings, Site

DIRECT = "direct"
"""The probe's name in rows of trackers and of models that follow points without attention."""


@dataclass(frozen=True)
class ReadAt:
    """What the first pass tells: noise level, NaN without noise, and head, -1 for several together."""

    noise: float = float("nan")
    head: int = HEAD_MEAN


@dataclass(frozen=True)
class SiteFacts:
    """The columns of a stored row that say where its tracks come from.

    layer: -1 without an attention site, and where several layers are averaged. noise: NaN for a model without noise.
    The other fields are as in `vcorr.Prediction`.
    """

    layer: int = NO_SITE
    layer_name: str = ""
    step: int = NO_SITE
    head: int = HEAD_MEAN
    noise: float = float("nan")
    attention: Attention = "none"
    probe: str = DIRECT

    @classmethod
    def of(cls, sites: Sequence[Site], settings: RunSettings, probe: object, read: ReadAt) -> SiteFacts:
        """Returns the facts of sites whose correlations are averaged, read by a probe at one step."""
        one = len(sites) == 1
        return cls(
            layer=sites[0].layer if one else NO_SITE,
            layer_name=" ".join(site.name for site in sites),
            step=settings.steps[0] if settings.steps else NO_SITE,
            head=read.head,
            noise=read.noise,
            attention=sites[0].attention if sites else "none",
            probe=str(getattr(probe, "name", type(probe).__name__.lower())),
        )
