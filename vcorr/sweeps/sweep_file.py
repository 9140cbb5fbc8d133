"""Reads the file of a sweep: keys that all runs have, lists whose product makes runs, and exceptions from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.runner.spec import FIELDS, LISTS, Settings, name_keys, name_options, read_mapping, read_settings

MATRIX, INCLUDE, EXCLUDE, SET = "matrix", "include", "exclude", "set"
_OWN_KEYS = (MATRIX, INCLUDE, EXCLUDE)


@dataclass(frozen=True)
class Axis:
    """A key whose items are multiplied with the items of all other axes.

    name: the key. items: the settings that each item stands for. is_list: False for a single value, which all runs of
    the product have.
    """

    name: str
    items: tuple[Settings, ...]
    is_list: bool = True

    @property
    def keys(self) -> tuple[str, ...]:
        """The settings that some item has."""
        return tuple(dict.fromkeys(key for item in self.items for key in item))


@dataclass(frozen=True)
class SweepFile:
    """What a file of a sweep says.

    common: settings of all runs. axes: the lists whose product makes runs. include: settings of single runs, or changes
    to runs of the product. exclude: what is left out of the product.
    """

    path: Path
    common: Settings
    axes: tuple[Axis, ...] = ()
    include: tuple[Settings, ...] = ()
    exclude: tuple[Settings, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The settings that lists give, so that runs of the product differ in them."""
        return tuple(key for axis in self.axes if axis.is_list for key in axis.keys)


def read_sweep(path: Path) -> SweepFile:
    """Returns what a file says; no name of a model, a probe or data is looked up.

    Raises:
        UsageError: the file cannot be read, is no YAML, has an unknown key, an empty list, or a key twice.
    """
    values = read_mapping(path, str(path))
    own = {name: values.pop(name, None) for name in _OWN_KEYS}
    for name in values:
        if name not in (*FIELDS, SET) and "." not in name:
            known = [*_OWN_KEYS, SET, *sorted(FIELDS)]
            raise unknown_name("key", name, known, hint=f"In {path}. Keys: {', '.join(known)}.")
    lists = {name: value for name, value in values.items() if _makes_runs(name, value)}
    common = _read_settings({name: values[name] for name in values if name not in lists}, str(path))
    axes = (*_read_axes(lists, str(path)), *_read_axes(_read_matrix(own[MATRIX], path), f"{path}, {MATRIX}"))
    _check_once(path, common, axes)
    include, exclude = (tuple(_read_entries(own[name], path, name)) for name in (INCLUDE, EXCLUDE))
    return SweepFile(path, common, axes, include, exclude)


def _read_settings(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns settings as `read_settings`, where every error names the file and the place in it."""
    try:
        return read_settings(values, where, dotted=True)
    except UsageError as error:
        if where in str(error):
            raise
        raise UsageError(error.message, hint=f"{error.hint}\nIn {where}.".strip()) from error


def _makes_runs(name: str, value: Any) -> bool:
    """Returns whether a key at the top of the file is a list, where one run takes a single value."""
    return isinstance(value, list) and name not in LISTS and "." not in name


def _read_matrix(values: Any, path: Path) -> dict[str, Any]:
    """Returns the keys under `matrix`. A mapping under `set` stands for the options in it."""
    found = {} if values is None else name_keys(values, f"{path}, {MATRIX}")
    options = found.get(SET)
    if not isinstance(options, dict):
        return found
    del found[SET]
    for name, value in name_options(options):
        if name in found:
            raise UsageError(f"{path}, {MATRIX}: {name} is there twice.", hint="Leave one of them out.")
        found[name] = value
    return found


def _read_axes(lists: Mapping[str, Any], where: str) -> Iterator[Axis]:
    for name, value in lists.items():
        items = value if isinstance(value, list) else [value]
        if not items:
            raise UsageError(
                f"{where}: {name} is an empty list, so there is no run.", hint="Give it a value, or leave it out."
            )
        yield Axis(name, tuple(_read_settings({name: item}, where) for item in items), isinstance(value, list))


def _check_once(path: Path, common: Settings, axes: Sequence[Axis]) -> None:
    """Raises UsageError if two places of a file give the same key."""
    seen = set(common)
    for axis in axes:
        if twice := seen.intersection(axis.keys):
            raise UsageError(
                f"{path}: {min(twice)} is there twice, for all runs and in a list, or in two lists.",
                hint="Leave one of them out.",
            )
        seen.update(axis.keys)


def _read_entries(values: Any, path: Path, name: str) -> Iterator[Settings]:
    """Yields the settings of the entries under `include` or `exclude`."""
    if not isinstance(values, list | None):
        raise UsageError(f"{path}: {name} must be a list.", hint=f"Begin each of its entries with '- '.{_EXAMPLE}")
    for number, entry in enumerate(values or (), 1):
        where = name_entry(path, name, number)
        settings = _read_settings(name_keys(entry, where), where)
        if not settings:
            raise UsageError(f"{where} is empty.", hint=f"Give it keys and values.{_EXAMPLE}")
        yield settings


_EXAMPLE = " For example: - {model: tiny, limit: 2}"


def name_entry(path: Path, name: str, number: int) -> str:
    """Returns what messages call an entry under `include` or `exclude`. number: from 1."""
    return f"{path}, {name}, entry {number}"
