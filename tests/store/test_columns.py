"""A row class is schema, writer and documentation at once."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pyarrow as pa
import pytest

from vcorr.store import schema
from vcorr.store.columns import NAN, Float, Floats, Int32, Text, arrow_schema, column, describe_columns, to_table, units


@dataclasses.dataclass(frozen=True)
class Weight:
    name: Text = column("", "What was weighed.")
    count: Int32 = column(-1, "How often.", "count")
    grams: Float = column(NAN, "Its weight.", "g")
    each: Floats = column((), "Every single weighing.", "g")


def test_the_schema_follows_from_the_fields() -> None:
    text, number = pa.string(), pa.float32()
    expected = [("name", text), ("count", pa.int32()), ("grams", number), ("each", pa.list_(number))]
    assert arrow_schema(Weight) == pa.schema(expected)
    assert units(Weight) == "count: count; g: grams, each"


def test_rows_become_a_table_and_what_they_leave_out_is_neutral() -> None:
    rows = [Weight(name="a", each=np.array([1.5, 2.5])), Weight(grams=2)]
    table = to_table(rows, arrow_schema(Weight))
    assert table.drop(["grams"]).to_pylist() == [
        {"name": "a", "count": -1, "each": [1.5, 2.5]},
        {"name": "", "count": -1, "each": []},
    ]
    assert math.isnan(table["grams"][0].as_py())
    assert table["grams"].null_count == 0
    assert to_table([], arrow_schema(Weight)).num_rows == 0


@pytest.mark.parametrize("row", schema.ROWS.values())
def test_every_column_says_what_it_means(row: type) -> None:
    for c in describe_columns(row):
        assert c.meaning.endswith("."), c.name
        if pa.types.is_list(c.type):
            assert c.neutral == ()


@pytest.mark.parametrize("table", schema.ROWS)
def test_neutral_rows_are_stored_and_read_back(table: schema.TableName) -> None:
    written = to_table([schema.ROWS[table]()], schema.schema(table))
    (row,) = written.to_pylist()
    for c in describe_columns(schema.ROWS[table]):
        neutral = list(c.neutral) if isinstance(c.neutral, tuple) else c.neutral
        assert row[c.name] == neutral or (math.isnan(neutral) and math.isnan(row[c.name]))


def test_tables_share_what_their_columns_mean() -> None:
    found: dict[str, set[pa.DataType]] = {}
    for row in schema.ROWS.values():
        for c in describe_columns(row):
            found.setdefault(c.name, set()).add(c.type)
    assert {name: types for name, types in found.items() if len(types) > 1} == {}
