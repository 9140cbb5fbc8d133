"""Converts what a user wrote to the types that an options dataclass declares, with errors in plain words.

OmegaConf merges and converts; nothing of it leaves this module. Text stays text: a prompt, a path or a name is never
read as YAML, as a template or as a number.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from omegaconf import OmegaConf
from omegaconf.errors import KeyValidationError, OmegaConfBaseException, ValidationError

from vcorr.contract.errors import PluginError, UsageError, did_you_mean, unknown_name
from vcorr.contract.option_notes import OptionNotes, notes_of
from vcorr.contract.yaml_text import read_yaml
from vcorr.plugins.option_places import find_option_places, say_places

T = TypeVar("T")


class Written(str):
    """What follows the equals sign of `--set KEY=VALUE`: text until the type of the option is known."""

    __slots__ = ()


_NULLS = ("null", "~")
_NOTHING = ("", *_NULLS)
_SCHEMAS = 256
"""Most dataclasses whose form is kept. A sweep makes the options of the same ones hundreds of times."""
_LONGEST = 200
"""Number of characters of a value that a message repeats."""
_BOOLEANS = ("true", "false", "yes", "no", "on", "off", "1", "0")
_WHOLE = range(-(2**63), 2**63)
"""Whole numbers that tables can store."""
_UNSTORABLE = re.compile(r"[-+]?([0-9]*_[0-9_.]*|[0-9]{19,}|[0-9.]+e[0-9]{3,}|\.?(inf|nan))", re.IGNORECASE)
"""What looks like a number, and is none that an option can have."""
_WHOLE_NUMBER = re.compile(r"\s*[-+]?[0-9]{1,19}\s*", re.ASCII)
_NUMBER = re.compile(r"\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*")


class _MismatchError(ValidationError):
    """A value does not have its type. path: the keys from the option down to it."""

    def __init__(self, path: Sequence[Any] = ()) -> None:
        super().__init__("")
        self.path = path


def options_from(config_type: type[T], values: Mapping[str, Any], prefix: str = "") -> T:
    """Makes an instance of an options dataclass.

    Defaults are converted too: a default of 1 for a float becomes 1.0, so that fingerprints do not depend on how it
    was written.

    Args:
        config_type: the dataclass.
        values: values by the name of a field; "a.b" names the field or key b of the field a. Later values override
            earlier ones, and fields without a value keep their default.
        prefix: text before a name in error messages, such as "probe.".

    Raises:
        UsageError: a name is unknown, a value has the wrong type, a required one is missing, or the dataclass
            refuses it.
        PluginError: a field has a type that no option can have, or a default of another type.
    """
    hints = _hints(config_type)
    schema = _schema(config_type, prefix)  # type: ignore[arg-type]  # every class can be a key
    fields = {each.name: each for each in dataclasses.fields(config_type) if each.init}  # type: ignore[arg-type]
    defaults = {name: _default(each) for name, each in fields.items()}
    unread = {name: text for name, text in defaults.items() if isinstance(text, str) and _escape(text) != text}
    written = [*unread.items(), *values.items()]
    try:
        config: Any = OmegaConf.merge(schema, *(_layer(*_nest(key, value), hints) for key, value in written))
    except (LookupError, RecursionError, OmegaConfBaseException, TypeError, OverflowError, ValueError):
        config = _merge_each(schema, written, hints, defaults, prefix)
    for name in fields:
        if OmegaConf.is_missing(config, name):
            what = f"Write {prefix}{name}=VALUE: {in_words(hints[name])}."
            raise UsageError(f"{prefix}{name} has no default and no value.", hint=what)
    found = {name: _plain(config[name]) for name in fields}
    for name in {key.split(".")[0] for key in values}:
        _check_limits(found[name], hints[name], notes_of(config_type, name), f"{prefix}{name}")
    try:
        return config_type(**found)
    except UsageError as error:  # the dataclass knows the names of its fields, and not of the part
        if error.message.partition(":")[0] not in fields:
            raise
        raise UsageError(f"{prefix}{error.message}", hint=error.hint) from error


def _nest(key: str, value: Any) -> tuple[str, Any]:
    """Returns the name of an option and its value: for the key "a.b", "a" and the value under the key "b"."""
    name, *inner = key.split(".")
    return name, reduce(lambda below, part: {part: below}, reversed(inner), value)


def _layer(name: str, value: Any, hints: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a value of an option as OmegaConf merges it."""
    return {name: _shape(value, hints[name])}


