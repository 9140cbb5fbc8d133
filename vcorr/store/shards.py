"""Shards: one Arrow IPC file per clip, written atomically, so that it is either complete or absent.

A shard says in the metadata of its schema which clip it is of, which stage wrote it, and what run.json says about that
stage. A checksum of the whole file is there too, so that a flipped bit is noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa
import pyarrow.compute as pc

from vcorr.contract.errors import StoreError, first_line
from vcorr.store import schema as schemas
from vcorr.store.atomic_files import atomic_file, set_aside
from vcorr.store.column_types import conform
from vcorr.store.columns import to_table
from vcorr.store.declared_sizes import check_declared
from vcorr.store.fingerprint import plain
from vcorr.store.json_text import read_json
from vcorr.store.shard_checks import check_rows
from vcorr.store.upgrades import upgrade_table

SUFFIX = ".arrow"
COMPUTE_AGAIN = "Repeat the command that made the run: only that clip is computed again."
"""Advice about a shard that cannot be used."""

NO_CHECKSUM = "checksum of this file, computed with this text in its place".ljust(64, ".")
"""Stands in a file where its checksum will be, because a checksum cannot cover itself."""
_LONGEST_FACTS = 1 << 15
"""Longest facts in characters. A run of 1,000 clips then has at most 64 MB of them."""
_SMALLEST = pa.Codec("zstd", compression_level=19)
"""Compression of files that are written once and shared."""


def shard_name(clip_id: str) -> str:
    """Returns the file name for a clip id: the quoted id, or its beginning and a hash if that is not a safe name."""
    name = quote(clip_id, safe=" ")
    if len(name) > 150 or name.startswith("."):
        name = f"{name[:100].lstrip('.')}-{hashlib.sha256(clip_id.encode()).hexdigest()[:16]}"
    return name + SUFFIX


@dataclass(frozen=True)
class Stamp:
    """What a shard says about itself, in the metadata of its schema.

    Args:
        fingerprint: fingerprint of the stage that wrote it.
        clip: id of its clip; "" in shards that older versions wrote.
        facts: what run.json says about that stage, so that a lost run.json can be written again; empty in shards that
            older versions wrote.
    """

    fingerprint: str
    clip: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


class DamagedShardError(StoreError):
    """A shard that cannot be used. The command that made the run makes it again."""


def write_shard(
    path: Path,
    table: schemas.TableName,
    rows: Sequence[schemas.Row],
    fingerprint: str,
    *,
    clip: str = "",
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Writes rows as one shard; see `write_table_shard`. rows: of that table."""
    data = to_table(rows, schemas.schema(table))
    write_table_shard(path, table, data, fingerprint, clip=clip, facts=facts)


