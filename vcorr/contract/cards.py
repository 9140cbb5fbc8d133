"""Reads and validates model cards: one YAML file per model, in the package of the plugin that brings the model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

from vcorr.contract.errors import PluginError
from vcorr.contract.records import ModelCard
from vcorr.contract.yaml_text import read_yaml

SCHEMA = "model_card.schema.json"
"""File name, in this package, of the JSON schema of a card (docs/model-cards.md)."""


def load_card(reference: str, label: str) -> ModelCard:
    """Reads the card "package:path/in/package.yaml", once per process, however often a run asks for it.

    Raises:
        PluginError: the file is missing or is not YAML, or the card has problems; the message lists all of them.
    """
    try:
        return _read_packaged(reference)
    except (OSError, ImportError, TypeError) as error:
        raise PluginError(f"{label}: its model card {reference!r} cannot be read: {error}.") from error


@cache
def _read_packaged(reference: str) -> ModelCard:
    package, _, path = reference.partition(":")
    text = resources.files(package).joinpath(path).read_text(encoding="utf-8")
    return parse_card(text, f"model card {reference}")


def parse_card(text: str, label: str) -> ModelCard:
    """Returns the card that YAML text describes; fields that `ModelCard` does not name are kept in `extra`.

    Raises:
        PluginError: as `load_card`.
    """
    try:
        values = read_yaml(text)
    except ValueError as error:
        raise PluginError(f"{label} is not valid YAML: {error}.") from error
    if not isinstance(values, dict):
        raise PluginError(f"{label} must be a mapping of fields.")
    # an empty field counts as a missing one
    problems = _problems({name: value for name, value in values.items() if value is not None})
    if problems:
        raise PluginError(_describe(label, problems), hint="docs/model-cards.md has the form of every field.")
    known = {f.name for f in dataclasses.fields(ModelCard)} - {"extra"}
    return ModelCard(
        **{k: _plain(v) for k, v in values.items() if k in known},
        extra={k: v for k, v in values.items() if k not in known},
    )


def hub_ids(card: ModelCard) -> tuple[str, ...]:
    """Returns the ids of the hub repository that a card names, the main one first; empty if it names none."""
    aliases = card.extra.get("hub_aliases", ())
    return tuple(str(each) for each in (card.hub_id, *aliases) if each)


def read_card_layers(card: ModelCard | None) -> tuple[int, ...]:
    """Returns the layers that a card names for guidance, else for matching, else for tracking; empty for none."""
    extra: Mapping[str, Any] = {} if card is None else card.extra
    for key in ("guidance_layers", "matching_layers"):
        for found in extra.get(key) or ():
            return tuple(sorted(found["layers"]))
    return tuple(sorted((extra.get("tracking") or {}).get("layers") or ()))


@cache
def card_schema() -> dict[str, Any]:
    """Returns the JSON schema that every card must satisfy."""
    found: dict[str, Any] = json.loads(resources.files("vcorr.contract").joinpath(SCHEMA).read_text(encoding="utf-8"))
    return found


def form_in_words(schema: Mapping[str, Any]) -> str:
    """Describes the values that the JSON schema of a field allows, such as "a whole number of at least 1"."""
    if "description" in schema:
        return str(schema["description"])
    if "enum" in schema:
        return f"one of {', '.join(schema['enum'])}"
    if "anyOf" in schema:
        return ", or ".join(form_in_words(each) for each in schema["anyOf"])
    forms = {"array": _list_form, "object": _object_form, "integer": _number_form, "number": _number_form}
    return forms.get(str(schema.get("type")), _simple_form)(schema)


def _simple_form(schema: Mapping[str, Any]) -> str:
    return {"string": "a text", "boolean": "true or false"}.get(str(schema.get("type")), "anything")


def _number_form(schema: Mapping[str, Any]) -> str:
    kind = "a whole number" if schema["type"] == "integer" else "a number"
    if "minimum" in schema:
        return f"{kind} of at least {schema['minimum']}"
    return f"{kind} above {schema['exclusiveMinimum']}" if "exclusiveMinimum" in schema else kind


def _list_form(schema: Mapping[str, Any]) -> str:
    least, most = schema.get("minItems"), schema.get("maxItems")
    count = f" of {least}" if least == most and least else ""
    return f"a list{count}, each {form_in_words(schema['items'])}"


def _object_form(schema: Mapping[str, Any]) -> str:
    fields = [f"{name} ({form_in_words(each)})" for name, each in schema["properties"].items()]
    return f"a mapping with {'; '.join(fields)}"


def _problems(values: Mapping[str, Any]) -> list[str]:
    """Returns all problems of a card, missing fields first; each is a sentence without its full stop."""
    from jsonschema import Draft202012Validator

    missing = [name for name in card_schema()["required"] if not values.get(name)]
    found: dict[str, str] = {}
    for error in Draft202012Validator(card_schema()).iter_errors(values):
        place = error.json_path.removeprefix("$").removeprefix(".")
        if place and place not in missing:
            found.setdefault(place, _problem(place, error))
    for name in values.keys() - card_schema()["properties"].keys():
        if near := get_close_matches(str(name), card_schema()["properties"], n=1, cutoff=0.8):
            found[str(name)] = f"{name}: is no field of a card, and {near[0]} is"
    lacking = [f"lacks {', '.join(missing)}"] if missing else []
    return [*lacking, *(found[place] for place in sorted(found))]


def _problem(place: str, error: Any) -> str:
    if error.validator == "required":
        absent = [name for name in error.validator_value if name not in error.instance]
        return f"{place}: lacks {', '.join(absent)}"
    if error.validator == "additionalProperties":
        known = error.schema["properties"]
        return f"{place}: has no {', '.join(set(error.instance) - set(known))}; its fields are {', '.join(known)}"
    return f"{place}: expected {form_in_words(error.schema)}, got {error.instance!r}"


def _describe(label: str, problems: Sequence[str]) -> str:
    if len(problems) == 1:
        (only,) = problems
        return f"{label} {only}." if only.startswith("lacks ") else f"{label}: {only}."
    return "\n  ".join([f"{label} has {len(problems)} problems:", *problems])


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
