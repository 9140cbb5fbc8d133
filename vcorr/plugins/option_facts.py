"""Describes the options of a part in words: type, allowed values, default, unit and explanation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, get_type_hints

from vcorr.contract.option_notes import notes_of
from vcorr.plugins.option_values import values_in_words
from vcorr.store.fingerprint import plain

REQUIRED = "required"
"""Default of an option that has none."""


@dataclass(frozen=True)
class OptionFacts:
    """An option in words. allowed: its type, with the values that it takes. default: as plain data."""

    name: str
    allowed: str
    default: Any
    unit: str
    explanation: str

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the name, as plain values for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "name"}


def describe_options(config_type: type | None) -> list[OptionFacts]:
    """Returns the options of a dataclass, in its order; after a nested dataclass come its own, as "outer.inner".

    Options that the class names in a set `LEFT_OUT` are left out: the part takes them at their default alone.

    Raises:
        PluginError: no option can have the type of a field.
    """
    return list(_describe(config_type, "")) if config_type is not None else []


def list_unexplained(config_type: type | None) -> list[str]:
    """Returns the names of the options that have no explanation."""
    return [each.name for each in describe_options(config_type) if not each.explanation.strip()]


def _describe(config_type: type, prefix: str) -> Iterator[OptionFacts]:
    hints = get_type_hints(config_type)
    refused: frozenset[str] = getattr(config_type, "LEFT_OUT", frozenset())
    for field in dataclasses.fields(config_type):
        if not field.init or field.name in refused:
            continue
        hint, notes, default = hints[field.name], notes_of(config_type, field.name), _default(field)
        inner = hint if dataclasses.is_dataclass(hint) and isinstance(hint, type) else None
        shown = None if inner else plain(default)
        yield OptionFacts(f"{prefix}{field.name}", values_in_words(hint, notes), shown, notes.unit, notes.explanation)
        if inner is not None:
            yield from _describe(inner, f"{prefix}{field.name}.")


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else REQUIRED
