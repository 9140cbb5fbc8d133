"""Finds plugins, keeps what they registered, and reports what is wrong with plugins that do not work.

One broken plugin never stops the others: it is listed with its reason. When two plugins register the same name, using
that name is an error that names both; every other name goes on working.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import glob
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
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
from vcorr.contract.errors import PluginError, VcorrError, unknown_name
from vcorr.contract.part_calls import PartFailureError, PartName, shorten_text, show_value
from vcorr.plugins.process_state import keep_settings

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

    @property
    def part_name(self) -> PartName:
        """What messages call the plugin."""
        return PartName(f"plugin {self.name!r}", self.label)


@dataclass(frozen=True)
class Registered(Generic[E]):
    """An entry together with the plugin that registered it."""

    entry: E
    source: PluginSource

    @property
    def part_name(self) -> PartName:
        """What messages call the part."""
        return PartName(self.entry.label, self.source.label)


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
        self.plugins: Sequence[PluginReport] = ()
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
            PluginError: more than one plugin registered it; all are named. Or the plugin that brings it is broken.
        """
        claims = self._entries.get(name)
        if not claims:
            for report in self.plugins:
                if report.state in ("broken", "blocked") and may_bring(report.source, name):
                    raise _out_of_order(self.kind, name, report)
            raise unknown_name(self.kind, name, self._entries, hint=self._listing(name))
        if len(claims) > 1:
            raise clash(f"{self.kind} name {name!r}", [claim.source for claim in claims])
        return claims[0]

    def _listing(self, name: str) -> str:
        elsewhere = [other.kind for other in self.siblings if name in other.names()]
        mixed_up = f"{name!r} is a {elsewhere[0]}, not a {self.kind}. " if elsewhere else ""
        broken = ", ".join(report.source.label for report in self.plugins if report.state == "broken")
        unseen = f" Broken plugins, whose {self.kind}s are not known: {broken} (vcorr list plugins)." if broken else ""
        return f"{mixed_up}{self._say_known(name)} vcorr list {self.kind}s{unseen}"

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
        self.plugins: list[PluginReport] = []
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
            catalogue.plugins = self.plugins
        self._manager = pluggy.PluginManager(hookspecs.GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._modules: dict[int, PluginSource] = {}
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
        before = _heavy_modules()
        with keep_settings() as changed:
            module = self._import(report)
            if module is not None:
                self._read_hooks(report, module)
        if heavy := sorted(_heavy_modules() - before):
            report.worsen("warning", f"importing it loads {', '.join(heavy)}, which slows down every command")
        if changed:
            report.worsen("warning", f"importing it changes {' and '.join(changed)}, which was set back")

    def _import(self, report: PluginReport) -> object | None:
        """Imports a plugin and returns its module; None if it is broken or its module is loaded already."""
        source = report.source
        try:
            with source.part_name.calling("its import"):
                module = source.load()
                if (other := self._modules.get(id(module))) is not None:
                    report.worsen("warning", f"it is the same module as {other.name!r} of {other.label}")
                    return None
                _check_arguments(self._manager, module)
                self._manager.register(module, name=f"{source.distribution}:{source.name}")
                self._modules[id(module)] = source
                return module
        except PluginError as error:
            report.worsen("broken", _reason(error))
            return None

    def _read_hooks(self, report: PluginReport, module: object) -> None:
        for problem in _hook_problems(self._manager, module):
            report.worsen("warning", problem)
        for hook in HOOKS:
            self._collect(report, module, hook)

    def _collect(self, report: PluginReport, module: object, hook: str) -> None:
        try:
            with report.source.part_name.calling(hook):
                entries = _entries_of(self._manager, module, hook)
        except VcorrError as error:
            report.worsen("broken", f"{hook}: {_reason(error)}")
            return
        for entry in entries:
            others = self.catalogue(entry.kind).add(Registered(entry, report.source))
            report.provides.append(f"{entry.kind}:{entry.name}")
            for other in others:
                report.worsen("warning", f"{entry.label} is also claimed by {other.source.label}")
                self._report_of(other.source).worsen(
                    "warning", f"{entry.label} is also claimed by {report.source.label}"
                )

    def _report_of(self, source: PluginSource) -> PluginReport:
        return next(report for report in self.plugins if report.source is source)


def _entries_of(manager: pluggy.PluginManager, module: object, hook: str) -> list[Any]:
    """Calls a hook of a plugin and returns its entries; none if the plugin does not have the hook.

    Raises:
        PluginError: the hook returns something else than entries.
    """
    function = getattr(module, hook, None)
    if function is None or manager.parse_hookimpl_opts(module, hook) is None:
        return []
    returned = function()
    if isinstance(returned, (str, bytes)) or not isinstance(returned, Iterable):
        raise PluginError(f"it must return a list of {HOOKS[hook].__name__}, got {show_value(returned)}")
    entries = list(returned)  # a generator hook runs here
    for entry in entries:
        if not isinstance(entry, HOOKS[hook]):
            raise PluginError(f"{hook} returned {show_value(entry)}, which is not a {HOOKS[hook].__name__}")
    return entries


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


def _check_arguments(manager: pluggy.PluginManager, module: object) -> None:
    """Checks that the hooks of a module take no arguments; pluggy's versions differ in what they do with defaults."""
    for hook in HOOKS:
        function = getattr(module, hook, None)
        if function is None or manager.parse_hookimpl_opts(module, hook) is None:
            continue
        if parameters := inspect.signature(function).parameters:
            raise PluginError(f"{hook} takes arguments ({', '.join(parameters)}), and hooks take none.")


def _hook_problems(manager: pluggy.PluginManager, module: object) -> Iterator[str]:
    """Yields what is wrong with the names and decorators of a module's functions, one sentence each."""
    for name in dir(module):
        member = getattr(module, name, None)
        is_marked = callable(member) and manager.parse_hookimpl_opts(module, name) is not None
        near = difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.6 if is_marked else 0.85)
        if is_marked and name not in HOOKS:
            meant = f"did you mean {near[0]}?" if near else f"the hooks are {', '.join(HOOKS)}"
            yield f"unknown hook {name}; {meant}"
        elif not is_marked and near and inspect.isfunction(member):
            what = "" if name in HOOKS else f", and it is no hook; did you mean {near[0]}?"
            yield f"{name} has no @vcorr.hookimpl above it, so it is not called{what}"


