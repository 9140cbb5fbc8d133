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

from vcorr.contract.errors import PluginError, UsageError, did_you_mean, unknown_name
from vcorr.plugins.yaml_text import read_yaml, reason

T = TypeVar("T")


class Written(str):
    """What follows the equals sign of `--set KEY=VALUE`: text until the type of the option is known."""

    __slots__ = ()


class _Misfit(Exception):  # noqa: N818
    """Raised for a value that does not have the declared type."""


_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_NUMBER = re.compile(r"[-+]?((\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?|\.?(inf|nan))")
_NOTHING = ("", "null", "~")
_SEQUENCES: tuple[type, ...] = (tuple, list, set, frozenset)


def options_from(config_type: type[T], values: Mapping[str, Any], prefix: str = "", base: T | None = None) -> T:
    """Makes an instance of an options dataclass.

    Defaults are brought to the declared type too: a default of 1 for a float is 1.0, so that fingerprints do not depend
    on how it was written.

    Args:
        config_type: the dataclass.
        values: values by the name of a field; fields without a value keep their default.
        prefix: text before a name in error messages, such as "probe.".
        base: the instance that the defaults come from; None for the defaults of the dataclass.

    Raises:
        UsageError: an unknown name, a value of the wrong type, a required one is missing, or the dataclass refuses it.
        PluginError: a field has a type that no option can have, or a default of another type.
    """
    hints = _hints(config_type)
    fields = {f.name: f for f in dataclasses.fields(config_type) if f.init}  # type: ignore[arg-type]  # a dataclass
    for name in values:
        if name not in fields:
            known = [prefix + each for each in fields]
            raise unknown_name("option", f"{prefix}{name}", known, hint=f"Options: {', '.join(known)}.")
    made = {}
    for name, field in fields.items():
        option, hint = prefix + name, hints[name]
        default = _default_in_type(_default(field) if base is None else getattr(base, name), hint, option)
        if name in values:
            made[name] = _add_defaults(convert(values[name], hint, option, default), default)
        elif default is dataclasses.MISSING:
            raise UsageError(f"{option} has no default and no value.", hint=f"Write {option}=VALUE: {in_words(hint)}.")
        else:
            made[name] = default
    return type(base)(**made) if base is not None else config_type(**made)


def _hints(config_type: type) -> dict[str, Any]:
    try:
        return get_type_hints(config_type)
    except NameError as error:
        raise PluginError(
            f"The types of the options in {config_type.__qualname__} cannot be found: {error}.",
            hint=f"Import them at the top of {config_type.__module__}, outside 'if TYPE_CHECKING'.",
        ) from error


def _default_in_type(default: Any, hint: Any, name: str) -> Any:
    try:
        return default if default is dataclasses.MISSING else _convert(default, hint, name)
    except _Misfit:
        raise PluginError(
            f"{name}: its default {_show(default)} is not of its type, {in_words(hint)}.",
            hint="Change the type or the default in the plugin.",
        ) from None


def convert(value: Any, hint: Any, name: str, default: Any = dataclasses.MISSING) -> Any:
    """Converts a value to the type `hint`.

    Args:
        value: text, or the value that YAML or Python made from it.
        hint: a resolved type hint.
        name: name of the option, for messages.
        default: default of the option; the parts of an options dataclass that are not given keep its values.

    Raises:
        UsageError: the value cannot have that type.
        PluginError: no option can have that type.
    """
    try:
        return _convert(value, hint, name, default)
    except _Misfit:
        pass
    if value is None or (isinstance(value, str) and value.strip() in _NOTHING):
        known = default is not dataclasses.MISSING and default != ""
        what = f"{_show(default)} is the default" if known else f"the value is {in_words(hint)}"
        raise UsageError(f"{name} has no value.", hint=f"Write {name}=VALUE; {what}.")
    raise UsageError(f"{name}: expected {in_words(hint)}, got {_show(value)}.{_near(value, hint)}")


def _near(value: Any, hint: Any) -> str:
    if get_origin(hint) is not Literal or not isinstance(value, str):
        return ""
    return did_you_mean(value, [choice for choice in get_args(hint) if isinstance(choice, str)])


def check_option_types(config_type: type) -> None:
    """Checks that an option can have the type of every field of an options dataclass.

    Raises:
        PluginError: no option can have the type of a field; the message names field and type.
    """
    hints = _hints(config_type)
    for field in dataclasses.fields(config_type):
        try:
            in_words(hints[field.name])
        except PluginError as error:
            raise PluginError(f"{config_type.__name__}.{field.name}: {error.message}", hint=error.hint) from error


def read_mapping(text: Written, name: str) -> Any:
    """Reads the keys and values of text such as "{a: 1}"; returns any other text as it is.

    name: name of the option, for messages.

    Raises:
        UsageError: the text begins with a brace, but cannot be read.
    """
    return _yaml(text, name) if text.lstrip().startswith("{") else text


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


def _convert(value: Any, hint: Any, name: str, default: Any = None) -> Any:  # noqa: PLR0911  # one return a kind of type reads best
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint](value, name)
    if origin in (Union, types.UnionType):
        return _one_of(value, arguments, name, default)
    if origin is Literal:
        return _choice(value, arguments)
    if (origin or hint) in _SEQUENCES:
        return _sequence(value, origin or hint, arguments, name)
    if (origin or hint) in (dict, Mapping):
        keys, each = arguments or (Any, Any)
        return {_key(key, keys, name): _convert(item, each, name) for key, item in _mapping(value, name).items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return options_from(hint, {}, f"{name}.", value)
        base = default if isinstance(default, hint) else None
        return options_from(hint, {str(k): v for k, v in _mapping(value, name).items()}, f"{name}.", base)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _member(value, hint)
    in_words(hint)  # raises for a type that no option can have
    raise _Misfit


def _text(value: Any, _: str) -> str:
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (list, tuple)) and all(type(each) is int for each in value):
        return ",".join(map(str, value))  # users write such text with commas, and YAML reads it as a list
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Misfit
    return str(value)


