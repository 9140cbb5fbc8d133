"""Reads the query points that a recorder is given, and splits them by their frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vcorr.contract.errors import UsageError
from vcorr.contract.records import Queries
from vcorr.functional.query_points import QueryPoints


def to_queries(queries: Queries | NDArray[np.float32]) -> Queries:
    """Returns queries as they are, and pixels (N, 2) as queries in the first frame.

    Raises:
        UsageError: the pixels have another shape, or are not finite.
    """
    if isinstance(queries, Queries):
        return queries
    points = np.array(queries, dtype=np.float32)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise UsageError(f"Queries must be finite pixels of shape (N, 2), got {points.shape}.")
    return Queries.at(points)


def split_by_frame(queries: Queries) -> list[tuple[QueryPoints, NDArray[np.intp]]]:
    """Splits the queries by frame, and returns them with their indices."""
    if not len(queries):
        return [(QueryPoints(queries.xy), np.zeros(0, dtype=np.intp))]
    return [(QueryPoints(queries.xy[index], frame), index) for frame, index in queries.by_frame()]
