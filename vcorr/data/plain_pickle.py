"""Reads pickles that hold numbers, text, bytes, plain containers and numpy arrays, and nothing else.

Python's own unpickler calls what a file names, so a file can run any program. This module does not use it. It
interprets the opcodes itself, and a name in the file can only select one of the constants of `Name`: nothing that a
file names is imported or called. Protocols 2 to 5 are read, without buffers outside the file.

Memory stays in proportion to the file. A declared size is compared with the length of the file before it is used. An
array has exactly the bytes that the file holds for it, and the number of opcodes is limited. `iterate_entries` keeps
one entry of the outermost list or dictionary at a time.
"""

from __future__ import annotations

import os
import pickletools
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from vcorr.contract.errors import first_line
from vcorr.data.pickle_files import FIRST_PROTOCOL, LAST_PROTOCOL, open_pickle
from vcorr.data.plain_values import (
    CALLS,
    NAMES,
    UNFINISHED,
    Arguments,
    DamagedPickleError,
    ForeignError,
    Name,
    PendingArray,
    PendingType,
    check_key,
    check_plain,
    describe,
    fill_array,
    is_small,
    order_bytes,
)

MOST_STEPS = 1 << 18
"""Opcodes per entry; a published entry has fewer than 3,000. An empty list takes one byte here and 64 in memory."""
LARGEST_INT = 64
"""Bytes of the largest whole number."""
LONGEST_NAME = 1 << 10
"""Letters of the longest module or name."""


def read_plain(path: Path) -> Any:
    """Reads the whole value of a pickle. Raises as `iterate_entries`, which needs less memory."""
    with open_pickle(path) as file:
        return _Machine(file).run()


def iterate_entries(path: Path) -> Iterator[tuple[str | int, Any]]:
    """Yields the entries of the outermost list or dictionary of a pickle, and forgets each before it reads the next.

    Yields:
        The key of the dictionary or the number in the list, and the value.

    Raises:
        MissingError: the file cannot be read.
        UsageError: it is no pickle of such a container, is cut off or damaged, or holds something that is not loaded;
            or an entry refers to an array or bytes of an earlier one.
    """
    with open_pickle(path) as file:
        yield from _Machine(file).iterate()


