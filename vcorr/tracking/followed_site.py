"""Says where the tracks of a tracking run come from, as the stored rows say it; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.records import HEAD_MEAN, NO_SITE, Attention

DIRECT = "direct"
"""The probe's name in rows of trackers and of models that follow points without attention."""


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
