"""Fingerprints: hashes of everything that can change numbers.

A value that cannot be hashed is an error; it is never left out.
"""

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
from vcorr.contract.option_notes import find_later

LENGTH = 12
"""Number of characters of a fingerprint in a run id."""

_SETTLED_NS = 5_000_000_000
"""Age in nanoseconds from which a file's times can be trusted.

File systems have coarse clocks: a younger file can be written again without a change of its times.
"""


def fingerprint(values: Mapping[str, Any]) -> str:
    """Returns the hex SHA-256 of the values in canonical JSON (sorted keys, shortest floats).

    Raises:
        VcorrError: a value is neither plain data nor a dataclass of plain data; the message names its key.
    """
    text = json.dumps(plain(values), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def plain(value: Any, key: str = "spec") -> Any:  # noqa: PLR0911  # one return per kind of value reads best
    """Returns `value` as data for JSON: dataclasses as mappings, tuples and sets as lists, NaN as its name.

    Raises:
        VcorrError: the value has no plain form; the message names `key`.
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
        return sorted((plain(v, key) for v in value), key=_sort_key)
    raise VcorrError(f"{key} is {value!r}, which cannot be part of a fingerprint: only plain values can.")


def plain_options(options: Any, key: str) -> Any:
    """Returns options as data for JSON, without those that came later and have their defaults.

    So fingerprints of earlier runs stay as they are. Raises as `plain`.
    """
    values = plain(options, key)
    if not isinstance(values, dict):
        return values
    later = find_later(options)
    return {name: value for name, value in values.items() if name not in later}


def is_unicode(text: str) -> bool:
    """Returns whether a text can be stored in UTF-8.

    Command lines and file names may hold other bytes; Python then has half characters (surrogates) in their place.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sort_key(value: Any) -> tuple[str, float, str]:
    """Returns the key that sorts the plain values of a set: numbers by size, then all other values by their text."""
    if isinstance(value, (int, float)):
        return "", value, ""
    return "text", 0, value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def find_differences(a: Any, b: Any) -> dict[str, tuple[Any, Any]]:
    """Returns where two nested mappings of plain values differ: dotted name to the two values, None if missing."""
    left, right = dict(flat(a or {})), dict(flat(b or {}))
    names = sorted(left.keys() | right.keys())
    return {name: (left.get(name), right.get(name)) for name in names if left.get(name) != right.get(name)}


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of nested mappings with their dotted names; also of lists of mappings that have a `name`."""
    if isinstance(value, list) and value and all(map(_has_name, value)):
        value = {item["name"]: {k: v for k, v in item.items() if k != "name"} for item in value}
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, part in value.items():
        yield from flat(part, f"{name}.{key}" if name else str(key))


def _has_name(item: Any) -> bool:
    return isinstance(item, Mapping) and isinstance(item.get("name"), str)


def hash_files(folder: Path, pattern: str = "**/*") -> str:
    """Returns the hex SHA-256 of the names and contents of the files below `folder`, such as a folder of weights."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.glob(pattern) if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        digest.update(bytes.fromhex(hash_file(path)))
    return digest.hexdigest()


def hash_file(path: Path) -> str:
    """Returns the hex SHA-256 of a file's content.

    A process reads an unchanged file once. The weights of a run are hashed for its fingerprint and again when they are
    loaded, and they may be tens of gigabytes.

    Raises:
        OSError: the file cannot be read.
    """
    path = path.resolve()
    found = path.stat()
    if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) < _SETTLED_NS:
        return _digest(path)
    return _digest_settled(path, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@lru_cache(maxsize=1 << 14)
def _digest_settled(path: Path, *_: int) -> str:
    return _digest(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
