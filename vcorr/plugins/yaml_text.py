"""Reads YAML without its surprises: `yes` and `2024-01-01` are text, 1e-3 is a number, a key twice is an error."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_FLOAT = (
    r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9][0-9_]*(?=[eE]))([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_FORMS = {
    "null": (r"~|null|Null|NULL|", [*"~nN", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    "int": (r"[-+]?(0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    "float": (_FLOAT, [*"-+0123456789."]),
    "merge": (r"<<", ["<"]),
}


class _Loader(yaml.SafeLoader):
    """Reads no dates, no sexagesimal numbers, and only true and false as booleans."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own name; filled below

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != f"{_TAG}merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} is there twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


for _name, (_form, _first) in _FORMS.items():
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_form})$"), _first)


def read_yaml(text: str) -> Any:
    """Returns the plain values of a YAML document; None for an empty one.

    Raises:
        ValueError: the text is not valid YAML; `reason` says why.
    """
    try:
        found = yaml.load(text, Loader=_Loader)
        _check_ends(found, [])
        return found
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _check_ends(value: Any, outer: list[int]) -> None:
    """Checks that no value holds itself, as in "&a [*a]": nothing could hash or store it."""
    if id(value) in outer:
        raise ValueError("a value holds itself")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        _check_ends(each, [*outer, id(value)] if isinstance(each, (dict, list)) else [])


def reason(error: ValueError) -> str:
    """Returns why `read_yaml` failed, in one line."""
    cause = error.__cause__
    if not isinstance(cause, yaml.MarkedYAMLError):
        return (str(error).strip().splitlines() or ["it cannot be read"])[0].rstrip(".")
    problem = cause.problem or cause.context or "it cannot be read"
    mark = cause.problem_mark or cause.context_mark
    return f"{problem} (line {mark.line + 1})" if mark else problem
