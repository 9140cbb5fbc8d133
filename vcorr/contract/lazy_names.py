"""Exports names from a public package without importing the modules that hold them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Makes `__getattr__`, `__dir__` and `__all__` of a package, so that its names are imported on first use.

    The type checker cannot see these names, so the package repeats the imports under ``if TYPE_CHECKING``.

    Args:
        package: ``__name__`` of the package.
        homes: modules and the names that each holds, separated by spaces; "" for the package's own subpackages.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def get(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = home_of[name]
        value = getattr(importlib.import_module(home), name) if home else importlib.import_module(f"{package}.{name}")
        setattr(sys.modules[package], name, value)
        return value

    names = sorted(home_of)
    return get, lambda: names, names