class _Machine:
    """Interprets one pickle. `stack` holds the values since the last mark, `outer` the stacks below older marks."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = os.fstat(file.fileno()).st_size
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._large: list[int] = []
        self._noted = 0
        self._steps = 0
        self._yielded = 0

    def run(self) -> Any:
        """Returns the value of the pickle."""
        while (code := self._take(1)) != b".":
            self._step(code)
        return self._finish()

    def iterate(self) -> Iterator[tuple[str | int, Any]]:
        """Yields the entries of the outermost container."""
        while (code := self._take(1)) != b".":
            before = self._yielded
            for entry in self._take_completed(code):
                self._forget()
                yield entry
                del entry  # it would stay in memory while the next one is read
                self._yielded += 1
            if self._yielded == before or code not in b"as":  # those would add the one entry that was taken
                self._step(code)
        rest = self._finish()
        if not isinstance(rest, list | dict):
            raise ForeignError(f"holds {describe(rest)}, not a list or a dictionary of clips.")
        pairs = rest.items() if isinstance(rest, dict) else enumerate(rest, self._yielded)
        yield from pairs

    def _finish(self) -> Any:
        if self._outer or len(self._stack) != 1:
            raise DamagedPickleError(f"it ends with {len(self._stack)} values, not with one")
        return check_plain(self._stack[0])

    def _take_completed(self, code: bytes) -> Iterator[tuple[str | int, Any]]:
        """Yields the entries that are complete before the opcode `code`, and takes them from the stack.

        A value is complete when the next one begins, or when the outermost container takes it. Other values stay on
        the stack, and are added to the container as in any unpickler.
        """
        stack, inside = self._stack, len(self._outer) == 1
        holder = self._outer[0] if inside else stack[:1]
        if len(self._outer) > 1 or len(holder) != 1 or not isinstance(holder[0], list | dict):
            return
        first = 0 if inside else 1
        if isinstance(holder[0], list):
            next_one = inside and code == b"}" and len(stack) == 1 and isinstance(stack[0], dict)
            if next_one or code in (b"e" if inside else b"a"):
                yield from self._take_items(first)
        else:
            next_one = inside and code in _BEGIN_TEXT and len(stack) == 2 and isinstance(stack[1], dict)
            if next_one or code in (b"u" if inside else b"s"):
                yield from self._take_pairs(first)

    def _take_items(self, first: int) -> Iterator[tuple[int, Any]]:
        for value in self._stack[first:]:
            del self._stack[first]
            yield self._yielded, check_plain(value)

    def _take_pairs(self, first: int) -> Iterator[tuple[str, Any]]:
        values = self._stack[first:]
        if len(values) % 2:
            raise DamagedPickleError("a key has no value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            del self._stack[first : first + 2]
            if not isinstance(key, str):
                raise DamagedPickleError(f"the name of a clip is {describe(key)}, not text")
            yield key, check_plain(value)

    def _forget(self) -> None:
        """Drops what may be large from what later entries can refer to."""
        for index in self._large:
            self._memo.pop(index, None)
        self._large.clear()
        self._steps = 0

    def _step(self, code: bytes) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise DamagedPickleError(f"one value takes more than {MOST_STEPS:,} steps")
        if (action := _ACTIONS.get(code)) is None:
            raise _refuse_opcode(code)
        try:
            action(self)
        except (ValueError, TypeError, OverflowError, struct.error) as error:
            if isinstance(error, DamagedPickleError):
                raise
            raise DamagedPickleError(first_line(error)) from error

    def _take(self, count: int) -> bytes:
        """Reads bytes of the file, after a comparison with its length."""
        if not 0 <= count <= self._left:
            raise DamagedPickleError(f"it ends too early, {count - self._left:,} bytes are missing")
        self._left -= count
        found = self._file.read(count)
        if len(found) < count:
            raise DamagedPickleError("it became shorter while it was read")
        return found

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _pop(self) -> Any:
        if not self._stack:
            raise DamagedPickleError("a value is missing")
        return self._stack.pop()

    def _pop_marked(self) -> list[Any]:
        """Takes the values since the last mark."""
        if not self._outer:
            raise DamagedPickleError("a mark is missing")
        found, self._stack = self._stack, self._outer.pop()
        return found

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _top(self, kind: type) -> Any:
        if not self._stack or type(self._stack[-1]) is not kind:
            raise DamagedPickleError(f"a {kind.__name__} is missing")
        return self._stack[-1]

    def _mark(self) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _push_tuple(self, values: list[Any]) -> None:
        unfinished = any(isinstance(value, UNFINISHED) for value in values)
        self._push(Arguments(values) if unfinished else tuple(values))

    def _tuple_of(self, count: int) -> None:
        self._push_tuple([self._pop() for _ in range(count)][::-1])

    def _extend(self, values: list[Any]) -> None:
        self._top(list).extend(map(check_plain, values))

    def _append(self) -> None:
        self._extend([self._pop()])

    def _update(self, values: list[Any]) -> None:
        found = self._top(dict)
        if len(values) % 2:
            raise DamagedPickleError("a key has no value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            found[check_key(key)] = check_plain(value)

    def _set_item(self) -> None:
        self._update([self._pop(), self._pop()][::-1])

    def _push_dict(self) -> None:
        values = self._pop_marked()
        self._push({})
        self._update(values)

    def _push_list(self) -> None:
        values = self._pop_marked()
        self._push([])
        self._extend(values)

    def _add_items(self) -> None:
        values = self._pop_marked()
        self._top(set).update(map(check_key, values))

    def _push_int(self, length: int) -> None:
        if length > LARGEST_INT:
            raise DamagedPickleError(f"a whole number of {length:,} bytes is too large")
        self._push(int.from_bytes(self._take(length), "little", signed=True))

    def _note(self, index: int) -> None:
        if not self._stack:
            raise DamagedPickleError("a value is missing")
        self._memo[index] = self._stack[-1]
        if not is_small(self._stack[-1]):
            self._large.append(index)
        self._noted = max(self._noted, index + 1)

    def _recall(self, index: int) -> None:
        if index not in self._memo:
            if index < self._noted:
                raise ForeignError(f"refers, in entry {self._yielded}, to data of an earlier entry, which is not kept.")
            raise DamagedPickleError(f"it refers to value {index}, which it does not hold")
        value = self._memo[index]
        finished = isinstance(value, PendingArray) and value.content is not None
        self._push(value.content if finished else value)

    def _push_name(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise DamagedPickleError("a name is no text")
        if (module, name) not in NAMES:
            raise ForeignError(f"holds {module[:80]}.{name[:80]}, which is not loaded: it could run any program.")
        self._push(NAMES[module, name])

    def _global(self) -> None:
        module, name = self._line(), self._line()
        self._push_name(module, name)

    def _line(self) -> str:
        found = bytearray()
        while (byte := self._take(1)) != b"\n":
            found += byte
            if len(found) > LONGEST_NAME:
                raise DamagedPickleError("a name is too long")
        return found.decode()

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._push_name(module, name)

    def _reduce(self) -> None:
        arguments, name = self._pop(), self._pop()
        if not isinstance(arguments, tuple) or not isinstance(name, Name) or name not in CALLS:
            raise ForeignError(f"calls {describe(name)}, which is never done.")
        self._push(CALLS[name](*arguments))

    def _build(self) -> None:
        state, value = self._pop(), self._pop()
        if isinstance(value, PendingType) and isinstance(state, tuple):
            value.dtype = order_bytes(value.dtype, *state)
            self._push(value)
        elif isinstance(value, PendingArray) and isinstance(state, tuple):
            value.content = fill_array(*state)
            self._push(value.content)
        else:
            raise ForeignError(f"sets the content of {describe(value)}, which is never done.")

    def _check_protocol(self) -> None:
        if not FIRST_PROTOCOL <= self._take(1)[0] <= LAST_PROTOCOL:
            raise DamagedPickleError("it changes its protocol")

    def _check_frame(self) -> None:
        if self._number("<Q") > self._left:
            raise DamagedPickleError("a frame is longer than the file")


def _refuse_opcode(code: bytes) -> DamagedPickleError:
    known = pickletools.code2op.get(code.decode("latin-1"))  # type: ignore[attr-defined]
    if known is None:
        return DamagedPickleError(f"{code!r} is no opcode")
    if known.name in ("NEXT_BUFFER", "READONLY_BUFFER"):
        return ForeignError("keeps buffers outside the file, which are not read.")
    return ForeignError(f"uses the opcode {known.name}, which is not read.")


_LENGTHS = {1: "<B", 4: "<I", 8: "<Q"}


def _read_sized(width: int, convert: Callable[[bytes], Any]) -> Callable[[_Machine], None]:
    return lambda m: m._push(convert(m._take(m._number(_LENGTHS[width]))))


def _same(data: bytes) -> bytes:
    return data


_BEGIN_TEXT = (b"X", b"\x8c", b"\x8d", b"T", b"U", b"h", b"j")
"""Opcodes that can begin the name of the next clip."""

_ACTIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": _Machine._check_protocol,
    b"\x95": _Machine._check_frame,
    b"N": lambda m: m._push(None),
    b"\x88": lambda m: m._push(True),
    b"\x89": lambda m: m._push(False),
    b"K": lambda m: m._push(m._number("<B")),
    b"M": lambda m: m._push(m._number("<H")),
    b"J": lambda m: m._push(m._number("<i")),
    b"G": lambda m: m._push(m._number(">d")),
    b"\x8a": lambda m: m._push_int(m._number("<B")),
    b"\x8b": lambda m: m._push_int(m._number("<I")),
    b"\x8c": _read_sized(1, bytes.decode),
    b"X": _read_sized(4, bytes.decode),
    b"\x8d": _read_sized(8, bytes.decode),
    b"U": _read_sized(1, lambda data: data.decode("latin-1")),
    b"T": _read_sized(4, lambda data: data.decode("latin-1")),
    b"C": _read_sized(1, _same),
    b"B": _read_sized(4, _same),
    b"\x8e": _read_sized(8, _same),
    b"\x96": _read_sized(8, _same),
    b"]": lambda m: m._push([]),
    b"}": lambda m: m._push({}),
    b")": lambda m: m._push(()),
    b"\x8f": lambda m: m._push(set()),
    b"(": _Machine._mark,
    b"t": lambda m: m._push_tuple(m._pop_marked()),
    b"\x85": lambda m: m._tuple_of(1),
    b"\x86": lambda m: m._tuple_of(2),
    b"\x87": lambda m: m._tuple_of(3),
    b"l": _Machine._push_list,
    b"d": _Machine._push_dict,
    b"a": _Machine._append,
    b"e": lambda m: m._extend(m._pop_marked()),
    b"s": _Machine._set_item,
    b"u": lambda m: m._update(m._pop_marked()),
    b"\x90": _Machine._add_items,
    b"\x91": lambda m: m._push(frozenset(map(check_key, m._pop_marked()))),
    b"0": _Machine._pop,
    b"1": _Machine._pop_marked,
    b"2": lambda m: m._push(m._stack[-1] if m._stack else m._pop()),
    b"q": lambda m: m._note(m._number("<B")),
    b"r": lambda m: m._note(m._number("<I")),
    b"\x94": lambda m: m._note(m._noted),
    b"h": lambda m: m._recall(m._number("<B")),
    b"j": lambda m: m._recall(m._number("<I")),
    b"c": _Machine._global,
    b"\x93": _Machine._stack_global,
    b"R": _Machine._reduce,
    b"b": _Machine._build,
}
"""What each opcode does. Opcodes that are not here are refused."""
