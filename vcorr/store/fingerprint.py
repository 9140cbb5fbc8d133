"""Fingerprints: a hash over everything that can change numbers. What cannot be hashed is an error, never ignored."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

from vcorr.contract.errors import VcorrError

LENGTH = 12
"""Characters of a fingerprint in a run id."""

_SETTLED_NS = 5_000_000_000
"""A file written less than this long ago may be written again without its times changing: clocks of file systems are
coarse."""


def fingerprint(values: Mapping[str, Any]) -> str:
    """Hex SHA-256 of the values in canonical JSON (sorted keys, shortest floats).

    Raises:
        VcorrError: a value is neither plain data nor a dataclass of plain data; the message names its key.
    """
    text = json.dumps(plain(values), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any, key: str = "spec") -> Any:  # noqa: PLR0911  # one return a kind of value reads best
    """`value` as JSON-ready data: dataclasses as mappings, tuples as lists, NaN as its name.

    Raises:
        VcorrError: the value has no plain form.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, Enum):
        return plain(value.value, key)
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name), f"{key}.{f.name}") for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v, f"{key}.{k}") for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v, f"{key}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(v, key) for v in value), key=_place)
    raise VcorrError(f"{key} is {value!r}, which cannot be part of a fingerprint: only plain values can.")


def _place(value: Any) -> tuple[str, float, str]:
    """Where a plain value stands among those of a set: numbers by size, then all others by their text."""
    if isinstance(value, (int, float)):
        return "", value, ""
    return "text", 0, value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def differing(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    """What differs between two sets of plain values: dotted name to the two values, None for one that is not there."""
    left, right = dict(flat(a or {})), dict(flat(b or {}))
    names = sorted(left.keys() | right.keys())
    return {name: (left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)}


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mappings, and lists of named ones, as dotted names and what they hold."""
    if isinstance(value, list) and value and all(isinstance(item, Mapping) and "name" in item for item in value):
        value = {item["name"]: {k: v for k, v in item.items() if k != "name"} for item in value}
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, part in value.items():
        yield from flat(part, f"{name}.{key}" if name else str(key))


def hash_files(folder: Path, pattern: str = "**/*") -> str:
    """Hex SHA-256 over the names and contents of the files below `folder`; the identity of weights given by path."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.glob(pattern) if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(bytes.fromhex(hash_file(path)))
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """Returns the hex SHA-256 of a file's content.

    A file that nobody touched since is not read again in this process: the weights of a run are hashed for its
    fingerprint and once more when they are loaded, and may be tens of gigabytes.

    Raises:
        OSError: it cannot be read.
    """
    path = path.resolve()
    found = path.stat()
    if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < _SETTLED_NS:
        return _digest(path)
    return _settled(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=1 << 14)
def _settled(path: Path, *_: int) -> str:
    return _digest(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