def write_table_shard(
    path: Path,
    table: schemas.TableName,
    data: pa.Table,
    fingerprint: str,
    *,
    clip: str = "",
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Writes a table as one shard: a temporary file in the same folder, then a rename.

    Args:
        path: the file.
        table: name of the table.
        data: its rows, in the columns of that table.
        fingerprint: fingerprint of the stage that writes.
        clip: id of the clip.
        facts: what run.json says about the stage, as plain values.

    Raises:
        StoreError: the disk is full or the directory cannot be written. No incomplete file remains.
    """
    layout = schemas.schema(table, fingerprint)
    stamp = {schemas.CLIP_KEY: clip, schemas.FACTS_KEY: _facts_text(facts or {})}
    _write_table(path, data.replace_schema_metadata({**layout.metadata, **stamp}), pa.Codec("zstd"))


def write_packed(path: Path, tables: Sequence[pa.Table], fingerprint: str) -> None:
    """Writes the scores of several clips as one file: shards repeat the names of columns, which take most of them.

    Args:
        path: the file.
        tables: scores of one clip each, in the current layout.
        fingerprint: fingerprint of the stage that scored them.

    Raises:
        StoreError: the disk is full or the directory cannot be written. No incomplete file remains.
    """
    joined = pa.concat_tables([schemas.schema("scores").empty_table(), *tables]).combine_chunks()
    # Few different texts stand in many rows; as numbers of a list of texts they hardly take any space
    columns = [c.dictionary_encode() if pa.types.is_string(c.type) else c for c in joined.columns]
    metadata = schemas.schema("scores", fingerprint).metadata
    _write_table(path, pa.table(columns, joined.column_names, metadata=metadata).combine_chunks(), _SMALLEST)


def _write_table(path: Path, data: pa.Table, codec: pa.Codec) -> None:
    """Writes a table with its checksum: a temporary file in the same folder, then a rename."""
    data = data.replace_schema_metadata({**data.schema.metadata, schemas.CHECKSUM_KEY: NO_CHECKSUM})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, data.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_table(data)
    if path.is_dir() and not path.is_symlink():
        set_aside(path)  # no file can be renamed over a folder
    with atomic_file(path) as temporary:
        Path(temporary).write_bytes(_with_checksum(sink.getvalue().to_pybytes()))


def _facts_text(facts: Mapping[str, Any]) -> str:
    """Returns facts as JSON. The long ones are left out if the text, which every shard has twice, is too long."""
    for left_out in ((), ("card",), ("card", "resolved")):
        text = json.dumps(plain({name: value for name, value in facts.items() if name not in left_out}))
        if len(text) <= _LONGEST_FACTS:
            return text
    return "{}"


def _with_checksum(content: bytes) -> bytes:
    return content.replace(NO_CHECKSUM.encode(), hashlib.sha256(content).hexdigest().encode())


def _check_content(content: bytes, metadata: Mapping[bytes, bytes]) -> None:
    """Checks the content of a file against the checksum in its metadata. Files of older versions have none.

    Raises:
        ValueError: the content was changed after it was written.
    """
    checksum = metadata.get(schemas.CHECKSUM_KEY, b"")
    if not checksum:
        return
    if hashlib.sha256(content.replace(checksum, NO_CHECKSUM.encode())).hexdigest().encode() != checksum:
        raise ValueError("its content does not fit its checksum")


def read_shard(path: Path, table: schemas.TableName) -> pa.Table:
    """Reads a shard of this or any earlier layout version.

    Columns whose types hold the same values are converted, and further columns are left out. All values are checked
    (`vcorr.store.shard_checks`), and so is the name of the file: it is the name of the clip in its rows.

    Raises:
        DamagedShardError: the file is missing, damaged, of another table, or of another clip than its name says.
        StoreError: it was written by a newer vcorr, or may not be read.
    """
    with _damage_named(path):
        found = _upgrade(path, _read_file(path), table)
        _check_clip(path, found)
        check_rows(found, table)
    return found


def read_packed(path: Path) -> Iterator[pa.Table]:
    """Yields the scores of each clip in a file of `write_packed`, checked as shards are, in the order of their rows.

    Raises:
        DamagedShardError: the file is missing, damaged, or of another table.
        StoreError: it was written by a newer vcorr, or may not be read.
    """
    with _damage_named(path):
        found = _upgrade(path, _read_file(path), "scores")
        clips = pc.unique(found["clip"]).to_pylist()
    for clip in clips:
        with _damage_named(path):
            rows = found.filter(pc.equal(found["clip"], clip))
            check_rows(rows, "scores")
        yield rows


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turns errors of the block, which reads a file, into errors that name it."""
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedShardError(f"{path} does not exist.", hint=COMPUTE_AGAIN) from error
    except PermissionError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror}.", hint=f"Allow it: chmod u+r {shlex.quote(str(path))}"
        ) from error
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedShardError(
            f"{path} is damaged and cannot be read ({first_line(error)}).", hint=COMPUTE_AGAIN
        ) from error


