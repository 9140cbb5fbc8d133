"""Finds which parts have an option of a given name, for messages about an option that is written elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

_PARTS = {
    "datasets": "data",
    "probes": "probe",
    "metrics": "metric",
    "trackers": "tracker",
    "guidances": "guidance",
}
"""First words of the names of options, by the catalogue of the parts that have them."""


def find_option_places(name: str, more: Mapping[str, type] = MappingProxyType({})) -> list[str]:
    """Returns the options with this name as `--set` takes them, such as ["data.level"]; none if no part has one.

    Of models, only the options that all adapters of diffusers share are known here: the options of some models lie in
    modules that import torch. more: options dataclasses that belong to no plugin, by the first word of their names.
    """
    first = name.split(".", maxsplit=1)[0]
    return list(dict.fromkeys(f"{part}.{name}" for part, config in _configs(more) if first in _names(config)))


def say_places(places: Sequence[str]) -> str:
    """Returns " Did you mean ...?" with options, as `did_you_mean` does for names; "" for none."""
    return f" Did you mean {' or '.join(map(repr, places))}?" if places else ""


def _configs(more: Mapping[str, type]) -> Iterator[tuple[str, type | None]]:
    from vcorr.diffusion.options import VideoConfig
    from vcorr.plugins import registry

    for kind, part in _PARTS.items():
        for registered in registry.installed().catalogue(kind).all():
            with contextlib.suppress(Exception):  # a message must not fail because another part is broken
                yield part, registered.entry.config_type()
    yield from (("model", VideoConfig), *more.items())


def _names(config: type | None) -> set[str]:
    if not dataclasses.is_dataclass(config):
        return set()
    return {field.name for field in dataclasses.fields(config) if field.init}
