"""Columns of other types that hold the same values are read as the declared type; others are refused."""

from __future__ import annotations

import pyarrow as pa
import pytest

from vcorr.store.column_types import conform

TEXT, FLOATS, INTS = pa.string(), pa.list_(pa.float32()), pa.list_(pa.int32())


@pytest.mark.parametrize(
    ("column", "target", "expected"),
    [
        (pa.array(["a", None, "a"]).dictionary_encode(), TEXT, ["a", None, "a"]),
        (pa.array(["a"], pa.large_string()), TEXT, ["a"]),
        (pa.array(["a", "x" * 40, None], pa.string_view()), TEXT, ["a", "x" * 40, None]),
        (pa.array([0.5], pa.float64()), pa.float32(), [0.5]),
        (pa.array([30], pa.int64()), pa.float32(), [30.0]),
        (pa.array([7], pa.int64()), pa.int32(), [7]),
        (pa.array([7], pa.uint8()), pa.int32(), [7]),
        (pa.array([[1.0, 2.0], None], pa.list_(pa.float64(), 2)), FLOATS, [[1.0, 2.0], None]),
        (pa.array([[1, 2]], pa.large_list(pa.int64())), INTS, [[1, 2]]),
        (pa.array([[True]], pa.large_list(pa.bool_())), pa.list_(pa.bool_()), [[True]]),
    ],
)
def test_the_same_values_are_read(column, target, expected) -> None:
    found = conform(pa.chunked_array([column]), target)
    assert found.type == target
    assert found.to_pylist() == expected


@pytest.mark.parametrize(
    ("column", "target", "message"),
    [
        (pa.array([1]), TEXT, "is of type int64; it must be string"),
        (pa.array(["1"]), pa.int32(), "is of type string; it must be int32"),
        (pa.array([1.0]), pa.int32(), "is of type double; it must be int32"),
        (pa.array([2**40]), pa.int32(), "has a value that does not fit into int32"),
        (pa.array([1e300]), pa.float32(), "has a number that does not fit into float"),
        (pa.array([[1e300]]), FLOATS, "has a number that does not fit into list<item: float>"),
        (pa.array([[["a"]]]), FLOATS, "it must be list<item: float>"),
        (pa.nulls(2), TEXT, "is of type null; it must be string"),
    ],
)
def test_other_types_and_numbers_that_do_not_fit_are_refused(column, target, message) -> None:
    with pytest.raises(ValueError, match=message):
        conform(pa.chunked_array([column]), target)


@pytest.mark.parametrize("wide", ["dictionary", "view"])
def test_a_long_text_that_is_named_often_is_refused_before_it_is_written_out(wide) -> None:
    long = pa.array(["x" * 1_000_000])
    if wide == "dictionary":
        column = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), long)
    else:
        # thousands of views of one buffer, which pyarrow itself makes nowhere
        one = long.cast(pa.string_view())
        column = pa.Array.from_buffers(
            pa.string_view(), 5000, [None, pa.py_buffer(bytes(one.buffers()[1]) * 5000), *one.buffers()[2:]]
        )
    with pytest.raises(ValueError, match="stands for 5000000000 bytes of text"):
        conform(pa.chunked_array([column]), TEXT)
