"""Compares single heads with means over heads, on the scores of a run that read every head at one step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcorr import StoreError
from vcorr.contract.variants import DEFAULT_VARIANT
from vcorr.stats import Bounded
from vcorr.stats.choice import CrossFit, choose_sites
from vcorr.stats.series import Series, series
from vcorr.store.rundir import RunDirectory
from vcorr_tiny.reported_rows import MOVING
from vcorr_tiny.statements import Difference


@dataclass(frozen=True)
class Heads:
    """Query-key matching of one run at one step: means over heads, and single heads, on the same clips."""

    mean: Series
    single: Series

    @classmethod
    def read(cls, run: RunDirectory) -> Heads:
        """Reads them.

        Raises:
            StoreError: the run did not read single heads.
        """
        found = [s for s in series(run.read("scores"), metric=MOVING) if s.variant_text == DEFAULT_VARIANT.text]
        parts = next((s.by_heads() for s in found if s.key["probe"] == "qk"), {})
        if set(parts) != {"mean", "single"}:
            raise StoreError(f"{run.path} did not read single heads and their mean.")
        return cls(parts["mean"], parts["single"])

    @property
    def best(self) -> tuple[CrossFit, CrossFit]:
        """The choice of the best single head, and of the best mean, each on both halves of the clips."""
        return choose_sites(self.single), choose_sites(self.mean)

    def compare_best(self) -> Difference:
        """Compares the skill of the best single head with the best mean over heads."""
        single, mean = self.best
        return Difference.of_skills(single.pooled, mean.pooled)

    def compare_hidden(self) -> Difference:
        """Compares the head that is furthest above the mean of its own layer with this mean, by skill.

        Each half of the clips chooses the head for the other half.
        """
        columns = self._mean_of_each_head()
        picked = np.full((2, 3, len(self.single.clips)), np.nan)
        halves = self.single.halves()
        for choosing, reporting in zip(halves, reversed(halves), strict=True):
            clips = [self.single.clips[i] for i in choosing]
            above = self.single.select_clips(clips).skill - self.mean.select_clips(clips).skill[columns]
            head = int(np.argmax(np.nan_to_num(above, nan=-np.inf)))
            for part, (s, column) in zip(picked, ((self.single, head), (self.mean, columns[head])), strict=True):
                for kept, array in zip(part, s.rising, strict=True):
                    kept[reporting] = array[reporting, column]
        return Difference.of_skills(*(Bounded(*part) for part in picked))

    def _mean_of_each_head(self) -> NDArray[np.int64]:
        """Returns for each single head the column of the mean of its layer, (heads,)."""
        column = {site["layer"]: i for i, site in enumerate(self.mean.sites)}
        return np.array([column[site["layer"]] for site in self.single.sites])
