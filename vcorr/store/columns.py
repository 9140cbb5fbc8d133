"""Columns of stored tables as fields of a dataclass: its type, unit, meaning and neutral value in one place.

A row class is a frozen dataclass whose fields are made by `column`. The Arrow schema (`arrow_schema`), the rows that a
writer makes (`to_table`) and the tables of docs/results-format.md (`described`) all follow from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple, TypeAlias, get_args, get_type_hints

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Text: TypeAlias = Annotated[str, pa.string()]
Int32: TypeAlias = Annotated[int, pa.int32()]
Int64: TypeAlias = Annotated[int, pa.int64()]
Float: TypeAlias = Annotated[float, pa.float32()]
Floats: TypeAlias = Annotated[Sequence[float] | NDArray[np.floating[Any]], pa.list_(pa.float32())]
Ints: TypeAlias = Annotated[Sequence[int] | NDArray[np.integer[Any]], pa.list_(pa.int32())]
Bools: TypeAlias = Annotated[Sequence[bool] | NDArray[np.bool_], pa.list_(pa.bool_())]

NAN = float("nan")


class Column(NamedTuple):
    """What a reader of a table has to know of a column. neutral: its value where nothing is to be said."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    neutral: Any


def column(neutral: Any, meaning: str, unit: str = "") -> Any:
    """A field of a row class.

    Args:
        neutral: the default, where a row has nothing to say.
        meaning: of the values, for the documentation.
        unit: of the values, "" for none.
    """
    return dataclasses.field(default=neutral, metadata={"meaning": meaning, "unit": unit})


def described(row: type) -> tuple[Column, ...]:
    """The columns of a row class, in order."""
    types = {name: get_args(hint)[-1] for name, hint in get_type_hints(row, include_extras=True).items()}
    return tuple(
        Column(f.name, types[f.name], f.metadata["unit"], f.metadata["meaning"], f.default)
        for f in dataclasses.fields(row)
    )


def arrow_schema(row: type) -> pa.Schema:
    """The Arrow schema of a row class, without metadata."""
    return pa.schema([(c.name, c.type) for c in described(row)])


def units(row: type) -> str:
    """The units of all columns that have one, in words: "pixels: xy, queries; count: n"."""
    by_unit: dict[str, list[str]] = {}
    for c in described(row):
        if c.unit:
            by_unit.setdefault(c.unit, []).append(c.name)
    return "; ".join(f"{unit}: {', '.join(names)}" for unit, names in by_unit.items())


def to_table(rows: Sequence[Any], schema: pa.Schema) -> pa.Table:
    """Rows of the class that `schema` was made from, as a table."""
    columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)
