"""Finds in which settings runs of one model differ, so that a list of runs tells them apart."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vcorr.contract.index_text import say_ranges
from vcorr.store.fingerprint import flat

_OF_SPEC = (
    *("limit", "prompt", "noise_draw", "variant", "metrics", "tracker", "guidance", "preset", "from_run"),
    *("offload", "vae_tiling"),
)
"""Fields of a spec that say what a run measures or how, and have no column of their own in a list of runs."""
_SETTINGS = ("num_steps", "seed", "cfg")
_OTHER_OPTIONS = ("metric", "tracker", "track", "propagate", "guidance")
"""Parts whose options a record holds only as they were given."""
_UNSAID: tuple[Any, ...] = (None, "", False, [], {})
"""Values that stand for "not given" and are not shown."""


def name_differences(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Returns for each run its settings in which runs of the same model differ, as texts by name, such as data.level.

    records: the contents of run.json; an empty mapping for a run that cannot be read, which differs in nothing.
    """
    settings = [dict(_settings(record)) for record in records]
    models = [_mapping(record, "row_context").get("model") for record in records]
    values: dict[Any, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for model, own in zip(models, settings, strict=True):
        for name, value in own.items():
            values[model][name].add(json.dumps(value, sort_keys=True))
    return [
        {name: _text(value) for name, value in own.items() if len(values[model][name]) > 1 and value not in _UNSAID}
        for model, own in zip(models, settings, strict=True)
    ]


def _settings(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the settings of a run by name: options as `--set` has them, layers and steps as they were resolved."""
    spec, resolved = _mapping(record, "spec"), _mapping(record, "resolved")
    for part in ("data", "model"):
        yield from flat(_mapping(_mapping(resolved, part), "config"), part)
    for probe in _list(resolved, "probes"):
        if isinstance(probe, dict):
            yield from flat(_mapping(probe, "config"), "probe")
    options = _mapping(spec, "options")
    for part in _OTHER_OPTIONS:
        yield from flat(_mapping(options, part), part)
    settings = _mapping(resolved, "settings")
    layers = [site[0] for site in _list(resolved, "sites") if isinstance(site, list) and site]
    for name, numbers in (("layers", layers), ("steps", _list(settings, "steps"))):
        if numbers and all(type(number) is int for number in numbers):
            yield name, say_ranges(numbers)
    for name in _SETTINGS:
        yield name, settings.get(name)
    yield "weights", _mapping(record, "row_context").get("weights")
    yield "dtype", resolved.get("dtype")
    for name in _OF_SPEC:
        yield name, spec.get(name)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _mapping(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = values.get(key)
    return found if isinstance(found, dict) else {}


def _list(values: Mapping[str, Any], key: str) -> list[Any]:
    found = values.get(key)
    return found if isinstance(found, list) else []
