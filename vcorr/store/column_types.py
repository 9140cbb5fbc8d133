"""Brings columns to their declared types, where other types hold the same values.

Other programs write texts in dictionaries, numbers with 64 bits, and lists with wide offsets or of a fixed size. Such a
column is read as if it had the declared type. Any other type is refused, and so is a number that does not fit.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as kinds

MOST_TEXT = 1 << 30
"""Most bytes of text in one column. A dictionary may name one long text a million times."""


def conform(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """Returns a column with the type `target`; the same values, and the same missing ones.

    Raises:
        ValueError: its type cannot hold the same values, or a value does not fit. The message has no subject.
    """
    if column.type.equals(target):
        return column
    if not _holds_same(column.type, target):
        raise ValueError(f"is of type {column.type}; it must be {target}")
    if kinds.is_string(target):
        _check_text(column)
    try:
        found = column.cast(target)
    except pa.ArrowException as error:
        raise ValueError(f"has a value that does not fit into {target} ({str(error).splitlines()[0]})") from error
    if kinds.is_float64(_innermost(column.type)) and kinds.is_float32(_innermost(target)):
        _check_finite(column, found)
    return found


def _holds_same(found: pa.DataType, target: pa.DataType) -> bool:
    if kinds.is_dictionary(found):
        return kinds.is_string(target) and _is_text(found.value_type)
    if kinds.is_string(target):
        return _is_text(found)
    if kinds.is_list(target):
        same_form = kinds.is_list(found) or kinds.is_large_list(found) or kinds.is_fixed_size_list(found)
        return same_form and (
            found.value_type.equals(target.value_type) or _holds_same(found.value_type, target.value_type)
        )
    if kinds.is_integer(target):
        return bool(kinds.is_integer(found))
    return bool(kinds.is_floating(target) and (kinds.is_floating(found) or kinds.is_integer(found)))


def _is_text(found: pa.DataType) -> bool:
    return bool(kinds.is_string(found) or kinds.is_large_string(found) or kinds.is_string_view(found))


def _innermost(found: pa.DataType) -> pa.DataType:
    return found if found.num_fields == 0 else found.field(0).type


def _check_text(column: pa.ChunkedArray) -> None:
    """Checks the length of all texts together, without making them."""
    total = sum(_text_bytes(chunk) for chunk in column.chunks)
    if total > MOST_TEXT:
        raise ValueError(f"stands for {total} bytes of text; a column has at most {MOST_TEXT}")


def _text_bytes(chunk: pa.Array) -> int:
    if kinds.is_dictionary(chunk.type):
        lengths = pc.binary_length(chunk.dictionary.cast(pa.large_string()))
        return pc.sum(lengths.cast(pa.int64()).take(chunk.indices)).as_py() or 0
    if kinds.is_string_view(chunk.type):  # no function of Arrow counts these; a view begins with its length
        views = np.frombuffer(chunk.buffers()[1], np.int32)[::4][chunk.offset : chunk.offset + len(chunk)]
        return int(views[chunk.is_valid().to_numpy(zero_copy_only=False)].sum(dtype=np.int64))
    return pc.sum(pc.binary_length(chunk).cast(pa.int64())).as_py() or 0


def _check_finite(column: pa.ChunkedArray, found: pa.ChunkedArray) -> None:
    """Checks that no number became infinite: 64 bits hold larger ones than 32."""
    before, after = (_flatten(part) for part in (column, found))
    if pc.sum(pc.is_inf(before)).as_py() != pc.sum(pc.is_inf(after)).as_py():
        raise ValueError(f"has a number that does not fit into {found.type}")


def _flatten(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.list_flatten(column) if not kinds.is_floating(column.type) else column
