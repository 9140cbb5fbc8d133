"""Rows with lists of numbers as arrays say what pyarrow's own say."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from vcorr.store.arrow_rows import rows_of

ROW = st.fixed_dictionaries(
    {
        "name": st.text(max_size=3),
        "xy": st.none() | st.lists(st.floats(width=32, allow_nan=False), max_size=4),
        "visible": st.lists(st.booleans(), max_size=4),
    }
)
SCHEMA = pa.schema([("name", pa.string()), ("xy", pa.list_(pa.float32())), ("visible", pa.list_(pa.bool_()))])


@given(st.lists(ROW, max_size=6), st.lists(ROW, max_size=3), st.integers(0, 4), st.integers(0, 9))
def test_rows_are_those_of_pyarrow_with_arrays(first, second, begin, length):
    parts = [pa.Table.from_pylist(rows, schema=SCHEMA) for rows in (first, second)]
    table = pa.concat_tables(parts).slice(begin, length)  # two chunks, cut
    found = rows_of(table)
    expected = table.to_pylist()
    assert [row["name"] for row in found] == [row["name"] for row in expected]
    for row, wanted in zip(found, expected, strict=True):
        assert row["xy"].dtype == np.float32
        assert row["visible"].dtype == np.bool_
        assert row["xy"].tolist() == (wanted["xy"] or [])
        assert row["visible"].tolist() == wanted["visible"]


def test_a_table_without_lists_is_as_it_was():
    table = pa.table({"a": [1, 2], "b": ["x", None]})
    assert rows_of(table) == [{"a": 1, "b": "x"}, {"a": 2, "b": None}]


def test_rows_are_views_into_the_table():
    values = pa.array(np.arange(6, dtype=np.float32))
    table = pa.table({"xy": pa.ListArray.from_arrays(pa.array([0, 2, 6], pa.int32()), values)})
    first, second = (row["xy"] for row in rows_of(table))
    assert np.shares_memory(second, values.to_numpy())
    assert first.base is not None
