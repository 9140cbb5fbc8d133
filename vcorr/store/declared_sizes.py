"""Checks how much memory an Arrow file declares that it needs, before any of it is taken.

A few kilobytes of compressed zeros may stand for gigabytes. The sizes are in the metadata of the record batches and in
front of each compressed buffer. pyarrow shows neither, so this module reads them from the file: the metadata are
FlatBuffers tables (format/File.fbs and format/Message.fbs of Apache Arrow), of which few fields are needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

MAGIC = b"ARROW1"
FREE_BYTES = 64 << 20
"""Every file may declare this much."""
MOST_GROWTH = 1000
"""How many times its own size a file may declare beyond that. Shards of real runs grow by less than 100."""
MOST_BYTES = 8 << 30
"""No file may declare more. The predictions of the largest models for one clip take one gibibyte."""
MOST_ROWS = 20_000_000

_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
"""Values of the field `header_type` of a message."""
_BLOCK, _BUFFER = struct.Struct("<qiiq"), struct.Struct("<qq")
_CONTINUED = 0xFFFFFFFF


class Declared(NamedTuple):
    """What a file declares. rows: of all record batches. bytes: of all their buffers, without compression."""

    rows: int
    bytes: int


def check_declared(file: pa.Buffer) -> None:
    """Checks the sizes that an Arrow file declares.

    Raises:
        ValueError: it declares more than a table of this size can hold, or is no Arrow file.
    """
    found = read_declared(file)
    if found.rows > MOST_ROWS:
        raise ValueError(f"it declares {found.rows} rows, and no table of a run has more than {MOST_ROWS}")
    check_bytes(file.size, found.bytes)


def check_bytes(size: int, declared: int) -> None:
    """Checks how many bytes of memory a file of `size` bytes declares.

    Raises:
        ValueError: it declares more than a table of this size can hold.
    """
    limit = min(FREE_BYTES + MOST_GROWTH * size, MOST_BYTES)
    if declared > limit:
        raise ValueError(f"its {size} bytes declare {declared} bytes of memory, more than {limit}")


def read_declared(file: pa.Buffer) -> Declared:
    """Returns the sizes that a file in Arrow's file format declares.

    Raises:
        ValueError: it is no such file.
    """
    data = memoryview(file)
    if len(data) < 24 or data[:6] != MAGIC or data[-6:] != MAGIC:
        raise ValueError("it is no file in Arrow's file format")
    try:
        rows, size = 0, 0
        for block in _blocks(data):
            batch = _batch(data, block)
            rows += batch.rows
            size += batch.bytes
    except (struct.error, IndexError) as error:
        raise ValueError("its metadata cannot be read") from error
    return Declared(rows, size)


class _Table:
    """A FlatBuffers table inside a buffer."""

    def __init__(self, data: memoryview, position: int) -> None:
        self._data, self._at = data, position
        self._fields = position - _int32(data, position)

    @classmethod
    def root(cls, data: memoryview) -> _Table:
        """Returns the outermost table."""
        return cls(data, _uint32(data, 0))

    def place(self, field: int) -> int:
        """Returns the position of a field's value; 0 if the table does not have the field."""
        slot = 4 + 2 * field
        if slot >= struct.unpack_from("<H", self._data, _inside(self._fields))[0]:
            return 0
        offset: int = struct.unpack_from("<H", self._data, self._fields + slot)[0]
        return self._at + offset if offset else 0

    def table(self, field: int) -> _Table:
        """Returns a table inside this one."""
        place = self.place(field)
        return _Table(self._data, place + _uint32(self._data, place))

    def number(self, field: int) -> int:
        """Returns a number of 64 bits."""
        place = self.place(field)
        value: int = struct.unpack_from("<q", self._data, place)[0] if place else 0
        return max(value, 0)

    def structs(self, field: int, form: struct.Struct) -> Iterator[tuple[int, ...]]:
        """Yields the elements of a vector of structs."""
        place = self.place(field)
        if place:
            start = place + _uint32(self._data, place)
            for index in range(_uint32(self._data, start)):
                yield form.unpack_from(self._data, start + 4 + index * form.size)


def _blocks(data: memoryview) -> Iterator[tuple[int, int]]:
    """Yields position and length of the metadata of every batch, dictionaries first."""
    length = _int32(data, len(data) - 10)
    footer = _Table.root(data[_inside(len(data) - 10 - length) : len(data) - 10])
    for field in (2, 3):
        for offset, metadata_length, _, _ in footer.structs(field, _BLOCK):
            yield _inside(offset), metadata_length


def _batch(data: memoryview, block: tuple[int, int]) -> Declared:
    offset, length = block
    prefix = 8 if _uint32(data, offset) == _CONTINUED else 4
    message = _Table.root(data[offset + prefix : offset + length])
    kind = data[offset + prefix + message.place(1)]
    if kind not in (_DICTIONARY_BATCH, _RECORD_BATCH):
        raise ValueError("it holds something that is neither rows nor a dictionary")
    batch = message.table(2)
    if kind == _DICTIONARY_BATCH:
        batch = batch.table(1)
    is_compressed, body = bool(batch.place(3)), offset + length
    sizes = (_buffer_bytes(data, body + start, size, is_compressed) for start, size in batch.structs(2, _BUFFER))
    return Declared(batch.number(0) if kind == _RECORD_BATCH else 0, sum(sizes))


def _buffer_bytes(data: memoryview, start: int, size: int, is_compressed: bool) -> int:
    if not is_compressed or size <= 0:
        return max(size, 0)
    declared: int = struct.unpack_from("<q", data, _inside(start))[0]
    return size if declared == -1 else max(declared, 0)


def _int32(data: memoryview, position: int) -> int:
    value: int = struct.unpack_from("<i", data, _inside(position))[0]
    return value


def _uint32(data: memoryview, position: int) -> int:
    value: int = struct.unpack_from("<I", data, _inside(position))[0]
    return value


def _inside(position: int) -> int:
    """Returns a position, if it is one: negative ones would count from the end."""
    if position < 0:
        raise IndexError(position)
    return position
