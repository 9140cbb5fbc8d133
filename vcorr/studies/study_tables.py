"""Writes the table of a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from vcorr.store.atomic_files import atomic_file
from vcorr.store.columns import arrow_schema, to_table, units
from vcorr.store.schema import TABLE_KEY, UNITS_KEY, VERSION_KEY


def write_study_table(path: Path, rows: Sequence[Any], kind: type[Any], name: str, version: int) -> None:
    """Writes rows as an Arrow IPC file, compressed; atomic.

    Args:
        path: of the file.
        rows: instances of `kind`.
        kind: dataclass whose fields are columns (`vcorr.store.columns.column`).
        name: of the table, for its metadata.
        version: of its layout.

    Raises:
        StoreError: the file cannot be written.
    """
    metadata = {VERSION_KEY: str(version), TABLE_KEY: name, UNITS_KEY: units(kind)}
    table = to_table(rows, arrow_schema(kind).with_metadata(metadata))
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with (
        atomic_file(path) as temporary,
        pa.OSFile(temporary, "wb") as sink,
        pa.ipc.new_file(sink, table.schema, options=options) as writer,
    ):
        writer.write_table(table)
