"""The metric `head_traits`: the traits of an attention head as columns of the scores table (docs/protocol.md)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.bases import MetricBase
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.head_traits import TRAITS
from vcorr.contract.records import RowsPrediction, Score, Tracks


class HeadTraitScores(MetricBase):
    """`trait_own_frame`, `trait_temporal`, ...: the mean of each trait over the points visible in their query frame.

    A `vcorr.RowMetric` of the probe `head-traits`; other attention summaries have no traits, and get no row. Values are
    in [0, 1]; n is the number of points for which the trait exists. No value is better than another:
    `higher_is_better` only says how rows are sorted.
    """

    higher_is_better = True
    columns = tuple(f"trait_{name}" for name in TRAITS)
    primary = "trait_diagonal"
    lower, upper = 0.0, 1.0

    def score_rows(self, rows: RowsPrediction, reference: Tracks, grid: TokenGrid) -> dict[str, Score]:
        """Scores the traits of one site; an empty mapping for an attention summary without traits."""
        if rows.traits is None:
            return {}
        asked = reference.visible[np.arange(len(rows.traits)), reference.asked_in]
        return {name: _mean(values[asked]) for name, values in zip(self.columns, rows.traits.T, strict=True)}


def _mean(values: NDArray[np.floating[Any]]) -> Score:
    there = values[~np.isnan(values)]
    return Score(float(np.mean(there, dtype=np.float64)) if len(there) else float("nan"), len(there))
