"""Rows of Arrow tables as plain values, lists of numbers as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pyarrow as pa
from numpy.typing import NDArray


def rows_of(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table, as `to_pylist` gives them but for lists of numbers, which are read-only numpy arrays.

    A clip of a large model has a hundred million numbers in its predictions; as Python objects they would take
    gigabytes, and longer than scoring them.
    """
    lists = {field.name for field in table.schema if pa.types.is_list(field.type)}
    rows: list[dict[str, Any]] = table.drop_columns(sorted(lists)).to_pylist() if lists else table.to_pylist()
    for name in sorted(lists):
        for row, values in zip(rows, _arrays(table[name]), strict=True):
            row[name] = values
    return rows


def _arrays(column: pa.ChunkedArray) -> Iterator[NDArray[Any]]:
    """The lists of a column one by one, as views where numpy has the same layout; an empty one where there is none."""
    for chunk in column.chunks:
        values, ends = chunk.values.to_numpy(zero_copy_only=False), chunk.offsets.to_numpy()
        yield from (values[begin:end] for begin, end in pairwise(ends))
