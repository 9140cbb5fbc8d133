"""Quantiles of Student's t distribution, with numpy alone."""

from __future__ import annotations

import functools
import math

import numpy as np

_HALVINGS = 60
"""Halvings of the interval [0, pi/2]: more would not change a number of 64 bits."""


@functools.cache
def t_quantile(p: float, df: int) -> float:
    """Returns the p-quantile of Student's t with `df` degrees of freedom, by halving an interval.

    Args:
        p: a probability between 0 and 1, both excluded.
        df: degrees of freedom, a whole number of at least 1.
    """
    if p < 0.5:
        return -t_quantile(1 - p, df)
    low, high = 0.0, math.pi / 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if two_sided(middle, df) < 2 * p - 1:
            low = middle
        else:
            high = middle
    return math.sqrt(df) * math.tan((low + high) / 2)


def two_sided(angle: float, df: int) -> float:
    """Returns the probability that |t| is at most sqrt(df) * tan(angle), for an angle in [0, pi/2].

    The series is finite and exact because `df` is a whole number. Source: Abramowitz and Stegun, Handbook of
    Mathematical Functions (1964), formulas 26.7.3 and 26.7.4.
    """
    sine, cosine = math.sin(angle), math.cos(angle)
    terms = (df - 1) // 2 if df % 2 else df // 2
    if df % 2:
        step = np.arange(1, terms, dtype=np.float64)
        factors = np.concatenate([[1.0], 2 * step / (2 * step + 1)])[:terms]
        series = float(np.cumprod(factors * np.concatenate([[cosine], np.full(len(step), cosine**2)])[:terms]).sum())
        return 2 / math.pi * (angle + sine * series)
    step = np.arange(1, terms, dtype=np.float64)
    return sine * float(np.cumprod(np.concatenate([[1.0], (2 * step - 1) / (2 * step) * cosine**2])).sum())
