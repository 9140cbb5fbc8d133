"""What a pickle may hold (`vcorr.data.plain_pickle`): plain values, and numpy arrays from the data in the file.

The functions here stand in the place of those that numpy and Python name in their pickles.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

SMALL = 1 << 10
"""Longest text or bytes that later entries of a file may refer to."""


MOST_AXES = 32
"""Axes of an array; with more, their product alone could take hours."""


class DamagedPickleError(ValueError):
    """The opcodes make no sense; the message says why, and `iterate_entries` adds the file."""


class ForeignError(DamagedPickleError):
    """The pickle needs something that is not loaded, and may be a whole file."""


class Name(Enum):
    """What a pickle may name. The values are the names in files; the modules are in `_MODULES`."""

    RECONSTRUCT = "_reconstruct"
    FROM_BUFFER = "_frombuffer"
    SCALAR = "scalar"
    ARRAY = "ndarray"
    DTYPE = "dtype"
    ENCODE = "encode"
    BYTES = "bytes"
    BYTE_ARRAY = "bytearray"
    SET = "set"
    FROZEN_SET = "frozenset"


_BUILT_IN = ("builtins", "__builtin__")
_MODULES = {
    Name.RECONSTRUCT: ("numpy.core.multiarray", "numpy._core.multiarray"),
    Name.FROM_BUFFER: ("numpy.core.numeric", "numpy._core.numeric"),
    Name.SCALAR: ("numpy.core.multiarray", "numpy._core.multiarray"),
    Name.ARRAY: ("numpy",),
    Name.DTYPE: ("numpy",),
    Name.ENCODE: ("_codecs",),
    Name.BYTES: _BUILT_IN,
    Name.BYTE_ARRAY: _BUILT_IN,
    Name.SET: _BUILT_IN,
    Name.FROZEN_SET: _BUILT_IN,
}
NAMES = {(module, name.value): name for name, modules in _MODULES.items() for module in modules}


class PendingType:
    """A number type while it is built."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype


class PendingArray:
    """An array before its content is known, and afterwards for what refers back to it."""

    def __init__(self) -> None:
        self.content: NDArray[Any] | None = None


class Arguments(tuple[Any, ...]):
    """A tuple that holds something that is no plain value."""


UNFINISHED = (Name, PendingType, PendingArray, Arguments)
_SCALARS = (str, bytes, int, float, type(None))


def check_plain(value: Any) -> Any:
    """Returns the value if it may leave the file; raises ForeignError for what only stands for a part of an array."""
    if isinstance(value, UNFINISHED):
        raise ForeignError(f"holds {describe(value)}, which is no plain value.")
    return value


def check_key(value: Any) -> Any:
    """Returns the value if it can be hashed at a small cost: tuples inside tuples could go on without end."""
    if isinstance(value, _SCALARS) or (type(value) is tuple and all(isinstance(item, _SCALARS) for item in value)):
        return value
    raise DamagedPickleError(f"{describe(value)} cannot be a key")


def is_small(value: Any) -> bool:
    """Returns whether a value takes so little memory that it is kept for later entries of a file."""
    if isinstance(value, str | bytes):
        return len(value) <= SMALL
    return isinstance(value, int | float | Name | PendingType | type(None))


def describe(value: Any) -> str:
    """Returns a few words for a value in an error."""
    if isinstance(value, Name):
        return f"{_MODULES[value][0]}.{value.value}"
    plain = {PendingType: "a number type", PendingArray: "an unfinished array", Arguments: "an unfinished tuple"}
    return plain.get(type(value), f"a value of type {type(value).__name__}")


def _new_array(kind: Any, shape: Any, code: Any) -> PendingArray:
    if kind is not Name.ARRAY or shape != (0,) or code not in (b"b", "b"):
        raise DamagedPickleError("an array is begun in an unknown way")
    return PendingArray()


_TYPE = re.compile(r"[<>=|]?([biufSUO])(\d{0,9})")
_WIDTHS = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "O": (4, 8)}


def _new_type(name: Any, *_: Any) -> PendingType:
    """Returns a number type: truth values, numbers, bytes or text of a fixed length, or "O" for lists of values."""
    found = _TYPE.fullmatch(_text(name))
    if found is None or (found[2] and int(found[2]) not in _WIDTHS.get(found[1], range(1, 1 << 30))):
        raise ForeignError(f"holds an array of type {name!r:.40}, which is not read.")
    return PendingType(np.dtype(object if found[1] == "O" else found[0]))


