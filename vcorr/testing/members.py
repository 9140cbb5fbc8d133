"""Optional members of a plugin's object: are they what the base class says, and are they spelt as it spells them?"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator

from vcorr.contract.bases import DatasetBase, MetricBase, ProbeBase, TrackerBase, VideoModelBase
from vcorr.contract.protocols import Dataset, Metric, Page, Probe, RowMetric, Tracker, VideoModel

PROTOCOLS: dict[str, tuple[type, ...]] = {
    "model": (VideoModel,),
    "probe": (Probe,),
    "metric": (Metric, RowMetric),
    "dataset": (Dataset,),
    "tracker": (Tracker,),
    "page": (Page,),
}
"""What the object behind an entry of a kind can do; one of them. Guidances have none yet."""

BASES: dict[str, type] = {
    "model": VideoModelBase,
    "probe": ProbeBase,
    "metric": MetricBase,
    "dataset": DatasetBase,
    "tracker": TrackerBase,
}
"""What it may have besides, with the defaults."""

ALIKE = 0.85
"""Similarity of two names, as difflib measures it, from which one is taken for the other misspelt."""


def lacking(made: object, kind: str) -> list[str]:
    """The required members that the object behind an entry does not have."""
    protocols = PROTOCOLS.get(kind, ())
    if not protocols or any(isinstance(made, protocol) for protocol in protocols):
        return []
    names = [*inspect.get_annotations(protocols[0]), *vars(protocols[0])]
    return sorted(name for name in names if not name.startswith("_") and not hasattr(made, name))


def wrong_members(made: object, kind: str) -> list[str]:
    """What is wrong with its optional members, one sentence each.

    Those it has must take the arguments of the base class, or hold such a value. Names that are nearly those of a base
    class are reported in classes that inherit from it; in others they may mean anything.
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
            yield f"{name} is no member of its base class; did you mean {near}?"


def _is_own(each: type) -> bool:
    return each.__module__.partition(".")[0] == "vcorr"


def _public(each: type) -> set[str]:
    return {name for name in [*vars(each), *inspect.get_annotations(each)] if not name.startswith("_")}
