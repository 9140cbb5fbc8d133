"""Says which predicted positions count as hits, so that vcorr can find the largest possible share of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import is_positive


@dataclass(frozen=True)
class HitRule:
    """A column whose value is the share of hits among the pairs of a point and a frame that count.

    A pair is a hit if hypot(dx / unit_x, dy / unit_y) < limit, where (dx, dy) is the predicted position minus the
    reference.

    Args:
        counted: (N, T) bool, True for pairs that count. The reference must be finite there.
        limit: upper end of the distances that hit, in units; a distance of `limit` is a miss.
        unit: the unit of distance in pixels, in x and in y.
        single: whether distances are rounded to float32, as the published DiffTrack code does.

    Raises:
        UsageError: a value does not fit; the message names it.
    """

    counted: NDArray[np.bool_]
    limit: float
    unit: tuple[float, float] = (1.0, 1.0)
    single: bool = False

    def __post_init__(self) -> None:
        if self.counted.ndim != 2 or self.counted.dtype != np.bool_:
            raise UsageError(
                f"HitRule: counted must be bool of shape (N, T), got {self.counted.dtype} of shape "
                f"{self.counted.shape}."
            )
        if not is_positive(self.limit):
            raise UsageError(f"HitRule: limit must be a positive number, got {self.limit!r}.")
        if len(self.unit) != 2 or not all(is_positive(pixels) for pixels in self.unit):
            raise UsageError(f"HitRule: unit must be two positive numbers of pixels, got {self.unit!r}.")
