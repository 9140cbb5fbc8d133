"""What a new plugin is called: one name given, all others derived, none of them taken."""

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
    """The names of a new plugin, e.g. of "vcorr-my-model".

    distribution: "vcorr-my-model", what pip installs. package: "vcorr_my_model", what Python imports. entry:
    "my-model", what users type. module: "my_model", of files and columns. label: "MyModel", of classes.
    """

    kind: str
    distribution: str

    @property
    def package(self) -> str:
        """The importable package."""
        return self.distribution.replace("-", "_")

    @property
    def entry(self) -> str:
        """The name of the entry and of the entry point."""
        return self.distribution.removeprefix(PREFIX)

    @property
    def module(self) -> str:
        """The entry's name as an identifier."""
        return self.entry.replace("-", "_")

    @property
    def label(self) -> str:
        """The class."""
        return "".join(word.capitalize() for word in self.entry.split("-"))


def new_names(distribution: str, kind: str, registry: Registry) -> Names:
    """The names of a new plugin.

    Raises:
        UsageError: the kind is unknown, or a name has the wrong form or is taken.
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
            hint="Lowercase letters and digits, words joined by '-', each part a letter first: for example "
            f"{PREFIX}my-{names.kind}",
        )
    if keyword.iskeyword(names.module) or keyword.iskeyword(names.package):
        raise UsageError(f"{names.entry!r} is a word of Python's own.", hint="Choose another name.")


def _check_free(names: Names, registry: Registry) -> None:
    for claim in registry.catalogue(names.kind).claims(names.entry):
        raise UsageError(
            f"The {names.kind} name {names.entry!r} is taken by {claim.source.label}.",
            hint=f"Choose another name; those in use: vcorr list {names.kind}s",
        )
    if names.package in sys.stdlib_module_names or importlib.util.find_spec(names.package) is not None:
        raise UsageError(
            f"Python already imports something else as {names.package!r}.",
            hint=f"Choose another name, such as {PREFIX}{names.entry}-{names.kind}",
        )