def _merge_each(
    config: Any,
    written: Iterable[tuple[str, Any]],
    hints: Mapping[str, Any],
    defaults: Mapping[str, Any],
    prefix: str,
) -> Any:
    """Merges one value after the other, so that the error names the first that is refused.

    Raises:
        UsageError: a name is unknown, or a value has the wrong type.
    """
    for key, whole in written:
        name, value = _nest(key, whole)
        if name not in defaults:
            raise _unknown(name, defaults, prefix)
        try:
            config = OmegaConf.merge(config, _layer(name, value, hints))
        except RecursionError as error:
            raise UsageError(f"{prefix}{name} is nested too deeply.") from error
        except (OmegaConfBaseException, TypeError, OverflowError) as error:
            raise _refusal(error, name, value, hints[name], defaults[name], prefix) from error
        except ValueError as error:
            raise UsageError(f"{prefix}{name}: {_shorten(show_value(value))} cannot be read: {error}.") from error
    return config


def _check_limits(value: Any, hint: Any, notes: OptionNotes, name: str) -> None:
    """Raises UsageError if a number, or one of several, is beyond the limits that its option declares."""
    least, most = -math.inf if notes.least is None else notes.least, math.inf if notes.most is None else notes.most
    numbers = value if isinstance(value, (list, tuple)) else (value,)
    if not all(least <= each <= most for each in numbers if isinstance(each, (int, float))):
        raise UsageError(f"{name}: expected {values_in_words(hint, notes)}, got {_shorten(show_value(value))}.")


def check_option_types(config_type: type) -> None:
    """Checks that an option can have the type of every field of an options dataclass.

    Raises:
        PluginError: no option can have the type of a field, or its default has another type; the message names it.
    """
    _schema(config_type, f"{config_type.__name__}.")


def in_words(hint: Any) -> str:
    """Describes the values of a type, e.g. "a whole number" or "numbers separated by commas".

    Raises:
        PluginError: no option can have that type.
    """
    origin, arguments, kinds = get_origin(hint), get_args(hint), _kinds(hint)
    if hint in _SINGULARS:
        return _SINGULARS[hint]
    if origin in (Union, types.UnionType) and (len(kinds) == 1 or set(kinds) <= {str, int, float, bool}):
        return " or ".join("null" if each is type(None) else in_words(each) for each in arguments)
    if origin is Literal:
        return " or ".join(map(show_value, arguments))
    if (origin or hint) in (tuple, list):
        words = [in_words(each) for each in arguments if each is not Ellipsis]
        named = f", each {words[0]}" if words and get_origin(arguments[0]) is Literal else ""
        return f"{_PLURALS.get(words[0], 'values') if words else 'values'} separated by commas{named}"
    if (origin or hint) is dict or dataclasses.is_dataclass(hint):
        return "keys and values, as in {key: value}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " or ".join(repr(each.name) for each in hint)
    raise PluginError(
        f"No option can have the type {hint}.",
        hint="Options are text, numbers, true or false, Literal, Path, Enum, tuples and mappings of these, or None.",
    )


def values_in_words(hint: Any, notes: OptionNotes) -> str:
    """Describes the values that an option takes, such as "a whole number of at least 0"."""
    words = in_words(hint)
    limits = _limits_in_words(notes)
    if not limits:
        return words
    if (get_origin(hint) or hint) in (tuple, list):
        return f"{words}, each {limits}"
    number, null, _ = words.partition(" or null")
    return f"{number} {limits}{null}"


def _limits_in_words(notes: OptionNotes) -> str:
    """Describes the smallest and the largest number, such as "from 0 to 1"; "" for an option without them."""
    least, most = (None if limit is None else f"{limit:.15g}" for limit in (notes.least, notes.most))
    if least is not None and most is not None:
        return f"from {least} to {most}"
    return f"of at least {least}" if least is not None else f"of at most {most}" if most is not None else ""


_SINGULARS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
    Any: "any value",
}
_PLURALS = {"text": "names", "a whole number": "whole numbers", "a number": "numbers", "a path": "paths"}


def _hints(config_type: type) -> dict[str, Any]:
    """Returns the types of the options by name; class variables are no options."""
    try:
        hints = get_type_hints(config_type)
        return {name: hint for name, hint in hints.items() if ClassVar not in (hint, get_origin(hint))}
    except NameError as error:
        raise PluginError(
            f"The types of the options in {config_type.__qualname__} cannot be found: {error}.",
            hint=f"Import them at the top of {config_type.__module__}, outside 'if TYPE_CHECKING'.",
        ) from error


