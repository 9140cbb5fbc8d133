"""Compares one measure of two sides in pairs, as the tables of studies hold it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr.stats.intervals import compare_means
from vcorr.stats.sign_flips import sign_flip_test


@dataclass(frozen=True)
class PairedValues:
    """A measure of two sides, on the clips or prompts where both have a value.

    own, other: means. difference: mean of own - other. low, high: ends of its 95 % interval by Student's t; NaN with
    fewer than six clips. p: of the sign-flip test. count: number of clips; with 0 of them the numbers are NaN.
    """

    own: float = math.nan
    other: float = math.nan
    difference: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    count: int = 0

    @property
    def difference_columns(self) -> dict[str, Any]:
        """The columns that the tables of all studies have alike: difference, low, high and p."""
        return {"difference": self.difference, "low": self.low, "high": self.high, "p": self.p}


def compare_values(own: NDArray[np.float64], other: NDArray[np.float64]) -> PairedValues:
    """Returns how two sides differ. own, other: (clips,), the same clips in the same order; NaN where not measured."""
    both = np.isfinite(own + other)
    if not both.any():
        return PairedValues()
    found = compare_means(own, other)
    return PairedValues(
        float(own[both].mean()),
        float(other[both].mean()),
        float(found.estimate),
        float(found.low),
        float(found.high),
        float(sign_flip_test(own - other)),
        int(both.sum()),
    )
