"""Finds plugins, keeps what they registered, and reports what is wrong with plugins that do not work.

One broken plugin never stops the others: it is listed with its reason. When two plugins register the same name, using
that name is an error that names both; every other name goes on working.
"""

from __future__ import annotations

import difflib
import functools
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from types import ModuleType
from typing import Any, Generic, Literal, TypeVar

import pluggy

from vcorr.contract import hookspecs
from vcorr.contract.entries import (
    DatasetEntry,
    Entry,
    GuidanceEntry,
    MetricEntry,
    ModelEntry,
    PageEntry,
    ProbeEntry,
    TrackerEntry,
)
from vcorr.contract.errors import PluginError, unknown_name

_LISTED = 12
"""Most names that the error for an unknown name lists."""

E = TypeVar("E", bound=Entry)
State = Literal["ok", "warning", "broken", "blocked"]

SELECT_VARIABLE = "VCORR_PLUGINS"
"""Environment variable: "a,b" loads only these plugins and the built-in one, "-a" blocks a plugin, "" blocks all."""

BUILTIN = "builtin"

HEAVY = ("torch", "diffusers", "transformers")
"""Packages that importing a plugin must not load, because every command imports every plugin."""

HOOKS: dict[str, type[Entry]] = {
    "vcorr_models": ModelEntry,
    "vcorr_probes": ProbeEntry,
    "vcorr_metrics": MetricEntry,
    "vcorr_datasets": DatasetEntry,
    "vcorr_trackers": TrackerEntry,
    "vcorr_guidances": GuidanceEntry,
    "vcorr_pages": PageEntry,
}


@dataclass(frozen=True)
class PluginSource:
    """One entry point: where a plugin comes from and how to import it.

    module: its import path. package: the top-level package of the module.
    """

    name: str
    distribution: str
    version: str
    load: Callable[[], object]
    package: str = ""
    module: str = ""

    @property
    def label(self) -> str:
        """Distribution and version, as messages print them."""
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Registered(Generic[E]):
    """An entry together with the plugin that registered it."""

    entry: E
    source: PluginSource


@dataclass
class PluginReport:
    """Result of loading one plugin. `reasons` is empty when nothing is wrong."""

    source: PluginSource
    state: State = "ok"
    reasons: list[str] = field(default_factory=list)
    provides: list[str] = field(default_factory=list)

    def worsen(self, state: State, reason: str) -> None:
        """Records a problem; a broken plugin stays broken."""
        if self.state != "broken":
            self.state = state
        self.reasons.append(reason)


