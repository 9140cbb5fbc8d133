"""Reads keys of a board's YAML; wrong ones are errors that name the place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vcorr.contract.errors import UsageError, unknown_name


def check_keys(values: Any, label: str, required: tuple[str, ...], optional: tuple[str, ...]) -> None:
    """Checks that `values` is a mapping with all required keys, and no others than these and the optional ones.

    Raises:
        UsageError: it is not; the message begins with `label`.
    """
    if not isinstance(values, dict):
        raise UsageError(f"{label} must be a mapping, got {values!r}.")
    for key in values:
        if key not in required + optional:
            raise unknown_name(f"key in {label}:", str(key), required + optional)
    missing = [key for key in required if key not in values]
    if missing:
        raise UsageError(f"{label} lacks {', '.join(missing)}.")


def read_text_value(values: Mapping[str, Any], key: str, label: str, *, default: str | None = None) -> str:
    """Returns the text of a key. It may be empty only if there is a default.

    Raises:
        UsageError: the value is no text; the message begins with `label`.
    """
    value = values.get(key, default)
    if not isinstance(value, str) or (default is None and not value.strip()):
        raise UsageError(f"{label}: {key} must be text, got {value!r}.", hint="Quote it if YAML reads it as a number.")
    return value.strip()


def read_names(value: Any, label: str) -> tuple[str, ...]:
    """Returns a list of names.

    Raises:
        UsageError: it is something else; the message begins with `label`.
    """
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise UsageError(f"{label} must be a list of names, got {value!r}.")
    return tuple(value)
