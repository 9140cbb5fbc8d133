"""The names of the traits of attention heads, which the functional API, tables and metrics share."""

from __future__ import annotations

TRAITS = ("own_frame", "temporal", "diagonal", "smoothness", "sinks", "second_eigenvalue")
"""The traits of a head, in the order in which they are packed; `vcorr.functional.head_traits` defines them."""
