"""Says with how many digits the scores of generated videos are shown: some of them are far below 0.001."""

from __future__ import annotations

import math


def count_decimals(value: float) -> int:
    """Returns the number of digits after the point with which tables show a score: 4, and 6 below 0.01."""
    return 4 if not math.isfinite(value) or abs(value) >= 0.01 or value == 0 else 6
