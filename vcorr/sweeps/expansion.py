"""Expands the file of a sweep to the settings of its runs."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vcorr.contract.errors import UsageError
from vcorr.runner.spec import Settings
from vcorr.sweeps.sweep_file import EXCLUDE, INCLUDE, SweepFile, name_entry

MOST_RUNS = 10_000
"""The most runs that one file may have."""
MODEL = "model"


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep. number: from 1. settings: all that the file and the command line say about it.

    varied: the settings in which it differs from other runs of the sweep, as they would be typed; its model if it has
    none. listed: its values of the lists, by which an entry of `exclude` leaves it out; none for a run of its own.
    """

    number: int
    settings: Settings
    varied: Mapping[str, str]
    listed: Settings

    @property
    def label(self) -> str:
        """The settings in which it differs, in words."""
        return self.describe()

    def describe(self, without: Collection[str] = ()) -> str:
        """Returns the settings in which it differs, in words. without: keys that are left out."""
        return ", ".join(f"{name} {text}" for name, text in self.varied.items() if name not in without)


def expand(file: SweepFile, typed: Settings) -> list[SweepRun]:
    """Returns the runs of a sweep; runs of one model follow each other, in the order of the file.

    Args:
        file: what the file says.
        typed: settings of the command line, which override the file.

    Raises:
        UsageError: a typed key is a list in the file, or an entry names a wrong key or has no effect. Also if there is
            no run, or if there are more than `MOST_RUNS`.
    """
    for key in typed:
        if key in file.keys:
            raise UsageError(
                f"{key} is given on the command line, and {file.path} has a list of it.",
                hint=f"Leave it out, or take {key} out of the file.",
            )
    product = _leave_out(file, _multiply(file))
    listed = [{key: value for key, value in own.items() if key in file.keys} for own in product]
    runs = [{**file.common, **own, **typed} for own in _include(file, product)]
    if not runs:
        raise UsageError(
            f"{file.path}: no run is left.", hint=f"Take entries out of {EXCLUDE}, or add some to {INCLUDE}."
        )
    models = list(dict.fromkeys(map(_find_model, runs)))
    each = zip(runs, _find_varied(runs), itertools.chain(listed, itertools.repeat({})), strict=False)
    ordered = sorted(each, key=lambda one: models.index(_find_model(one[0])))
    return [SweepRun(number, *one) for number, one in enumerate(ordered, 1)]


def _multiply(file: SweepFile) -> list[dict[str, Any]]:
    """Returns the product of all lists: none without a list, unless there is nothing but one run."""
    count = math.prod(len(axis.items) for axis in file.axes)
    if count + len(file.include) > MOST_RUNS:
        raise UsageError(
            f"{file.path} stands for {count + len(file.include)} runs, and {MOST_RUNS} are the most.",
            hint="Split it into several files.",
        )
    if not file.axes and file.include:
        return []
    return [
        dict(itertools.chain.from_iterable(item.items() for item in items))
        for items in itertools.product(*(axis.items for axis in file.axes))
    ]


def _leave_out(file: SweepFile, product: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the product without what `exclude` names."""
    for number, excluded in enumerate(file.exclude, 1):
        where = name_entry(file.path, EXCLUDE, number)
        for key in excluded:
            if key not in file.keys:
                raise UsageError(f"{where}: {key} is no list of the sweep.", hint=_say_lists(file))
        left = [own for own in product if not _agrees(own, excluded)]
        if len(left) == len(product):
            raise UsageError(f"{where} leaves out nothing.", hint="Correct its values, or take it out.")
        product = left
    return product


def _include(file: SweepFile, product: Sequence[Settings]) -> list[dict[str, Any]]:
    """Returns the product with what `include` changes, and then the runs that it adds.

    An entry changes the runs of the product that agree with it in every key of a list that it names. An entry with
    which none agrees is a run of its own.
    """
    changed = [dict(own) for own in product]
    added: list[dict[str, Any]] = []
    for number, entry in enumerate(file.include, 1):
        named = {key: value for key, value in entry.items() if key in file.keys}
        if file.keys and not named:
            raise UsageError(
                f"{name_entry(file.path, INCLUDE, number)} names no list of the sweep, so it would change every run.",
                hint=f"Write its keys at the top of the file. {_say_lists(file)}",
            )
        found = [index for index, own in enumerate(product) if named and _agrees(own, named)]
        if found and len(named) == len(entry):
            raise UsageError(
                f"{name_entry(file.path, INCLUDE, number)} changes nothing: the lists already give this run.",
                hint="Give it another key, or take it out.",
            )
        for index in found:
            changed[index] |= entry
        if not found:
            added.append(dict(entry))
    return [*changed, *added]


def _say_lists(file: SweepFile) -> str:
    return f"Its lists: {', '.join(file.keys)}." if file.keys else "It has no lists."


def _agrees(own: Settings, named: Settings) -> bool:
    return all(key in own and as_typed(own[key]) == as_typed(value) for key, value in named.items())


def as_typed(value: Any) -> str:
    """Returns a value as it would be typed on the command line, so that 8 and "8" are the same."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list):
        return ",".join(map(as_typed, value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _find_model(settings: Settings) -> str:
    return as_typed(settings.get(MODEL))


def _find_varied(runs: Sequence[Settings]) -> Iterator[dict[str, str]]:
    """Yields the settings in which each run differs from others; the model of a run that has none of them."""
    names = list(dict.fromkeys(key for settings in runs for key in settings))
    varied = [name for name in names if len({_show(settings, name) for settings in runs}) > 1]
    for settings in runs:
        shown, model = (
            {name: text for name in names if (text := _show(settings, name))} for names in (varied, [MODEL])
        )
        yield shown or model


def _show(settings: Mapping[str, Any], name: str) -> str:
    return as_typed(settings[name]) if name in settings else ""
