"""Sizes that an Arrow file declares are read before its rows are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from vcorr.store import declared_sizes
from vcorr.store.declared_sizes import check_declared, read_declared


def write(table: pa.Table, compression: str | None = "zstd", chunk: int | None = None) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=chunk)
    return sink.getvalue()


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
@pytest.mark.parametrize("chunk", [None, 100])
def test_what_is_declared_is_what_reading_takes(compression, chunk) -> None:
    columns = {"x": np.arange(1000.0), "text": ["word"] * 1000, "list": [[1.0, 2.0]] * 1000}
    columns["name"] = pa.array(["a", "b"] * 500).dictionary_encode()
    found = read_declared(write(pa.table(columns), compression, chunk))
    whole = pa.ipc.open_file(write(pa.table(columns), compression, chunk)).read_all()
    assert found.rows == 1000
    assert whole.nbytes <= found.bytes <= whole.nbytes + 100_000


def test_compressed_zeros_are_refused_and_a_large_table_of_numbers_is_not() -> None:
    zeros = write(pa.table({"x": np.zeros(19_000_000, np.float64)}))
    assert zeros.size < 40_000
    with pytest.raises(ValueError, match="bytes declare 152000"):
        check_declared(zeros)
    numbers = np.random.default_rng(0).normal(size=1_000_000).astype(np.float32)
    check_declared(write(pa.table({"x": numbers})))


def test_more_rows_than_a_run_has_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(declared_sizes, "MOST_ROWS", 99)
    with pytest.raises(ValueError, match="it declares 100 rows, and no table of a run has more than 99"):
        check_declared(write(pa.table({"x": [1] * 100})))


def test_whatever_is_in_a_file_ends_in_sizes_or_in_a_value_error() -> None:
    whole = write(pa.table({"x": np.arange(100.0), "text": ["word"] * 100})).to_pybytes()
    generator, refused = np.random.default_rng(0), 0
    for _ in range(2000):
        damaged = bytearray(whole)
        start = int(generator.integers(len(whole)))
        damaged[start : start + 4] = generator.bytes(4)
        try:
            read_declared(pa.py_buffer(bytes(damaged)))
        except ValueError:
            refused += 1
    assert refused > 100
