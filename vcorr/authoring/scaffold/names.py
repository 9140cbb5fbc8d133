"""Derives all names of a new plugin from the given one, and checks that they are free."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from dataclasses import dataclass

from vcorr.contract.errors import UsageError, unknown_name
from vcorr.plugins.registry import Registry

KINDS = ("model", "probe", "metric", "dataset", "tracker", "guidance")
PREFIX = "vcorr-"

_DISTRIBUTION = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Names:
    """The names of a new plugin, for example of "vcorr-my-model".

    Attributes:
        kind: kind of the entry, such as "model".
        distribution: "vcorr-my-model", which pip installs.
        package: "vcorr_my_model", which Python imports.
        entry: "my-model", which users type.
        module: "my_model", for files and columns.
        label: "MyModel", for classes.
    """

    kind: str
    distribution: str

    @property
    def package(self) -> str:
        """Name of the package, which Python imports."""
        return self.distribution.replace("-", "_")

    @property
    def entry(self) -> str:
        """Name of the entry and of the entry point."""
        return self.distribution.removeprefix(PREFIX)

    @property
    def module(self) -> str:
        """Name of the entry as an identifier."""
        return self.entry.replace("-", "_")

    @property
    def label(self) -> str:
        """Name of the class."""
        return "".join(word.capitalize() for word in self.entry.split("-"))


def new_names(distribution: str, kind: str, registry: Registry) -> Names:
    """Returns the names of a new plugin.

    Raises:
        UsageError: the kind is unknown, or a name has the wrong form or is in use.
    """
    if kind not in KINDS:
        raise unknown_name("kind", kind, KINDS)
    names = Names(kind, distribution)
    _check_form(names)
    _check_free(names, registry)
    return names


def _check_form(names: Names) -> None:
    if not (_DISTRIBUTION.fullmatch(names.distribution) and _DISTRIBUTION.fullmatch(names.entry)):
        raise UsageError(
            f"{names.distribution!r} is not a name for a plugin.",
            hint="Use lowercase letters and digits, with '-' between words; begin with a letter, also after "
            f"'{PREFIX}'. For example: {PREFIX}my-{names.kind}",
        )
    if keyword.iskeyword(names.module) or keyword.iskeyword(names.package):
        raise UsageError(f"{names.entry!r} is a keyword of Python.", hint="Choose another name.")


def _check_free(names: Names, registry: Registry) -> None:
    for claim in registry.catalogue(names.kind).claims(names.entry):
        raise UsageError(
            f"The {names.kind} name {names.entry!r} is taken by {claim.source.label}.",
            hint=f"Choose another name. Names in use: vcorr list {names.kind}s",
        )
    if names.package in sys.stdlib_module_names or importlib.util.find_spec(names.package) is not None:
        raise UsageError(
            f"Python already imports something else as {names.package!r}.",
            hint=f"Choose another name, such as {PREFIX}{names.entry}-{names.kind}",
        )
