"""Checks the members of a plugin's object: required ones exist, optional ones have the form and name of the base's."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator

from vcorr.contract.bases import DatasetBase, GuidanceBase, MetricBase, ProbeBase, TrackerBase, VideoModelBase
from vcorr.contract.protocols import (
    Dataset,
    Guidance,
    MaskMetric,
    Metric,
    Page,
    Probe,
    RowMetric,
    Tracker,
    TrackMetric,
    VideoMetric,
    VideoModel,
)

PROTOCOLS: dict[str, tuple[type, ...]] = {
    "model": (VideoModel,),
    "probe": (Probe,),
    "metric": (Metric, RowMetric, TrackMetric, MaskMetric, VideoMetric),
    "dataset": (Dataset,),
    "tracker": (Tracker,),
    "guidance": (Guidance,),
    "page": (Page,),
}
"""Protocols by kind of entry; the entry's object must satisfy one of them."""

BASES: dict[str, type] = {
    "model": VideoModelBase,
    "probe": ProbeBase,
    "metric": MetricBase,
    "dataset": DatasetBase,
    "tracker": TrackerBase,
    "guidance": GuidanceBase,
}
"""Base classes by kind of entry, with the optional members and their defaults."""

ALIKE = 0.85
"""Similarity of two names, as difflib measures it, above which one counts as a misspelling of the other."""


def missing_members(made: object, kind: str) -> list[str]:
    """Returns the names of required members that the object of an entry does not have."""
    protocols = PROTOCOLS.get(kind, ())
    if not protocols or any(isinstance(made, protocol) for protocol in protocols):
        return []
    names = [*inspect.get_annotations(protocols[0]), *vars(protocols[0])]
    return sorted(name for name in names if not name.startswith("_") and not hasattr(made, name))


def wrong_members(made: object, kind: str) -> list[str]:
    """Returns what is wrong with the object's optional members, one sentence each.

    A method must take the arguments of the base class's method; a value must have the type of the base class's value. A
    name that is similar to a member of the base class is reported only in classes that inherit from it.
    """
    base = BASES.get(kind)
    if base is None:
        return []
    return [*_wrong_form(made, base), *(_misspelt(type(made)) if isinstance(made, base) else ())]


def _wrong_form(made: object, base: type) -> Iterator[str]:
    for name, default in vars(base).items():
        if name.startswith("_") or not hasattr(made, name):
            continue
        own = getattr(made, name)
        if inspect.isfunction(default):
            takes = list(inspect.signature(default).parameters)[1:]
            if not callable(own) or not _accepts(own, len(takes)):
                yield f"{name} must be a method that takes ({', '.join(takes)})."
        elif not isinstance(own, type(default)) or (isinstance(own, bool) and not isinstance(default, bool)):
            yield f"{name} must be {type(default).__name__}, got {own!r}."


def _accepts(method: object, count: int) -> bool:
    assert callable(method)
    try:
        inspect.signature(method).bind(*[None] * count)
    except TypeError:
        return False
    return True


def _misspelt(made: type) -> Iterator[str]:
    of_vcorr = {name for each in made.__mro__ if _is_own(each) for name in _public(each)}
    of_plugin = {name for each in made.__mro__ if not _is_own(each) for name in _public(each)}
    for name in sorted(of_plugin - of_vcorr):
        for near in difflib.get_close_matches(name, of_vcorr - of_plugin, n=1, cutoff=ALIKE):
            yield f"{name} is not a member of the base class; did you mean {near}?"


def _is_own(each: type) -> bool:
    return each.__module__.partition(".")[0] == "vcorr"


def _public(each: type) -> set[str]:
    return {name for name in [*vars(each), *inspect.get_annotations(each)] if not name.startswith("_")}
