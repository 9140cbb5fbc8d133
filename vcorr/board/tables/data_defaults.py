"""Finds the default options of datasets: a table names the options of its data that differ from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from vcorr.contract.errors import VcorrError
from vcorr.plugins.registry import Registry
from vcorr.store.fingerprint import flat, plain

DataDefaults: TypeAlias = Callable[[str], Mapping[str, Any]]
"""A function that returns the default options of a dataset, by dotted name; none if they are not known."""

_PLACES = frozenset({"path"})
"""Options that say where files are, and not what is measured."""


def no_defaults(dataset: str) -> Mapping[str, Any]:
    """Returns no option, as for a dataset that is not installed."""
    return {}


def find_defaults(registry: Registry) -> DataDefaults:
    """Returns the function for the datasets of a registry."""

    def find(dataset: str) -> Mapping[str, Any]:
        try:
            made = registry.datasets.get(dataset).entry.config_type()
            options = plain(made()) if made is not None else {}
        except (VcorrError, TypeError):  # not installed or broken, or an option that must be given
            return {}
        return {name: value for name, value in flat(options) if name not in _PLACES}

    return find
