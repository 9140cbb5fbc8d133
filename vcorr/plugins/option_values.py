"""Converts what a user wrote to the types that an options dataclass declares, with errors in plain words.

Text stays text: a prompt, a path or a name is never read as YAML, as a template or as a number.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from vcorr.contract.errors import PluginError, UsageError, did_you_mean
from vcorr.plugins.yaml_text import read_yaml, reason

T = TypeVar("T")


class Written(str):
    """What follows the equals sign of `--set KEY=VALUE`: text until the type of the option is known."""

    __slots__ = ()


class _Misfit(Exception):  # noqa: N818
    """Raised for a value that does not have the declared type."""


_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_NUMBER = re.compile(r"[-+]?((\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?|inf|nan)")
_NOTHING = ("", "null", "~")
_SEQUENCES: tuple[type, ...] = (tuple, list, set, frozenset)


def options_from(config_type: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Makes an instance of an options dataclass.

    Args:
        config_type: the dataclass.
        values: values by the name of a field; fields without a value keep their default.
        prefix: text before a name in error messages, such as "probe.".

    Raises:
        UsageError: a value has the wrong type, a required one is missing, or the dataclass refuses it.
        PluginError: a field has a type that no option can have.
    """
    hints = get_type_hints(config_type)
    made = {}
    for field in dataclasses.fields(config_type):  # type: ignore[arg-type]  # a dataclass, as every caller says
        name = prefix + field.name
        if field.name in values:
            value = convert(values[field.name], hints[field.name], name, _default(field))
            made[field.name] = _add_defaults(value, field)
        elif _default(field) is dataclasses.MISSING and field.init:
            raise UsageError(
                f"{name} has no default and no value.", hint=f"Write {name}=VALUE: {in_words(hints[field.name])}."
            )
    return config_type(**made)


def convert(value: Any, hint: Any, name: str, default: Any = dataclasses.MISSING) -> Any:
    """Converts a value to the type `hint`.

    Args:
        value: text, or the value that YAML or Python made from it.
        hint: a resolved type hint.
        name: name of the option, for messages.
        default: default of the option, for messages.

    Raises:
        UsageError: the value cannot have that type.
        PluginError: no option can have that type.
    """
    try:
        return _convert(value, hint, name)
    except _Misfit:
        pass
    if value is None or (isinstance(value, str) and value.strip() in _NOTHING):
        known = default is not dataclasses.MISSING and default != ""
        what = f"{_show(default)} is the default" if known else f"the value is {in_words(hint)}"
        raise UsageError(f"{name} has no value.", hint=f"Write {name}=VALUE; {what}.")
    near = did_you_mean(value, [str(c) for c in get_args(hint)]) if get_origin(hint) is Literal else ""
    raise UsageError(f"{name}: expected {in_words(hint)}, got {_show(value)}.{near}")


def check_option_types(config_type: type) -> None:
    """Checks that an option can have the type of every field of an options dataclass.

    Raises:
        PluginError: no option can have the type of a field; the message names field and type.
    """
    hints = get_type_hints(config_type)
    for field in dataclasses.fields(config_type):
        try:
            in_words(hints[field.name])
        except PluginError as error:
            raise PluginError(f"{config_type.__name__}.{field.name}: {error.message}", hint=error.hint) from error


def read_mapping(text: Written) -> Any:
    """Reads the keys and values of text such as "{a: 1}"; returns any other text as it is.

    Raises:
        UsageError: the text begins with a brace, but cannot be read.
    """
    return _yaml(text) if text.lstrip().startswith("{") else text