def _check_clip(path: Path, table: pa.Table) -> None:
    """Checks that a shard has the name of its clip. Without the id in its metadata, its rows say which clip it is of.

    Raises:
        DamagedShardError: it has the name of another clip.
    """
    own = stamp_of(table).clip
    clips = [own] if own else pc.unique(table["clip"]).to_pylist()
    if len(clips) == 1 and clips[0] and shard_name(clips[0]) != path.name:
        raise DamagedShardError(
            f"{path} belongs to clip {clips[0]!r}, and has the name of clip {unquote(path.stem)!r}: it was renamed or "
            "copied.",
            hint=COMPUTE_AGAIN,
        )


def _read_file(path: Path) -> pa.Table:
    """Returns the table of a file. Its declared size is checked first, because it may be far larger than the file."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no ordinary file")
    if not path.stat().st_size:  # which cannot be mapped
        raise ValueError("it is empty")
    content = path.read_bytes()
    check_declared(pa.py_buffer(content))
    with pa.BufferReader(content) as source, pa.ipc.open_file(source) as reader:
        _check_content(content, reader.schema.metadata or {})
        found = reader.read_all()
    # Arrow trusts the offsets that a file states; wrong ones would crash the process when they are first used
    found.validate(full=True)
    return found


def fingerprint_of(table: pa.Table) -> str:
    """Returns the fingerprint of the stage that wrote a shard."""
    return stamp_of(table).fingerprint


def stamp_of(table: pa.Table) -> Stamp:
    """Returns what a shard says about itself."""
    return _stamp(table.schema)


def read_fingerprint(path: Path) -> str:
    """Returns the fingerprint of a shard without reading its rows; "" if it cannot be read."""
    stamp = read_stamp(path)
    return stamp.fingerprint if stamp else ""


def read_stamp(path: Path) -> Stamp | None:
    """Returns what a shard says about itself without reading its rows; None if it cannot be read."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return None
        with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
            return _stamp(reader.schema)
    except (pa.ArrowException, OSError, ValueError):
        return None


def _stamp(schema: pa.Schema) -> Stamp:
    metadata = schema.metadata or {}
    fingerprint, clip = (
        metadata.get(key, b"").decode(errors="replace") for key in (schemas.FINGERPRINT_KEY, schemas.CLIP_KEY)
    )
    try:
        facts = read_json(metadata.get(schemas.FACTS_KEY, b"{}"))
    except ValueError:
        facts = {}
    return Stamp(fingerprint, clip, facts if isinstance(facts, dict) else {})


def _upgrade(path: Path, table: pa.Table, name: schemas.TableName) -> pa.Table:
    metadata = table.schema.metadata or {}
    if metadata.get(schemas.TABLE_KEY, b"") != name.encode() or schemas.VERSION_KEY not in metadata:
        raise DamagedShardError(f"{path} is not a vcorr {name} table.", hint=COMPUTE_AGAIN)
    version = int(metadata[schemas.VERSION_KEY])
    if version < 1:
        raise ValueError(f"there is no layout version {version}")
    if version > schemas.SCHEMA_VERSION:
        raise StoreError(
            f"{path} has layout version {version}; this vcorr reads up to {schemas.SCHEMA_VERSION}.",
            hint="Upgrade: pip install --upgrade vcorr",
        )
    target = schemas.schema(name, _stamp(table.schema).fingerprint)
    found = upgrade_table(_conform(table, target), name, version)
    if absent := [column for column in target.names if column not in found.column_names]:
        raise ValueError(f"it lacks the column {absent[0]}")
    kept = {key: metadata[key] for key in (schemas.CLIP_KEY, schemas.FACTS_KEY) if key in metadata}
    return found.select(target.names).replace_schema_metadata({**target.metadata, **kept})


def _conform(table: pa.Table, target: pa.Schema) -> pa.Table:
    """Returns the columns of a table that `target` has too, in their declared types."""
    columns = {}
    for name in (name for name in table.column_names if name in target.names):
        try:
            columns[name] = conform(table[name], target.field(name).type)
        except ValueError as error:
            raise ValueError(f"the column {name} {error}") from error
    return pa.table(columns, metadata=table.schema.metadata)
