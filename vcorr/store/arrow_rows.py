"""Reads rows of Arrow tables: plain values as Python values, lists of numbers as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """Returns the rows of a table as `to_pylist` does, except that lists of numbers are read-only numpy arrays.

    The predictions of a large model for one clip hold a hundred million numbers. As Python objects they would take
    gigabytes, and more time than their scoring.
    """
    lists = {field.name for field in table.schema if pa.types.is_list(field.type)}
    rows: list[dict[str, Any]] = table.drop_columns(sorted(lists)).to_pylist() if lists else table.to_pylist()
    for name in sorted(lists):
        for row, values in zip(rows, _arrays(table[name]), strict=True):
            row[name] = values
    return rows


def _arrays(column: pa.ChunkedArray) -> Iterator[NDArray[Any]]:
    """Yields the lists of a column, as views where numpy has the same layout; an empty array for a missing list."""
    for chunk in column.chunks:
        values, ends = chunk.values.to_numpy(zero_copy_only=False), chunk.offsets.to_numpy()
        yield from (values[begin:end] for begin, end in pairwise(ends))
