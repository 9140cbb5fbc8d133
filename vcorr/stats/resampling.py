"""Resamples clips, to describe how much a ranking depends on them (docs/statistics.md). No interval comes from here.

A resample draws as many clips as there are, with replacement, and uses the same for all sites. It is stored as counts,
the number of draws of each clip. So the means of all sites are one matrix product.
"""

from __future__ import annotations

import numpy as np

from vcorr.contract.errors import UsageError
from vcorr.stats.intervals import Floats


def resample_counts(clips: int, resamples: int, seed: int) -> Floats:
    """Returns how often each resample draws each clip, (resamples, clips); the counts of a resample sum to `clips`."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(clips, np.full(clips, 1 / clips), size=resamples).astype(np.float64)


def resample_means(arrays: list[Floats], counts: Floats) -> tuple[list[Floats], Floats]:
    """Returns the means (S, B) of arrays (clips, S) over B resamples, and the number of draws (S, B) that count.

    A clip counts where all arrays are numbers. counts: (B, clips), as `resample_counts` returns them.
    """
    valid = np.logical_and.reduce([np.isfinite(array) for array in arrays])
    drawn = valid.T.astype(np.float64) @ counts.T
    some = drawn > 0
    divisor = np.where(some, drawn, 1.0)
    sums = (np.where(valid, array, 0.0).T @ counts.T for array in arrays)
    return [np.where(some, total / divisor, np.nan) for total in sums], drawn


def check_options(resamples: int, seed: int, level: float) -> None:
    """Checks the options of a resampling.

    Raises:
        UsageError: an option is out of range; the message names it.
    """
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 1:
        raise UsageError(f"resamples: expected a whole number of at least 1, got {resamples!r}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UsageError(f"seed: expected a whole number of at least 0, got {seed!r}.")
    if not 0 < level < 1:
        raise UsageError(f"level: expected a number between 0 and 1, got {level!r}.")
