"""Makes the options of a part from what a user set, as an instance of the part's config dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.plugins.option_values import Written, options_from, read_mapping


def make_config(config_type: type | None, options: Mapping[str, Any], part: str) -> Any:
    """Returns an instance of a part's config dataclass with `options` set; None for parts without options.

    Args:
        config_type: the dataclass; None for a part that has no options.
        options: values by name; "a.b" names the field b of the field a.
        part: what messages call the part, such as "probe".

    Raises:
        UsageError: an option that the part does not have, or a value of the wrong type.
    """
    if config_type is None:
        if options:
            raise UsageError(f"{part} has no options, but {', '.join(f'{part}.{k}' for k in options)} was set.")
        return None
    known = [f.name for f in dataclasses.fields(config_type)]
    for key in options:
        if key.split(".")[0] not in known:
            hint = f"Options of this {part}: {', '.join(known) or 'none'}."
            raise unknown_name("option", f"{part}.{key}", [f"{part}.{name}" for name in known], hint=hint)
    return options_from(config_type, _nest(options, part), f"{part}.")


def _nest(options: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Turns options {"a.b": value} into {"a": {"b": value}}."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        *outer, last = key.split(".")
        inner = found
        for name in outer:
            whole = inner.setdefault(name, {})
            whole = read_mapping(whole, f"{part}.{name}") if isinstance(whole, Written) else whole
            if not isinstance(whole, dict):
                raise UsageError(f"{part}.{key} was set, and also {name} as a whole.", hint="Leave out one of them.")
            inner[name] = inner = whole
        before = inner.get(last)
        new = value
        if isinstance(before, dict) and isinstance(value, Written):
            new = read_mapping(value, f"{part}.{key}")
        new = dict(new) if isinstance(new, Mapping) else new
        inner[last] = {**before, **new} if isinstance(before, dict) and isinstance(new, dict) else new
    return found
