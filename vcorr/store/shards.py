"""Shards: one Arrow IPC file per clip, written atomically, so that it is either complete or absent."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa

from vcorr.contract.errors import StoreError, first_line
from vcorr.store import schema as schemas
from vcorr.store.atomic_files import atomic_file
from vcorr.store.column_types import conform
from vcorr.store.columns import to_table
from vcorr.store.declared_sizes import check_declared
from vcorr.store.shard_checks import check_rows
from vcorr.store.upgrades import upgrade_table

SUFFIX = ".arrow"
_COMPUTE_AGAIN = "Repeat the command that made the run: only that clip is computed again."


def shard_name(clip_id: str) -> str:
    """Returns the file name for a clip id: the quoted id, or its beginning and a hash if that is not a safe name."""
    name = quote(clip_id, safe=" ")
    if len(name) > 150 or name.startswith("."):
        name = f"{name[:100].lstrip('.')}-{hashlib.sha256(clip_id.encode()).hexdigest()[:16]}"
    return name + SUFFIX


def write_shard(path: Path, table: schemas.TableName, rows: Sequence[schemas.Row], fingerprint: str) -> None:
    """Writes rows as one shard: a temporary file in the same folder, then a rename.

    Raises:
        StoreError: the disk is full or the directory cannot be written. No incomplete file remains.
    """
    data = to_table(rows, schemas.schema(table, fingerprint))
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with atomic_file(path) as temporary, pa.ipc.new_file(temporary, data.schema, options=options) as writer:
        writer.write_table(data)


def read_shard(path: Path, table: schemas.TableName) -> pa.Table:
    """Reads a shard of this or any earlier layout version.

    Columns whose types hold the same values are converted, and further columns are left out. All values are checked
    (`vcorr.store.shard_checks`), and so is the name of the file: it is the name of the clip in its rows.

    Raises:
        StoreError: the file is missing, damaged, of another table or clip, or written by a newer vcorr.
    """
    try:
        found = _upgrade(path, _read_file(path), table)
        check_rows(found, table)
        _check_name(path, found)
        return found
    except FileNotFoundError as error:
        raise StoreError(f"{path} does not exist.", hint=_COMPUTE_AGAIN) from error
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is damaged and cannot be read ({first_line(error)}).", hint=f"Delete that file. {_COMPUTE_AGAIN}"
        ) from error


def _read_file(path: Path) -> pa.Table:
    """Returns the table of a file. Its declared size is checked first, because it may be far larger than the file."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no ordinary file")
    if not path.stat().st_size:  # which cannot be mapped
        raise ValueError("it is empty")
    with pa.memory_map(str(path)) as source:
        check_declared(source.read_buffer())
        with pa.ipc.open_file(source) as reader:
            found = reader.read_all()
    # Arrow trusts the offsets that a file states; wrong ones would crash the process when they are first used
    found.validate(full=True)
    return found


def _check_name(path: Path, table: pa.Table) -> None:
    """Checks that the rows are of the clip that the file is named after, and not copied from another file."""
    clip = table["clip"][0].as_py() if table.num_rows else None
    if clip is not None and shard_name(clip) != path.name:
        raise ValueError(f"its rows are of the clip {clip[:100]!a}")


def fingerprint_of(table: pa.Table) -> str:
    """Returns the fingerprint of the stage that wrote a shard."""
    return _fingerprint(table.schema)


def read_fingerprint(path: Path) -> str:
    """Returns the fingerprint of a shard without reading its rows; "" if it cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return ""
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            return _fingerprint(reader.schema)
    except (pa.ArrowException, OSError, ValueError):
        return ""


def _fingerprint(schema: pa.Schema) -> str:
    return str((schema.metadata or {}).get(schemas.FINGERPRINT_KEY, b"").decode(errors="replace"))


def _upgrade(path: Path, table: pa.Table, name: schemas.TableName) -> pa.Table:
    metadata = table.schema.metadata or {}
    if metadata.get(schemas.TABLE_KEY, b"") != name.encode() or schemas.VERSION_KEY not in metadata:
        raise StoreError(f"{path} is not a vcorr {name} table.", hint=f"Delete that file. {_COMPUTE_AGAIN}")
    version = int(metadata[schemas.VERSION_KEY])
    if version < 1:
        raise ValueError(f"there is no layout version {version}")
    if version > schemas.SCHEMA_VERSION:
        raise StoreError(
            f"{path} has layout version {version}; this vcorr reads up to {schemas.SCHEMA_VERSION}.",
            hint="Upgrade: pip install --upgrade vcorr",
        )
    target = schemas.schema(name, _fingerprint(table.schema))
    found = upgrade_table(_conform(table, target), name, version)
    if absent := [column for column in target.names if column not in found.column_names]:
        raise ValueError(f"it lacks the column {absent[0]}")
    return found.select(target.names).replace_schema_metadata(target.metadata)


def _conform(table: pa.Table, target: pa.Schema) -> pa.Table:
    """Returns the columns of a table that `target` has too, in their declared types."""
    columns = {}
    for name in (name for name in table.column_names if name in target.names):
        try:
            columns[name] = conform(table[name], target.field(name).type)
        except ValueError as error:
            raise ValueError(f"the column {name} {error}") from error
    return pa.table(columns, metadata=table.schema.metadata)
