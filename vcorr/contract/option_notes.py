"""Explains the options of plugins: one record per option, next to its default in the options dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_KEY = "vcorr"


@dataclass(frozen=True)
class OptionNotes:
    """What an option means. `least` and `most` are the smallest and largest number that it takes.

    later: whether it came after the first version of its plugin.
    """

    explanation: str = ""
    unit: str = ""
    least: float | None = None
    most: float | None = None
    later: bool = False


def option(
    default: Any = dataclasses.MISSING,
    explanation: str = "",
    *,
    factory: Callable[[], Any] | None = None,
    unit: str = "",
    least: float | None = None,
    most: float | None = None,
    later: bool = False,
) -> Any:
    """Makes a field of an options dataclass that explains itself (`vcorr show KIND NAME`).

    For example: `grid: int = vcorr.option(20, "Query points along one side of the grid.", least=1)`.

    Args:
        default: the default; left out for an option that has to be given.
        explanation: what the option does, in one or a few sentences.
        factory: makes the default, if it is a list or a mapping.
        unit: unit of a number, such as "pixels".
        least: smallest number that is allowed; for several numbers, of each.
        most: largest number that is allowed.
        later: whether the option came after the first version of its plugin. Its default must then mean what every
            version before did. At this default it is no part of fingerprints, so runs of earlier versions continue.
    """
    metadata = {_KEY: OptionNotes(explanation, unit, least, most, later)}
    if factory is not None:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def notes_of(config_type: type, name: str) -> OptionNotes:
    """Returns what `option` noted about a field of a dataclass, or of its nearest base; else empty notes.

    So a dataclass may replace the default of an option that it inherits, without explaining it again.
    """
    for each in config_type.__mro__:
        field = vars(each).get("__dataclass_fields__", {}).get(name)
        found = field.metadata.get(_KEY) if field is not None else None
        if isinstance(found, OptionNotes):
            return found
    return OptionNotes()


def find_later(config: Any) -> set[str]:
    """Returns the names of the options that came later and have their defaults; none if there are no options."""
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        return set()
    return {
        field.name
        for field in dataclasses.fields(config)
        if notes_of(type(config), field.name).later and getattr(config, field.name) == _default_of(field)
    }


def _default_of(field: dataclasses.Field[Any]) -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()
