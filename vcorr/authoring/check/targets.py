"""Finds what `vcorr plugin check NAME` means: a distribution, a plugin, or one entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vcorr.contract.entries import Entry
from vcorr.contract.errors import unknown_name
from vcorr.plugins.registry import HOOKS, PluginReport, Registered, Registry


@dataclass(frozen=True)
class Target:
    """The plugins to check, and the entries to check."""

    name: str
    plugins: Sequence[PluginReport]
    entries: Sequence[Registered[Entry]]


def find_target(name: str, registry: Registry) -> Target:
    """Finds the plugins with that name or distribution, else the entries with that name ("probe:NAME" for one kind).

    Raises:
        UsageError: nothing has that name; the nearest name is suggested.
    """
    everything = _entries(registry)
    plugins = [report for report in registry.plugins if name in (report.source.name, report.source.distribution)]
    if plugins:
        sources = [report.source for report in plugins]
        return Target(name, plugins, [each for each in everything if each.source in sources])
    entries = [each for each in everything if name in (each.entry.name, f"{each.entry.kind}:{each.entry.name}")]
    if not entries:
        known = {each.entry.name for each in everything}
        known |= {word for report in registry.plugins for word in (report.source.name, report.source.distribution)}
        raise unknown_name("plugin", name, known, hint="What is installed: vcorr list plugins")
    sources = [each.source for each in entries]
    return Target(name, [report for report in registry.plugins if report.source in sources], entries)


def _entries(registry: Registry) -> list[Registered[Entry]]:
    """Returns every entry of every kind, including entries whose name several plugins claim."""
    catalogues = [registry.catalogue(kind.kind) for kind in HOOKS.values()]
    return [claim for catalogue in catalogues for name in catalogue.names() for claim in catalogue.claims(name)]
