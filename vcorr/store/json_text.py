"""Reads JSON that people and other programs wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

MOST_LEVELS = 100
"""Most brackets inside brackets. No file of vcorr comes near, and code that walks through values stays in its stack."""


def read_json(text: str | bytes) -> Any:
    """Returns the values of a JSON document.

    Raises:
        ValueError: the text is not JSON, names a key twice, or has more than `MOST_LEVELS` brackets inside brackets.
    """
    try:
        values = json.loads(text, object_pairs_hook=_read_pairs)
    except RecursionError as error:
        raise ValueError("it has too many brackets inside brackets") from error
    if not _is_flat(values):
        raise ValueError("it has too many brackets inside brackets")
    return values


def _read_pairs(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has the key {twice!a} twice")
    return found


def _is_flat(values: Any) -> bool:
    """Returns whether no value is deeper than `MOST_LEVELS`; walks level by level, so that no depth is too much."""
    level = [values]
    for _ in range(MOST_LEVELS + 1):
        inside = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, (dict, list)))
        level = [part for parts in inside for part in parts]
        if not level:
            return True
    return False
