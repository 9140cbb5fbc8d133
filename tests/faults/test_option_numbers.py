"""Extreme numbers for every numeric option of every entry: a part is made, or one error names the option."""

from __future__ import annotations

import dataclasses
import random
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from support.scale import scale_count

from vcorr import Clip, VcorrError
from vcorr.plugins.part_options import make_config
from vcorr.plugins.registry import installed

PARTS = {"models": "model", "probes": "probe", "metrics": "metric", "trackers": "tracker", "datasets": "data"}
NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    8,
    15,
    16,
    17,
    63,
    64,
    65,
    1000,
    10**6,
    10**12,
    2**63 - 1,
    -(2**63),
    0.5,
    -0.0,
    1e300,
    1e-300,
)
BEYOND = (
    2**63,
    -(2**63) - 1,
    10**400,
    float("nan"),
    float("inf"),
    "nan",
    "1e400",
    "1_0",
    "",
    "²",
    True,
    None,
    [1],
    "x",
)


def list_numeric(config_type: type) -> list[tuple[str, bool]]:
    """Returns the names of the options that take a number, and whether they also take null."""
    hints = get_type_hints(config_type)
    found = []
    for each in dataclasses.fields(config_type):
        kinds = get_args(hints[each.name]) or (hints[each.name],)
        if get_origin(hints[each.name]) is not tuple and {int, float} & {*kinds} and bool not in kinds and each.init:
            found.append((each.name, type(None) in kinds))
    return found


def list_entries() -> list[tuple[str, str]]:
    """Returns the kind and the name of an entry for each dataclass with an option that takes a number."""
    found: dict[type, tuple[str, str]] = {}
    for kind in PARTS:
        for each in installed().catalogue(kind).all():
            config_type = each.entry.config_type()
            if config_type is not None and list_numeric(config_type):
                found.setdefault(config_type, (kind, each.entry.name))
    return list(found.values())


def use(kind: str, made: Any) -> None:
    """Asks a part for what is known before anything is loaded."""
    if kind == "datasets":
        made.ids()
    if kind == "models":
        video = np.zeros((9, 64, 64, 3), np.uint8)
        sites = made.sites()
        made.grid(Clip("a", "", np.zeros((1, 2), np.float32), video), sites[0] if sites else None)


@pytest.mark.parametrize(("kind", "name"), list_entries())
def test_no_number_ends_in_a_foreign_exception(kind: str, name: str) -> None:
    entry, source = installed().catalogue(kind).get(name).entry, random.Random(name)
    config_type = entry.config_type()
    assert config_type is not None
    options = list_numeric(config_type)
    for _ in range(scale_count(6)):
        drawn = {option: source.choice(NUMBERS) for option, _ in source.sample(options, min(2, len(options)))}
        try:
            use(kind, entry.create(make_config(config_type, drawn, PARTS[kind])))
        except VcorrError:
            continue
    for option, nullable in options:
        for value in BEYOND if not nullable else [each for each in BEYOND if each is not None]:
            with pytest.raises(VcorrError, match=rf"{PARTS[kind]}\.{option}( has no value|: expected)"):
                make_config(config_type, {option: value}, PARTS[kind])
