"""Model cards: one validated YAML a model, packaged with the plugin that brings the model."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from importlib import resources
from typing import Any

import yaml

from vcorr.errors import PluginError
from vcorr.records import ModelCard

SCHEMA = "model_card.schema.json"
"""The JSON schema of a card, a file of this package (docs/model-cards.md)."""


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
    missing = [name for name in card_schema()["required"] if not values.get(name)]
    if missing:
        raise PluginError(f"{label} lacks {', '.join(missing)}.")
    _check(values, label)
    known = {f.name for f in dataclasses.fields(ModelCard)} - {"extra"}
    return ModelCard(
        **{k: _plain(v) for k, v in values.items() if k in known},
        extra={k: v for k, v in values.items() if k not in known},
    )


@cache
def card_schema() -> dict[str, Any]:
    """The JSON schema that every card is held against."""
    found: dict[str, Any] = json.loads(resources.files("vcorr").joinpath(SCHEMA).read_text(encoding="utf-8"))
    return found


def _check(values: dict[str, Any], label: str) -> None:
    """Raises PluginError for the field that is furthest from its form."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    # a field that is left empty is a field that is not there
    given = {name: value for name, value in values.items() if value is not None}
    error = best_match(Draft202012Validator(card_schema()).iter_errors(given))
    if error is not None:
        place = error.json_path.removeprefix("$.")
        raise PluginError(
            f"{label}: {place}: {error.message}.", hint="docs/model-cards.md has the form of every field."
        )


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