def order_bytes(dtype: np.dtype[Any], version: Any, order: Any, *parts: Any) -> np.dtype[Any]:
    """Returns the type with the byte order of its state. Fields, shapes and dates inside a type are refused."""
    if order not in ("<", ">", "=", "|") or any(part is not None for part in parts[:3]):
        raise ForeignError("holds an array whose elements have parts, which is not read.")
    return dtype if order == "|" else dtype.newbyteorder(order)


def fill_array(version: Any, shape: Any, kind: Any, columns_first: Any, data: Any) -> NDArray[Any]:
    """Returns the array of numpy's state, as protocols 2 to 4 store it."""
    return _shape_array(data, kind, shape, "F" if columns_first else "C")


def _shape_array(data: Any, kind: Any, shape: Any, order: Any, axes: Any = None) -> NDArray[Any]:
    """Returns an array of exactly the given data. order: "C", "F", or "K" with the axes as `numpy` stores them."""
    if not isinstance(kind, PendingType) or type(shape) is not tuple:
        raise DamagedPickleError("an array has no type or shape")
    # what stands in a shape is not written out: tuples inside tuples could be long without end
    if len(shape) > MOST_AXES or any(not isinstance(side, int) or side < 0 for side in shape):
        raise DamagedPickleError(f"an array has a shape of {len(shape)} axes that no array can have")
    flat = _flat_array(data, kind.dtype)
    if math.prod(shape) != len(flat):
        raise DamagedPickleError(f"an array of shape {shape} has data for {len(flat):,} values")
    if order == "K" and axes is not None:
        return flat.reshape(shape).transpose(axes)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _flat_array(data: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.hasobject:
        if type(data) is not list:
            raise DamagedPickleError("an array of values has no list of them")
        if any(not isinstance(value, _SCALARS) for value in data):
            raise ForeignError("holds an array of arrays or lists, which is not read.")
        found = np.empty(len(data), object)
        found[:] = data
        return found
    data = data.encode("latin-1") if isinstance(data, str) else data
    if not isinstance(data, bytes) or not dtype.itemsize:
        raise DamagedPickleError("an array has no data")
    if dtype.kind == "b":  # bytes other than 0 and 1 would be truth values that differ from True
        return np.frombuffer(data, np.uint8).astype(np.bool_)
    if dtype.kind == "U" and (np.frombuffer(data, f"{dtype.str[0]}u4") > 0x10FFFF).any():
        raise DamagedPickleError("an array holds text that is no text")
    return np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False)


def _new_scalar(kind: Any, data: Any) -> Any:
    """Returns a number of numpy as one of Python."""
    if isinstance(kind, PendingType) and kind.dtype.hasobject:
        raise ForeignError("holds a numpy number of type object, which is not read.")
    return _shape_array(data, kind, (1,), "C")[0].item()


def _encode(text: Any, coding: Any = "utf-8") -> bytes:
    """Returns bytes that protocol 2 stores as text."""
    if _text(coding) not in ("latin1", "latin-1"):
        raise ForeignError(f"holds bytes in the coding {coding!r:.40}, which is not read.")
    return _text(text).encode("latin-1")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise DamagedPickleError(f"{describe(value)} stands in place of text")
    return value


def _bytes(value: Any = b"", *coding: Any) -> bytes:
    if isinstance(value, str):
        return _encode(value, *coding)
    if not isinstance(value, bytes):
        raise DamagedPickleError(f"{describe(value)} stands in place of bytes")
    return value


def _members(values: Any = ()) -> list[Any]:
    if type(values) not in (list, tuple):
        raise DamagedPickleError(f"{describe(values)} stands in place of the members of a set")
    return [check_key(value) for value in values]


CALLS: dict[Any, Callable[..., Any]] = {
    Name.RECONSTRUCT: _new_array,
    Name.FROM_BUFFER: _shape_array,
    Name.SCALAR: _new_scalar,
    Name.DTYPE: _new_type,
    Name.ENCODE: _encode,
    Name.BYTES: _bytes,
    Name.BYTE_ARRAY: _bytes,
    Name.SET: lambda *values: set(_members(*values)),
    Name.FROZEN_SET: lambda *values: frozenset(_members(*values)),
}