def _flag(value: Any, _: str) -> bool:
    word = value.strip().lower() if isinstance(value, str) else str(value).lower()
    if word not in _WORDS or isinstance(value, float):
        raise _Misfit
    return _WORDS[word]


def _whole(value: Any, _: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?(\d[\d_]*|0x[\da-fA-F]+)\s*", value):
        return _read(lambda: int(value, 16) if "x" in value else int(value))
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Misfit
    return value


def _number(value: Any, _: str) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return _read(lambda: float(value.replace(".inf", "inf").replace(".nan", "nan")))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _Misfit
    return _read(lambda: float(value))


def _read(reader: Callable[[], T]) -> T:
    """Returns what Python reads; it refuses "1_", more than 4300 digits, and a float of a whole number too large."""
    try:
        return reader()
    except (ValueError, OverflowError):
        raise _Misfit from None


def _path(value: Any, _: str) -> Path:
    if not isinstance(value, (str, Path)):
        raise _Misfit
    return Path(value)


def _anything(value: Any, name: str) -> Any:
    return _yaml(value, name) if isinstance(value, Written) else value


_PLAIN: Mapping[Any, Callable[[Any, str], Any]] = {
    str: _text,
    bool: _flag,
    int: _whole,
    float: _number,
    Path: _path,
    Any: _anything,
    object: _anything,
}


_UNION_ORDER = (int, float, bool, str)
"""In a union, text is read as the first of these that takes it; other types come between bool and str."""


def _one_of(value: Any, hints: Sequence[Any], name: str, default: Any) -> Any:
    """Returns a value that is of one of the types as it is, and any other value in the first type that takes it."""
    written_nothing = isinstance(value, Written) and value.strip() in _NOTHING
    if type(None) in hints and (value is None or written_nothing):
        return None
    if type(value) in hints:
        return _convert(value, type(value), name)
    for hint in sorted((each for each in hints if each is not type(None)), key=_rank):
        try:
            return _convert(value, hint, name, default)
        except _Misfit:
            continue
    raise _Misfit


def _rank(hint: Any) -> float:
    return _UNION_ORDER.index(hint) if hint in _UNION_ORDER else _UNION_ORDER.index(str) - 0.5


def _choice(value: Any, choices: Sequence[Any]) -> Any:
    for choice in choices:
        same = type(value) is type(choice) and value == choice
        words = (str(choice), _show(choice)) if isinstance(choice, bool) or choice is None else (str(choice),)
        if same or (isinstance(value, str) and value.strip() in words):
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
        items = _split(value)
        if len(items) == 1 and items[0][0] + items[0][-1] in ("[]", "()"):
            items = _split(items[0][1:-1])
        return [str(item[1:-1]) if item[0] in _QUOTES else Written(item) for item in items]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [value]
    raise _Misfit


_CLOSING = {"[": "]", "(": ")", "{": "}", "'": "'", '"': '"'}
_QUOTES = ("'", '"')
_BEFORE_AN_ITEM = ("", "[", "(", "{", ":", ",")


def _split(text: str) -> list[str]:
    """Splits text at its commas, except inside brackets and quotes; leaves out empty items.

    Brackets and quotes count only where an item can begin, so that names may contain them.
    """
    items, expected, begin = [], "", 0
    for i, letter in enumerate(text):
        may_open = expected[-1:] not in _QUOTES and text[begin:i].rstrip()[-1:] in _BEFORE_AN_ITEM
        if expected and letter == expected[-1]:
            expected = expected[:-1]
        elif may_open and letter in _CLOSING:
            expected += _CLOSING[letter]
        elif letter == "," and not expected:
            items.append(text[begin:i])
            begin = i + 1
    if expected:
        raise _Misfit
    return [item.strip() for item in [*items, text[begin:]] if item.strip()]


def _key(key: Any, hint: Any, name: str) -> Any:
    return str(key) if hint in (str, Any) else _convert(key, hint, name)


def _mapping(value: Any, name: str) -> Mapping[Any, Any]:
    found = _yaml(value, name) if isinstance(value, Written) else value
    if not isinstance(found, Mapping):
        raise _Misfit
    return found


def _member(value: Any, kind: type[Enum]) -> Enum:
    for member in kind:
        words = (member.name, f"{kind.__name__}.{member.name}", str(member.value))
        same = type(value) is type(member.value) and value == member.value
        if value is member or same or (isinstance(value, str) and value.strip() in words):
            return member
    raise _Misfit


def _yaml(text: str, name: str) -> Any:
    try:
        return read_yaml(text)
    except ValueError as error:
        raise UsageError(f"{name}: {text!r} cannot be read: {reason(error)}.") from error


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _add_defaults(value: Any, default: Any) -> Any:
    """Adds to a mapping the keys of the default that it lacks; returns any other value as it is."""
    return {**default, **value} if isinstance(value, dict) and isinstance(default, dict) else value


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return repr(str(value) if isinstance(value, str) else value)