def in_words(hint: Any) -> str:
    """Describes the values of a type, e.g. "a whole number" or "numbers separated by commas".

    Raises:
        PluginError: no option can have that type.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join("null" if each is type(None) else in_words(each) for each in arguments)
    if origin is Literal:
        return " or ".join(map(_show, arguments))
    if (origin or hint) in _SEQUENCES:
        items = [each for each in arguments if each is not Ellipsis]
        return f"{_PLURALS.get(items[0], 'values') if items else 'values'} separated by commas"
    if (origin or hint) in (dict, Mapping) or dataclasses.is_dataclass(hint):
        return "keys and values, as in {key: value}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " or ".join(repr(each.name) for each in hint)
    if hint in _SINGULARS:
        return _SINGULARS[hint]
    raise PluginError(
        f"No option can have the type {hint}.",
        hint="Options are text, numbers, true or false, Literal, Path, Enum, tuples and mappings of these, or None.",
    )


_SINGULARS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    Any: "any value",
    object: "any value",
}
_PLURALS: Mapping[Any, str] = {str: "names", int: "whole numbers", float: "numbers", Path: "paths"}


def _convert(value: Any, hint: Any, name: str) -> Any:  # noqa: PLR0911  # one return a kind of type reads best
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint](value)
    if origin in (Union, types.UnionType):
        return _one_of(value, arguments, name)
    if origin is Literal:
        return _choice(value, arguments)
    if (origin or hint) in _SEQUENCES:
        return _sequence(value, origin or hint, arguments, name)
    if (origin or hint) in (dict, Mapping):
        each = arguments[1] if arguments else Any
        return {str(key): _convert(item, each, name) for key, item in _mapping(value, name).items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else options_from(hint, _mapping(value, name), f"{name}.")
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _member(value, hint)
    in_words(hint)  # raises for a type that no option can have
    raise _Misfit


def _text(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (list, tuple)) and all(type(each) is int for each in value):
        return ",".join(map(str, value))  # users write such text with commas, and YAML reads it as a list
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Misfit
    return str(value)


def _flag(value: Any) -> bool:
    word = value.strip().lower() if isinstance(value, str) else str(value).lower()
    if word not in _WORDS or isinstance(value, float):
        raise _Misfit
    return _WORDS[word]


def _whole(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?(\d[\d_]*|0x[\da-fA-F]+)\s*", value):
        return int(value, 16) if "x" in value else int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Misfit
    return value


def _number(value: Any) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Misfit
    return float(value)


def _path(value: Any) -> Path:
    if not isinstance(value, (str, Path)):
        raise _Misfit
    return Path(value)


def _anything(value: Any) -> Any:
    return _yaml(value) if isinstance(value, Written) else value


_PLAIN: Mapping[Any, Callable[[Any], Any]] = {
    str: _text,
    bool: _flag,
    int: _whole,
    float: _number,
    Path: _path,
    Any: _anything,
    object: _anything,
}


def _one_of(value: Any, hints: Sequence[Any], name: str) -> Any:
    """Converts a value to the first type that takes it; text takes any value and is therefore tried last."""
    written_nothing = isinstance(value, Written) and value.strip() in _NOTHING
    if type(None) in hints and (value is None or written_nothing):
        return None
    for hint in sorted((each for each in hints if each is not type(None)), key=lambda each: each is str):
        try:
            return _convert(value, hint, name)
        except _Misfit:
            continue
    raise _Misfit


def _choice(value: Any, choices: Sequence[Any]) -> Any:
    for choice in choices:
        same = type(value) is type(choice) and value == choice
        if same or (isinstance(value, str) and value.strip() == _show(choice).strip("'")):
            return choice
    raise _Misfit


def _sequence(value: Any, kind: type, arguments: Sequence[Any], name: str) -> Any:
    items = _items(value)
    each = [hint for hint in arguments if hint is not Ellipsis] or [Any]
    if kind is tuple and arguments and Ellipsis not in arguments:
        if len(items) != len(each):
            raise _Misfit
        return tuple(_convert(item, hint, name) for item, hint in zip(items, each, strict=True))
    return kind(_convert(item, each[0], name) for item in items)


def _items(value: Any) -> list[Any]:
    """Returns the items of a list, of text with commas (with or without brackets), or of one number."""
    if isinstance(value, (tuple, list, set, frozenset)):
        return list(value)
    if isinstance(value, str) and value.strip() not in _NOTHING:
        inside = re.fullmatch(r"\s*[\[(]?(.*?)[\])]?\s*", value, re.DOTALL)
        assert inside is not None
        return [Written(item.strip().strip("'\"")) for item in inside[1].split(",") if item.strip()]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [value]
    raise _Misfit


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    found = _yaml(value) if isinstance(value, Written) else value
    if not isinstance(found, Mapping):
        raise _Misfit
    return found


def _member(value: Any, kind: type[Enum]) -> Enum:
    for member in kind:
        if value in (member, member.name) or value == member.value:
            return member
    raise _Misfit


def _yaml(text: str) -> Any:
    try:
        return read_yaml(text)
    except ValueError as error:
        raise UsageError(f"{text!r} cannot be read: {reason(error)}.") from error


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _add_defaults(value: Any, field: dataclasses.Field[Any]) -> Any:
    """Adds to a mapping the keys of the default that it lacks; returns any other value as it is."""
    default = _default(field)
    return {**default, **value} if isinstance(value, dict) and isinstance(default, dict) else value


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return repr(str(value) if isinstance(value, str) else value)