class Catalogue(Generic[E]):
    """The entries of one kind, by name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.siblings: Sequence[Catalogue[Any]] = ()
        self._entries: dict[str, list[Registered[E]]] = {}

    def add(self, registered: Registered[E]) -> list[Registered[E]]:
        """Adds an entry; returns the others that claim its name."""
        claims = self._entries.setdefault(registered.entry.name, [])
        claims.append(registered)
        return claims[:-1]

    def names(self) -> list[str]:
        """Returns all names, sorted, including those that several plugins claim."""
        return sorted(self._entries)

    def all(self) -> list[Registered[E]]:
        """Returns every usable entry, sorted by name."""
        return [claims[0] for _, claims in sorted(self._entries.items()) if len(claims) == 1]

    def claims(self, name: str) -> list[Registered[E]]:
        """Returns everything registered under that name: more than one entry when plugins clash."""
        return list(self._entries.get(name, ()))

    def get(self, name: str) -> Registered[E]:
        """Returns the entry with that name.

        Raises:
            UsageError: no plugin registered it; the nearest name is suggested.
            PluginError: more than one plugin registered it; all are named.
        """
        claims = self._entries.get(name)
        if not claims:
            raise unknown_name(self.kind, name, self._entries, hint=self._listing(name))
        if len(claims) > 1:
            raise PluginError(
                f"The {self.kind} name {name!r} is claimed by {' and by '.join(c.source.label for c in claims)}.",
                hint=f"Uninstall one of them, or block one: {SELECT_VARIABLE}=-{claims[-1].source.distribution}",
            )
        return claims[0]

    def _listing(self, name: str) -> str:
        elsewhere = [other.kind for other in self.siblings if name in other.names()]
        mixed_up = f"{name!r} is a {elsewhere[0]}, not a {self.kind}. " if elsewhere else ""
        return f"{mixed_up}{self._say_known(name)} vcorr list {self.kind}s"

    def _say_known(self, name: str) -> str:
        """Returns the known names; if they are many, only those that are like the unknown one."""
        names = self.names()
        if len(names) <= _LISTED:
            return f"Known {self.kind}s: {', '.join(names) or 'none installed'}. Details:"
        like = difflib.get_close_matches(name.lower(), names, n=_LISTED // 2, cutoff=0.5)
        said = f"Names like it: {', '.join(sorted(like))}. " if like else ""
        return f"{said}All {len(names)} {self.kind}s:"


class Registry:
    """Everything the installed plugins registered."""

    def __init__(self, sources: Iterable[PluginSource], *, selection: str | None = None) -> None:
        self.models: Catalogue[ModelEntry] = Catalogue("model")
        self.probes: Catalogue[ProbeEntry] = Catalogue("probe")
        self.metrics: Catalogue[MetricEntry] = Catalogue("metric")
        self.datasets: Catalogue[DatasetEntry] = Catalogue("dataset")
        self.trackers: Catalogue[TrackerEntry] = Catalogue("tracker")
        self.guidances: Catalogue[GuidanceEntry] = Catalogue("guidance")
        self.pages: Catalogue[PageEntry] = Catalogue("page")
        catalogues = self._catalogues()
        for catalogue in catalogues:
            catalogue.siblings = [other for other in catalogues if other is not catalogue]
        self.plugins: list[PluginReport] = []
        self._manager = pluggy.PluginManager(hookspecs.GROUP)
        self._manager.add_hookspecs(hookspecs)
        for source in sorted(sources, key=lambda s: (s.name != BUILTIN, s.distribution, s.name)):
            report = PluginReport(source)
            self.plugins.append(report)
            if _is_selected(source, selection):
                self._load(report)
            else:
                report.worsen("blocked", f"left out by {SELECT_VARIABLE}")

    def catalogue(self, kind: str) -> Catalogue[Entry]:
        """Returns the catalogue of a kind, which may be in the plural or singular, e.g. "models".

        Raises:
            UsageError: there is no such kind.
        """
        catalogues: Mapping[str, Catalogue[Entry]] = {c.kind: c for c in self._catalogues()}
        singular = kind.removesuffix("s")
        if singular not in catalogues:
            raise unknown_name("kind", kind, [f"{k}s" for k in catalogues])
        return catalogues[singular]

    def _catalogues(self) -> list[Catalogue[Any]]:
        return [c for c in vars(self).values() if isinstance(c, Catalogue)]

    def _load(self, report: PluginReport) -> None:
        source = report.source
        before = _heavy_modules()
        try:
            module = source.load()
            self._manager.register(module, name=f"{source.distribution}:{source.name}")
        except (Exception, SystemExit) as error:
            report.worsen("broken", _reason(error))
            return
        if heavy := sorted(_heavy_modules() - before):
            report.worsen("warning", f"importing it loads {', '.join(heavy)}, which slows down every command")
        for misspelt in _unknown_hooks(self._manager, module):
            near = difflib.get_close_matches(misspelt, HOOKS, n=1)
            meant = f"; did you mean {near[0]}?" if near else f"; the hooks are {', '.join(HOOKS)}"
            report.worsen("warning", f"unknown hook {misspelt}{meant}")
        for hook in HOOKS:
            self._collect(report, module, hook)

    def _collect(self, report: PluginReport, module: object, hook: str) -> None:
        function = getattr(module, hook, None)
        if function is None or self._manager.parse_hookimpl_opts(module, hook) is None:
            return
        try:
            entries = list(function())  # a generator hook runs here, inside the try
            for entry in entries:
                if not isinstance(entry, HOOKS[hook]):
                    raise PluginError(f"{hook} returned {entry!r}, which is not a {HOOKS[hook].__name__}")
        except (Exception, SystemExit) as error:
            report.worsen("broken", f"{hook}: {_reason(error)}")
            return
        for entry in entries:
            others = self.catalogue(entry.kind).add(Registered(entry, report.source))
            report.provides.append(f"{entry.kind}:{entry.name}")
            for other in others:
                report.worsen("warning", f"{entry.label} is also claimed by {other.source.label}")


def entry_point_sources() -> list[PluginSource]:
    """Returns the plugins installed in this environment."""
    sources = []
    for point in metadata.entry_points(group=hookspecs.GROUP):
        dist = point.dist
        name, version = (dist.name, dist.version) if dist else ("unknown", "0")
        package = point.module.partition(".")[0]
        sources.append(PluginSource(point.name, name, version, point.load, package, point.module))
    return sources


@functools.cache
def installed() -> Registry:
    """Returns the registry of this environment, which is built once per process."""
    return Registry(entry_point_sources(), selection=os.environ.get(SELECT_VARIABLE))


def module_source(module: ModuleType, *, distribution: str = "", version: str = "0") -> PluginSource:
    """Makes a plugin source from a module that is already imported, for tests and notebooks."""
    package = module.__name__.partition(".")[0]
    return PluginSource(
        module.__name__, distribution or module.__name__, version, lambda: module, package, module.__name__
    )


def _is_selected(source: PluginSource, selection: str | None) -> bool:
    if selection is None or source.name == BUILTIN:
        return True
    words = [w.strip() for w in selection.split(",") if w.strip()]
    names = {source.name, source.distribution}
    if names & {w[1:] for w in words if w.startswith("-")}:
        return False
    wanted = {w for w in words if not w.startswith("-")}
    return bool(names & wanted) if wanted or not words else True


def _heavy_modules() -> set[str]:
    return {name for name in HEAVY if name in sys.modules}


def _unknown_hooks(manager: pluggy.PluginManager, module: object) -> list[str]:
    return [
        name
        for name in dir(module)
        if name not in HOOKS and callable(getattr(module, name, None)) and manager.parse_hookimpl_opts(module, name)
    ]


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
