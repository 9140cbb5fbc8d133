"""Model cards: one validated YAML a model, packaged with the plugin that brings it."""

from __future__ import annotations

import dataclasses
from importlib import resources
from typing import Any, get_args

import yaml

from vcorr.errors import PluginError
from vcorr.records import Attention, ModelCard

FORMS: dict[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(("name", "title", "summary", "licence", "hub_id", "revision"), (str, "text")),
    **dict.fromkeys(("parameters", "frames"), (int, "a whole number")),
    "download_gb": ((int, float), "a number of gigabytes"),
    "resolution": (list, "[height, width]"),
}
"""Fields with a form of their own: the type, and how to say it."""

REQUIRED = ("name", "title", "summary", "attention", "licence")


def load_card(reference: str, label: str) -> ModelCard:
    """Reads "package:path/in/package.yaml".

    Raises:
        PluginError: the file is missing, is not YAML, lacks a required field, or a field has the wrong form.
    """
    package, _, path = reference.partition(":")
    try:
        text = resources.files(package).joinpath(path).read_text(encoding="utf-8")
    except (OSError, ImportError, TypeError) as error:
        raise PluginError(f"{label}: its model card {reference!r} cannot be read: {error}.") from error
    return parse_card(text, f"model card {reference}")


def parse_card(text: str, label: str) -> ModelCard:
    """A card from YAML text; fields without a place of their own are kept in `extra`.

    Raises:
        PluginError: as `load_card`.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise PluginError(f"{label} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise PluginError(f"{label} must be a mapping of fields.")
    missing = [name for name in REQUIRED if not values.get(name)]
    if missing:
        raise PluginError(f"{label} lacks {', '.join(missing)}.")
    if values["attention"] not in get_args(Attention):
        raise PluginError(f"{label}: attention is {values['attention']!r}; it must be one of {get_args(Attention)}.")
    for name, (kind, words) in FORMS.items():
        value = values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, kind)):
            raise PluginError(f"{label}: {name} must be {words}, got {value!r}.")
    resolution = values.get("resolution")
    if resolution is not None and (len(resolution) != 2 or not all(isinstance(side, int) for side in resolution)):
        raise PluginError(f"{label}: resolution must be [height, width] in pixels, got {resolution!r}.")
    known = {f.name for f in dataclasses.fields(ModelCard)} - {"extra"}
    return ModelCard(
        **{k: _plain(v) for k, v in values.items() if k in known},
        extra={k: v for k, v in values.items() if k not in known},
    )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
