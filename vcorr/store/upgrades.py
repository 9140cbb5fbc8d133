"""From earlier layouts of the tables to this one, a version at a time (docs/results-format.md)."""

from __future__ import annotations

import pyarrow as pa

from vcorr.store import schema as schemas


def upgraded(table: pa.Table, name: schemas.TableName, version: int) -> pa.Table:
    """A table of layout `version` in the layout of now, with its fingerprint."""
    if version == schemas.SCHEMA_VERSION:
        return table
    fingerprint = (table.schema.metadata or {}).get(schemas.FINGERPRINT_KEY, b"").decode()
    for step in _STEPS[version - 1 :]:
        table = step(table, name)
    target = schemas.schema(name, fingerprint)
    return table.select(target.names).cast(target)


def _with_licence(table: pa.Table, name: schemas.TableName) -> pa.Table:
    """1 to 2: tracks did not say under which licence their tracker puts them."""
    if name == "tracks":
        table = table.append_column("licence", pa.array([""] * table.num_rows, pa.string()))
    return table


def _with_variants(table: pa.Table, name: schemas.TableName) -> pa.Table:
    """2 to 3: runs could be of `corrected` alone; predictions did not say so, and no switch could be flipped."""
    if name == "predictions":
        table = table.append_column("variant", pa.array(["corrected"] * table.num_rows, pa.string()))
    if name != "tracks":
        table = table.append_column("switches", pa.array([""] * table.num_rows, pa.string()))
    return table


def _with_boundary(table: pa.Table, name: schemas.TableName) -> pa.Table:
    """3 to 4: tracks did not say how far points are from a boundary between layers."""
    if name == "tracks":
        unknown: list[list[float]] = [[] for _ in range(table.num_rows)]
        table = table.append_column("boundary", pa.array(unknown, pa.list_(pa.float32())))
    return table


_STEPS = (_with_licence, _with_variants, _with_boundary)
"""_STEPS[v - 1] brings layout v to v + 1."""
