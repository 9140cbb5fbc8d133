"""The guard among the scores of generated videos, in words for tables.

A video in which nothing moves has the best of all other scores. So how much moves is read next to them, and more of it
is neither better nor worse.
"""

from __future__ import annotations

GUARD = "dynamic_degree"


def say_better(column: str, *, lower: bool) -> str:
    """Returns which values of a score are better: `higher`, `lower`, or `a guard` where neither is."""
    if column == GUARD:
        return "a guard"
    return "lower" if lower else "higher"