def _reason(error: VcorrError) -> str:
    """Returns why a plugin is broken, in one line."""
    if isinstance(error, PartFailureError):
        return error.cause
    return shorten_text(" ".join(f"{type(error).__name__}: {error.message} {error.hint}".split()))


def clash(what: str, sources: Sequence[PluginSource]) -> PluginError:
    """Returns the error for a name that several plugins claim: it names all, and how to leave each of them out."""
    labels = " and by ".join(source.label for source in sources)
    distributions = {source.distribution for source in sources}
    if len(distributions) == 1 and len({source.name for source in sources}) == 1:
        return PluginError(f"The {what} is claimed twice by {sources[0].label}.", hint="Its authors must rename one.")
    words = [source.distribution if len(distributions) > 1 else source.name for source in sources if not _own(source)]
    ways = " or ".join(f"{SELECT_VARIABLE}=-{word}" for word in dict.fromkeys(words))
    return PluginError(
        f"The {what} is claimed by {labels}.",
        hint=f"None of them is used. Uninstall one of them, or leave one out of a command: {ways}",
    )


def _own(source: PluginSource) -> bool:
    return source.name == BUILTIN


def may_bring(source: PluginSource, name: str) -> bool:
    """Returns whether a plugin that did not load probably brings an entry: its own name or a packaged card says so."""
    short = source.distribution.removeprefix("vcorr-")
    if name in (source.name, source.distribution, short) or name.startswith((f"{short}-", f"{source.name}-")):
        return True
    with contextlib.suppress(ImportError, ValueError, OSError):
        spec = importlib.util.find_spec(source.package) if source.package else None
        folders = (spec.submodule_search_locations or ()) if spec else ()
        return any(True for folder in folders for _ in Path(folder).rglob(f"{glob.escape(name)}.yaml"))
    return False


def _out_of_order(kind: str, name: str, report: PluginReport) -> PluginError:
    reasons = "; ".join(report.reasons)
    if report.state == "blocked":
        return PluginError(f"The {kind} {name!r} seems to be of {report.source.label}, which is {reasons}.")
    return PluginError(
        f"The {kind} {name!r} seems to be of {report.source.label}, which is broken: {reasons.rstrip('.')}.",
        hint=f"Mend or upgrade it: pip install -U {report.source.distribution}. Details: vcorr list plugins",
    )
