"""Writes a table that is no shard of a run as one Arrow file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from vcorr.store.atomic_files import atomic_file


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a table as an Arrow IPC file, compressed; atomic.

    Raises:
        StoreError: the file cannot be written.
    """
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        atomic_file(path) as temporary,
        pa.OSFile(temporary, "wb") as sink,
        pa.ipc.new_file(sink, table.schema, options=options) as writer,
    ):
        writer.write_table(table)
