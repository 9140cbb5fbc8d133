"""The form of `run.json`: which values each key may have. `read_record` accepts no other ones.

A key may be absent: runs of earlier versions lack some. What a reader gets is of the type that is written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, get_args

from vcorr.contract.cards import form_in_words
from vcorr.contract.records import Mode

Status = Literal["started", "partial", "complete", "failed"]

_LONGEST = 60
"""Most characters of a value in a message."""

Form = Mapping[str, Any]
"""A JSON schema."""

_WORDS: Form = {"type": "array", "items": {"type": "string"}, "description": "a list of texts"}
"""Words of a command line, which may hold bytes that are not UTF-8: JSON has half a character in their place."""
_TEXT: Form = {"type": "string", "pattern": "^[^\ud800-\udfff]*$", "description": "a text of whole characters"}
_TEXTS: Form = {"type": "array", "items": _TEXT}
_TEXT_OR_NULL: Form = {**_TEXT, "type": ["string", "null"], "description": "a text or null"}
_COUNT: Form = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_COUNT_OR_NULL: Form = {**_COUNT, "type": ["integer", "null"], "description": "a whole number of at least 0, or null"}
_INT64: Form = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1, "description": "a whole number"}
_NUMBER_OR_NULL: Form = {
    "type": ["number", "null"],
    "minimum": -1e9,
    "maximum": 1e9,
    "description": "a number between -1e9 and 1e9, or null",
}
_FLAG: Form = {"type": "boolean", "description": "true or false"}
_MAPPING: Form = {"type": "object", "description": "a mapping"}
_MAPPING_OR_NULL: Form = {"type": ["object", "null"], "description": "a mapping or null"}


def _mapping(fields: Mapping[str, Form], *, required: tuple[str, ...] = ()) -> Form:
    return {**_MAPPING, "properties": fields, "required": list(required)}


def _mapping_of(values: Form) -> Form:
    return {**_MAPPING, "additionalProperties": values}


_DATA = _mapping(
    {"name": _TEXT, "version": _COUNT, "split": _TEXT, "config": _MAPPING_OR_NULL},
    required=("name", "version", "split"),
)
_METRIC = _mapping({"name": _TEXT, "version": _COUNT, "config": _MAPPING_OR_NULL}, required=("name",))
_VERSIONS = _mapping_of(_TEXT_OR_NULL)
_TRACKER: Form = {
    **_mapping(
        {"name": _TEXT, "version": _COUNT_OR_NULL, "licence": _TEXT_OR_NULL, "versions": _VERSIONS}, required=("name",)
    ),
    **_MAPPING_OR_NULL,
}
_REFERENCE = _mapping(
    {"tracker": _TEXT, "version": _COUNT_OR_NULL, "stored": _FLAG, "pseudo": _FLAG, "packages": _VERSIONS}
)
_CONTEXT = _mapping(
    {
        **dict.fromkeys(("model", "weights", "dataset", "split", "task", "variant"), _TEXT),
        "mode": {"enum": list(get_args(Mode))},
        "seed": _INT64,
        "cfg": _NUMBER_OR_NULL,
    }
)
_FIRST_CLIP: Form = {
    **_mapping(
        {
            "id": _TEXT,
            "prompt": _TEXT,
            "fps": {"type": "number", "minimum": 0, "maximum": 1e9},
            "stills": _FLAG,
            "size": {"type": ["array", "null"], "items": _COUNT, "description": "frames, height and width, or null"},
            "last_query": _COUNT_OR_NULL,
            "tracks": {**_mapping({"tracker": _TEXT, "version": _COUNT}), **_MAPPING_OR_NULL},
        },
        required=("id", "prompt", "fps", "stills", "size", "last_query", "tracks"),
    ),
    **_MAPPING_OR_NULL,
}
_COST: Form = {
    **_mapping({}, required=("clips", "seconds_per_clip", "seconds_per_point")),
    **_MAPPING_OR_NULL,
    "additionalProperties": _NUMBER_OR_NULL,
}
RECORD_FORM = _mapping(
    {
        "record_version": {"type": "integer", "minimum": 1},
        "run": _TEXT,
        "status": {"enum": list(get_args(Status))},
        "command": _WORDS,
        "started": _TEXT,
        "updated": _TEXT,
        "spec": {**_mapping({"variant": _TEXT}), **_MAPPING_OR_NULL},
        "resolved": _mapping(
            {"data": _DATA, "settings": _MAPPING, "task": _TEXT, "track": _MAPPING}, required=("data",)
        ),
        "metrics": {"type": "array", "items": _METRIC, "description": "a list of metrics"},
        "scoring": _COUNT,
        "variants": _TEXTS,
        "row_context": _CONTEXT,
        "videos_of": {
            **_mapping(
                {
                    "run": _TEXT,
                    "data": _DATA,
                    "mode": {"enum": list(get_args(Mode))},
                    "seed": _INT64,
                    "tracker": _TRACKER,
                },
                required=("run", "data", "mode"),
            ),
            **_MAPPING_OR_NULL,
        },
        "fitted": _TEXT_OR_NULL,
        "card": {**_mapping({"title": _TEXT, "summary": _TEXT}), **_MAPPING_OR_NULL},
        "plugins": _mapping_of(_TEXT_OR_NULL),
        "tracker": _TRACKER,
        "reference": _REFERENCE,
        "metrics_asked": _TEXTS,
        "first_clip": _FIRST_CLIP,
        "notes": _TEXTS,
        "clip_notes": _TEXTS,
        "fingerprints": _mapping_of(_TEXT),
        "versions": _mapping_of(_TEXT_OR_NULL),
        "git": _TEXT_OR_NULL,
        "device": _mapping_of(_TEXT_OR_NULL),
        "clips": _mapping_of(_COUNT),
        "seconds": _mapping_of(_NUMBER_OR_NULL),
        "peak_memory_gib": _mapping_of(_NUMBER_OR_NULL),
        "kernels": _TEXTS,
        "cost": _COST,
    }
)


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(RECORD_FORM)


def find_problem(values: Any) -> str:
    """Returns what is wrong with the values of a run.json, as a sentence without its full stop; "" if nothing is."""
    found = {e.json_path.removeprefix("$").removeprefix("."): e for e in _validator().iter_errors(values)}
    if not found:
        return ""
    place = min(found)
    error = found[place]
    if error.validator == "required":
        absent = [name for name in error.validator_value if name not in error.instance]
        return f"{place} lacks {', '.join(absent)}"
    return f"{place or 'it'} must be {form_in_words(error.schema)}, but is {_shorten(error.instance)}"


def _shorten(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
