"""The Arrow files of studies: how each is written and read, whatever its rows are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from vcorr.contract.errors import StoreError
from vcorr.store.arrow_files import write_table
from vcorr.store.columns import arrow_schema, describe_columns, to_table, units
from vcorr.store.schema import FINGERPRINT_KEY, TABLE_KEY, UNITS_KEY, VERSION_KEY


class DamagedTableError(StoreError):
    """A file that is missing, or that does not hold the table. The command that made it makes it again."""


@dataclass(frozen=True)
class StudyTable:
    """A table of a study.

    row: dataclass whose fields are columns (`vcorr.store.columns.column`). name: of the table, for its metadata.
    version: of its layout. added: the columns that older layouts lack; they have their defaults there.
    """

    row: type[Any]
    name: str
    version: int
    added: tuple[str, ...] = ()

    def write(self, path: Path, rows: Sequence[Any], *, fingerprint: str = "") -> None:
        """Writes rows as an Arrow IPC file, compressed; atomic. fingerprint: of what decides the rows; "" for none.

        Raises:
            StoreError: the file cannot be written.
        """
        metadata = {VERSION_KEY: str(self.version), TABLE_KEY: self.name, UNITS_KEY: units(self.row)}
        if fingerprint:
            metadata[FINGERPRINT_KEY] = fingerprint
        write_table(path, to_table(rows, arrow_schema(self.row).with_metadata(metadata)))

    def read(self, path: Path) -> pa.Table:
        """Returns the table in a file. A file without a version counts as older than all.

        Raises:
            DamagedTableError: the file is missing, is no Arrow file, or has other columns.
            StoreError: a newer version wrote it.
        """
        try:
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
                table = reader.read_all()
            version = int((table.schema.metadata or {}).get(VERSION_KEY, b"0"))
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DamagedTableError(f"{path} cannot be read: {error}.") from error
        if version > self.version:
            raise StoreError(
                f"{path} has layout version {version}; this vcorr reads up to {self.version}.",
                hint="Upgrade: pip install --upgrade vcorr",
            )
        table = self._upgrade(table) if version < self.version else table
        if not table.schema.equals(arrow_schema(self.row)):
            raise DamagedTableError(f"{path} has other columns than a table of {self.name}.")
        return table

    def _upgrade(self, table: pa.Table) -> pa.Table:
        """Returns the table of an older layout with the columns that came later, which are at the end."""
        for one in describe_columns(self.row):
            if one.name in self.added and one.name not in table.column_names:
                values = pa.array([one.neutral] * table.num_rows, one.type)
                table = table.append_column(one.name, values)
        return table


def read_fingerprint(table: pa.Table) -> str:
    """Returns the fingerprint that a table was written with; "" without one."""
    return str((table.schema.metadata or {}).get(FINGERPRINT_KEY, b"").decode())
