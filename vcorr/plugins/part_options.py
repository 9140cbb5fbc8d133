"""Options of parts: checks what was set against a part's config dataclass.

OmegaConf does the merging and the types; nothing of it leaves this module.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vcorr.contract.errors import UsageError, first_line, unknown_name


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
    try:
        merged = OmegaConf.merge(OmegaConf.structured(config_type), OmegaConf.create(_nest(options)))
        return OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise UsageError(f"{part}.{error.full_key}: {first_line(error)}.") from error


def _nest(options: Mapping[str, Any]) -> dict[str, Any]:
    """Turns options {"a.b": value} into {"a": {"b": value}}."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        *outer, last = key.split(".")
        inner = found
        for name in outer:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise UsageError(f"{key} was set, and also {name} as a whole.", hint="Leave out one of them.")
        before, new = inner.get(last), dict(value) if isinstance(value, Mapping) else value
        inner[last] = {**before, **new} if isinstance(before, dict) and isinstance(new, dict) else new
    return found