@lru_cache(maxsize=_SCHEMAS)
def _schema(config_type: type, prefix: str) -> Any:
    """Returns OmegaConf's form of a dataclass, with every default in its type. Nobody changes it: merging copies it."""
    hints = _hints(config_type)
    for name, hint in hints.items():
        try:
            in_words(hint)
        except PluginError as error:
            raise PluginError(f"{prefix}{name}: {error.message}", hint=error.hint) from error
    try:
        return OmegaConf.structured(config_type)
    except OmegaConfBaseException as error:
        name = str(error.full_key).split(".")[0].split("[")[0]
        default = next((_default(each) for each in dataclasses.fields(config_type) if each.name == name), None)
        raise PluginError(
            f"{prefix}{name}: its default {show_value(default)} is not of its type, {in_words(hints.get(name, Any))}.",
            hint="Change the type or the default in the plugin.",
        ) from error


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Returns the types of a union, without None; for another type, the type."""
    if get_origin(hint) not in (Union, types.UnionType):
        return (hint,)
    return tuple(each for each in get_args(hint) if each is not type(None))


def _shape(value: Any, hint: Any) -> Any:
    """Returns a value in the shape that OmegaConf needs for a type: text read as far as its type says, and escaped.

    Raises:
        _MismatchError: OmegaConf would take the value, but it does not have the type.
        ValueError: text that has to be YAML is not.
    """
    kinds = _kinds(hint)
    if value is None or (len(kinds) < len(get_args(hint)) and isinstance(value, Written) and value.strip() in _NULLS):
        return None
    kind = kinds[0] if len(kinds) == 1 else Union
    if (get_origin(kind) or kind) in (tuple, list):
        items = _sequence(value, get_args(kind))
        return tuple(items) if (get_origin(kind) or kind) is tuple else items
    if isinstance(value, Written):
        value = _read(value, kind, kinds)
    if kind is str and isinstance(value, (list, tuple)) and all(type(each) is int for each in value):
        return ",".join(map(str, value))  # users write such text with commas, and YAML reads it as a list
    mapping = (get_origin(kind) or kind) is dict or dataclasses.is_dataclass(kind)
    if kind in (int, float) and isinstance(value, str):
        value = _number(value, kind)
    if kind is bool and isinstance(value, str) and value.strip().lower() not in _BOOLEANS:
        raise _MismatchError
    if (
        not _is_storable(value)
        or (kind is str and isinstance(value, (int, float)))
        or (kind is bool and type(value) is int and value not in (0, 1))
        or (isinstance(value, (list, tuple, Mapping)) and not mapping and kind is not Any)
        or (isinstance(value, str) and kind not in (str, Path, Any, Union) and _escape(value) != value)
    ):
        raise _MismatchError
    if mapping or isinstance(value, Mapping):
        return {_key(key, kind): _shape_below(key, item, kind) for key, item in _mapping(value).items()}
    if isinstance(value, (list, tuple)):
        return [_shape(item, Any) for item in value]
    return _escape(value) if isinstance(value, str) else value


def _shape_below(key: Any, item: Any, kind: Any) -> Any:
    try:
        return _shape(item, _below(kind, key))
    except _MismatchError as error:
        raise _MismatchError([key, *error.path]) from error


def _number(text: str, kind: type) -> int | float:
    """Returns the number that quoted text holds; raises `_MismatchError` if it holds none of that type."""
    if not (_WHOLE_NUMBER if kind is int else _NUMBER).fullmatch(text):
        raise _MismatchError
    return float(text) if kind is float else int(text)


def _is_storable(value: Any) -> bool:
    """Returns whether a number is finite, and has 64 bits if it is whole; True for other values."""
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or value in _WHOLE


def _read(text: Written, kind: Any, kinds: tuple[Any, ...]) -> Any:
    """Returns text as the type `kind` needs it; `kinds` are the types of a union."""
    if get_origin(kind) is Literal:
        return next((each for each in get_args(kind) if text.strip() in (str(each), show_value(each))), str(text))
    if kind in (str, Path):
        return str(text)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next((each for each in kind if str(each.value) == text.strip()), str(text))
    if kind not in (int, float, bool, Union):
        return read_yaml(text)
    try:
        found = read_yaml(text)
    except ValueError:
        return str(text)
    wanted = kinds if kind is Union else (int, float)
    return found if type(found) in wanted and "_" not in text else str(text)


def _sequence(value: Any, arguments: tuple[Any, ...]) -> list[Any]:
    """Returns the items of a list, of text with commas (with or without brackets), or of one number."""
    hints = [each for each in arguments if each is not Ellipsis] or [Any]
    if isinstance(value, str) and value.strip() not in _NOTHING:
        items = _items(value.strip(), _kinds(hints[0])[0])
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        items = [value]
    elif isinstance(value, (tuple, list, set, frozenset)):
        items = list(value)
    else:
        raise _MismatchError
    each = hints if len(hints) == len(items) else hints[:1] * len(items)
    return [_convert_item(item, hint) for item, hint in zip(items, each, strict=True)]


def _convert_item(item: Any, hint: Any) -> Any:
    """Returns an item as `_shape` does; an item that is a sequence is converted, as OmegaConf checks no tuple there."""
    if (get_origin(hint) or hint) not in (tuple, list):
        return _shape(item, hint)
    try:
        return options_from(dataclasses.make_dataclass("Item", [("value", hint)]), {"value": item}).value
    except UsageError as error:
        raise _MismatchError from error


def _items(text: str, kind: Any) -> list[Any]:
    if (get_origin(kind) or kind) in (tuple, list, dict) or dataclasses.is_dataclass(kind):
        try:
            found = read_yaml(text)
        except ValueError:
            found = None
        return found if isinstance(found, list) else read_yaml(f"[{text}]")
    inside = text[1:-1] if text[0] + text[-1] in ("[]", "()") else text
    found = re.findall(r"""\s*('[^']*'|"[^"]*"|[^,]*?)\s*(?:,|$)""", inside)
    return [Written(re.sub(r"""^(['"])(.*)\1$""", r"\2", item)) for item in found if item]


