"""Shards: one Arrow IPC file per clip, written atomically, so that it is either complete or absent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa

from vcorr.contract.errors import StoreError, first_line
from vcorr.store import schema as schemas
from vcorr.store.atomic_files import atomic_file
from vcorr.store.columns import to_table
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

    Raises:
        StoreError: the file is missing, damaged, of another table, or written by a newer vcorr.
    """
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            found = reader.read_all()
        # Arrow trusts the offsets that a file states; wrong ones would crash the process when they are first used
        found.validate(full=True)
        return _upgrade(path, found, table)
    except FileNotFoundError as error:
        raise StoreError(f"{path} does not exist.", hint=_COMPUTE_AGAIN) from error
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise StoreError(
            f"{path} is damaged and cannot be read ({first_line(error)}).", hint=f"Delete that file. {_COMPUTE_AGAIN}"
        ) from error


def fingerprint_of(table: pa.Table) -> str:
    """Returns the fingerprint of the stage that wrote a shard."""
    return _fingerprint(table.schema)


def read_fingerprint(path: Path) -> str:
    """Returns the fingerprint of a shard without reading its rows; "" if it cannot be read."""
    try:
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            return _fingerprint(reader.schema)
    except (pa.ArrowException, OSError, ValueError):
        return ""


def _fingerprint(schema: pa.Schema) -> str:
    return str((schema.metadata or {}).get(schemas.FINGERPRINT_KEY, b"").decode())


def _upgrade(path: Path, table: pa.Table, name: schemas.TableName) -> pa.Table:
    metadata = table.schema.metadata or {}
    if metadata.get(schemas.TABLE_KEY, b"").decode() != name or schemas.VERSION_KEY not in metadata:
        raise StoreError(f"{path} is not a vcorr {name} table.")
    version = int(metadata[schemas.VERSION_KEY])
    if version < 1:
        raise ValueError(f"there is no layout version {version}")
    if version > schemas.SCHEMA_VERSION:
        raise StoreError(
            f"{path} has layout version {version}; this vcorr reads up to {schemas.SCHEMA_VERSION}.",
            hint="Upgrade: pip install --upgrade vcorr",
        )
    found = upgrade_table(table, name, version)
    if not found.schema.equals(schemas.schema(name)):
        raise pa.ArrowInvalid(f"its columns are not the columns of {name}")
    return found