def _mapping(value: Any) -> Mapping[Any, Any]:
    found = read_yaml(value) if isinstance(value, Written) else value
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        return {each.name: getattr(found, each.name) for each in dataclasses.fields(found)}
    if not isinstance(found, Mapping):
        raise _MismatchError
    return found


def _key(key: Any, kind: Any) -> Any:
    return str(key) if dataclasses.is_dataclass(kind) or get_args(kind)[:1] == (str,) else key


def _below(kind: Any, key: Any) -> Any:
    """Returns the type of what a mapping of the type `kind` has under a key."""
    return _hints(kind).get(key, Any) if dataclasses.is_dataclass(kind) else (*get_args(kind), Any, Any)[1]  # type: ignore[arg-type]


def _escape(text: str) -> str:
    """Returns text in the form that OmegaConf takes for this text, and not for a template or a missing value."""
    if text.lstrip("\\") == "???":
        return "\\" + text
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)


def _plain(value: Any) -> Any:
    if OmegaConf.is_config(value):
        return OmegaConf.to_object(value)
    return str(value) if isinstance(value, str) and not isinstance(value, Enum) else value  # "???" has its own class


def _refusal(error: Exception, name: str, value: Any, hint: Any, default: Any, prefix: str) -> UsageError:
    """Returns our error for a value of the option `name` that OmegaConf refuses with `error`."""
    for part in _path(error):
        (kind,) = _kinds(hint)
        if dataclasses.is_dataclass(kind) and part not in _hints(kind):  # type: ignore[arg-type]
            return _unknown(part, _hints(kind), f"{prefix}{name}.")  # type: ignore[arg-type]
        name, value, hint, default = f"{name}.{part}", _mapping(value).get(part), _below(kind, part), ""
    words = in_words(hint)
    if value is None or (isinstance(value, str) and value.strip() in _NOTHING):
        what = (
            f"the value is {words}" if default in ("", dataclasses.MISSING) else f"{show_value(default)} is the default"
        )
        return UsageError(f"{prefix}{name} has no value.", hint=f"Write {prefix}{name}=VALUE; {what}.")
    choices = [each for each in get_args(hint) if isinstance(each, str)] if isinstance(value, str) else []
    return UsageError(
        f"{prefix}{name}: expected {words}, got {_shorten(show_value(value))}.{did_you_mean(str(value), choices)}",
        hint=_advise(value, _kinds(hint)),
    )


def _path(error: Exception) -> Sequence[Any]:
    """Returns the keys from an option down to the value that was refused."""
    if isinstance(error, _MismatchError):
        return error.path
    key = str(getattr(error, "full_key", None) or "").split("[")[0]
    return [] if isinstance(error, KeyValidationError) else key.split(".")[1:]


def _advise(value: Any, kinds: tuple[Any, ...]) -> str:
    """Returns what to do about a value that does not have one of the types; "" if the types say it all."""
    if isinstance(value, (int, float)) and str in kinds:
        return "To give it as text, put it in quotes."
    if {int, float}.intersection(kinds) and _UNSTORABLE.fullmatch(str(value)):
        return "Numbers are finite and have no '_'; whole numbers have at most 64 bits."
    return ""


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _unknown(name: str, known: Mapping[str, Any], prefix: str) -> UsageError:
    # another prefix names a function, and is no part of the name of an option
    part = prefix if prefix.endswith(".") else ""
    whose = f"Options of this {part[:-1]}" if part else "Options"
    hint = f"{whose}: {', '.join(known) or 'none'}."
    if part and (places := find_option_places(name)):
        return UsageError(f"Unknown option {part + name!r}.{say_places(places)}", hint=hint)
    error = unknown_name("option", part + name, [part + each for each in known], hint=hint)
    return error if part else UsageError(f"{prefix}{error.message}", hint=hint)


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def show_value(value: Any) -> str:
    """Returns a value as messages show it: true, null, 3, or text in quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return repr(str(value) if isinstance(value, str) else value)
