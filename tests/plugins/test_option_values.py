"""Options from text, YAML and Python values: what each type takes, and what is said about everything else."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vcorr.contract.errors import PluginError, UsageError
from vcorr.plugins import builtin
from vcorr.plugins.option_values import Written, check_option_types, in_words, options_from
from vcorr.plugins.part_options import make_config
from vcorr.plugins.registry import Registry, module_source
from vcorr.probes.probe_options import ProbeConfig
from vcorr.runner.spec import build_spec
from vcorr.store.fingerprint import fingerprint


def convert(value: object, hint: Any, name: str) -> Any:
    """Converts a value to a type, as an option `name` ("probe.x") of that type takes it."""
    part, _, last = name.partition(".")
    return getattr(options_from(make_dataclass("One", [(last, hint)]), {last: value}, f"{part}."), last)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Every:
    """An option of every type that there may be."""

    text: str = "a"
    whole: int = 1
    number: float = 1.0
    flag: bool = False
    choice: Literal["caption", "empty"] = "caption"
    maybe: int | None = None
    maybe_text: str | None = None
    path: Path = Path("x")
    colour: Colour = Colour.RED
    numbers: tuple[float, ...] = (1.0,)
    pair: tuple[int, int] = (1, 2)
    names: list[str] = field(default_factory=list)
    network: dict[str, Any] = field(default_factory=lambda: {"kept": 1})
    inner: Inner = field(default_factory=Inner)
    either: int | str = 1
    anything: Any = None


@pytest.mark.parametrize(
    ("name", "written", "expected"),
    [
        ("text", "a ${x}, b: c", "a ${x}, b: c"),
        ("text", "yes", "yes"),
        ("text", "1.50", "1.50"),
        ("text", "", ""),
        ("text", "[0,3]", "[0,3]"),
        ("whole", "12", 12),
        ("whole", "0x10", 16),
        ("number", "1e-3", 1e-3),
        ("number", "2", 2.0),
        ("flag", "true", True),
        ("flag", "off", False),
        ("flag", "1", True),
        ("choice", "empty", "empty"),
        ("maybe", "null", None),
        ("maybe", "~", None),
        ("maybe_text", "", ""),
        ("maybe", "3", 3),
        ("maybe_text", "null", None),
        ("maybe_text", "none", "none"),
        ("path", "0x10/${HOME}", Path("0x10/${HOME}")),
        ("colour", "BLUE", Colour.BLUE),
        ("colour", "blue", Colour.BLUE),
        ("numbers", "1,2.5", (1.0, 2.5)),
        ("numbers", "[1, 2.5]", (1.0, 2.5)),
        ("numbers", "4", (4.0,)),
        ("numbers", "[]", ()),
        ("pair", "3,4", (3, 4)),
        ("names", "['a', b]", ["a", "b"]),
        ("network", "{layers: 2, act: silu}", {"kept": 1, "layers": 2, "act": "silu"}),
        ("inner", "{depth: 3}", Inner(3)),
        ("either", "3", 3),
        ("either", "three", "three"),
        ("anything", "[1, yes]", [1, "yes"]),
    ],
)
def test_what_is_written_on_the_command_line(name: str, written: str, expected: object) -> None:
    found = getattr(options_from(Every, {name: Written(written)}), name)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("text", [0, 3], "0,3"),
        ("number", 2, 2.0),
        ("numbers", [1, 2], (1.0, 2.0)),
        ("numbers", 3, (3.0,)),
        ("network", {"layers": "2"}, {"kept": 1, "layers": "2"}),
        ("inner", Inner(5), Inner(5)),
        ("anything", "1", "1"),
    ],
)
def test_what_yaml_or_python_give(name: str, given: object, expected: object) -> None:
    assert getattr(options_from(Every, {name: given}), name) == expected


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("text", True, "text, got true"),
        ("text", {"a": 1}, "text, got {'a': 1}"),
        ("text", ["a", "b"], "text, got ['a', 'b']"),
        ("whole", Written("1.5"), "a whole number, got '1.5'"),
        ("whole", 1.0, "a whole number, got 1.0"),
        ("whole", True, "a whole number, got true"),
        ("number", Written("wide"), "a number, got 'wide'"),
        ("flag", 3, "true or false, got 3"),
        ("flag", Written("each"), "true or false, got 'each'"),
        ("choice", Written("empt"), "'caption' or 'empty', got 'empt'. Did you mean 'empty'?"),
        ("maybe", Written("x"), "a whole number or null, got 'x'"),
        ("path", 3, "a path, got 3"),
        ("colour", Written("green"), "'RED' or 'BLUE', got 'green'"),
        ("numbers", Written("a,b"), "numbers separated by commas, got 'a,b'"),
        ("numbers", {"a": 1}, "numbers separated by commas, got {'a': 1}"),
        ("pair", Written("1,2,3"), "whole numbers separated by commas, got '1,2,3'"),
        ("network", [0, 3], "keys and values, as in {key: value}, got [0, 3]"),
        ("network", Written("x"), "keys and values, as in {key: value}, got 'x'"),
        ("inner", Written("{depth: deep}"), "a whole number, got 'deep'"),
        ("either", [1.5], "a whole number or text, got [1.5]"),
    ],
)
def test_what_does_not_fit_is_said_in_words(name: str, given: object, expected: str) -> None:
    with pytest.raises(UsageError) as refused:
        options_from(Every, {name: given}, "part.")
    assert expected in refused.value.message
    assert refused.value.message.startswith(f"part.{name}")


@pytest.mark.parametrize("name", ["whole", "number", "flag", "choice", "colour", "numbers", "network"])
@pytest.mark.parametrize("given", [None, Written("")])
def test_no_value_where_there_has_to_be_one(name: str, given: object) -> None:
    with pytest.raises(UsageError, match=rf"part\.{name} has no value(.|\n)*part\.{name}=VALUE"):
        options_from(Every, {name: given}, "part.")


def test_the_default_is_named_where_no_value_was_given() -> None:
    with pytest.raises(UsageError) as refused:
        options_from(Every, {"choice": None}, "model.")
    assert refused.value.hint == "Write model.choice=VALUE; 'caption' is the default."


def test_text_that_begins_like_yaml_and_is_none_is_refused_where_yaml_is_meant() -> None:
    with pytest.raises(UsageError, match=r"cannot be read: .* \(line 1\)"):
        options_from(Every, {"network": Written("{a: ")})


@dataclass(frozen=True)
class Needed:
    path: str


def test_a_value_that_has_to_be_given() -> None:
    with pytest.raises(UsageError, match=r"data\.path has no default and no value(.|\n)*data\.path=VALUE: text"):
        options_from(Needed, {}, "data.")


@pytest.mark.parametrize("hint", [bytes, complex, tuple[bytes, ...], int | bytes])
def test_a_type_that_no_option_can_have_is_the_plugins_mistake(hint: object) -> None:
    with pytest.raises(PluginError, match="No option can have the type"):
        convert(3.5, hint, "model.raw")


@dataclass(frozen=True)
class Odd:
    fine: int = 1
    raw: bytes = b""


def test_types_that_no_option_can_have_are_found_before_anybody_sets_one() -> None:
    check_option_types(Every)
    with pytest.raises(PluginError, match=r"Odd\.raw: No option can have the type <class 'bytes'>(.|\n)*Literal"):
        check_option_types(Odd)


WRONG = (
    *("[0,3]", "{a: 1}", "3", "1.5", "each", "true", "null", "", "1e400", "nan", "-1", "[[1],[2]]", "${x}"),
    *("${oc.env:HOME}", "???", "[a,b]", "0x10", "2024-01-01", "[", "{", "a: b", "*x", "a=b", "1,2", "~", "yes", "é"),
)
PYTHON = (None, True, 3, 1.5, "x", [0, 3], ["a", 1.5], {"a": 1}, [[1], [2]], object())


def list_built_in() -> list[tuple[str, Any]]:
    """Returns every options dataclass of a built-in part, with the word that its options begin with."""
    registry = Registry([module_source(builtin)])
    found = {}
    for part, catalogue in zip(("model", "data", "probe", "metric", "tracker"), _catalogues(registry), strict=True):
        for name in catalogue.names():
            config_type = catalogue.get(name).entry.config_type()
            if config_type is not None:
                found[config_type] = part
    return [(part, config_type) for config_type, part in found.items()]


def _catalogues(registry: Registry) -> list[Any]:
    return [registry.models, registry.datasets, registry.probes, registry.metrics, registry.trackers]


@pytest.mark.parametrize(("part", "config_type"), list_built_in(), ids=lambda value: getattr(value, "__name__", value))
def test_no_value_of_any_built_in_option_crashes_or_speaks_in_foreign_words(part: str, config_type: type) -> None:
    refused: list[tuple[str, str]] = []
    for option in fields(config_type):
        given = [build_spec({}, assignments=[f"{part}.{option.name}={text}"]).options[part] for text in WRONG]
        for options in [*given, *({option.name: value} for value in PYTHON)]:
            try:
                made = make_config(config_type, options, part)
            except UsageError as error:
                refused.append((option.name, error.message))
            else:
                assert isinstance(made, config_type)
    assert refused
    for name, message in refused:
        assert name in message
        for word in ("Config'", "Integer", "Optional", "NoneType", "Incompatible", "dict[", "tuple["):
            assert word not in message


def test_heads_are_chosen_with_and_without_brackets(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("set:\n  probe.heads: [0, 3]\n")
    in_file = build_spec({}, config_file=tmp_path / "run.yaml").options["probe"]
    for options in (
        in_file,
        *(build_spec({}, assignments=[f"probe.heads={t}"]).options["probe"] for t in ("[0,3]", "0,3")),
    ):
        made = make_config(ProbeConfig, options, "probe")
        assert (made, made.head_choice.chosen) == (ProbeConfig(heads="0,3"), (0, 3))


def test_what_is_wrong_with_a_nested_value_is_said_of_its_type() -> None:
    assert in_words(dict[str, int]) == "keys and values, as in {key: value}"
    assert in_words(tuple[Path, ...]) == "paths separated by commas"
    assert in_words(list[Any]) == "values separated by commas"
    assert in_words(tuple[Literal["a", "b"], ...]) == "values separated by commas, each 'a' or 'b'"
    with pytest.raises(UsageError, match=r"model.inner.depth: expected a whole number, got 'x'"):
        options_from(Every, {"inner": {"depth": "x"}}, "model.")


@dataclass(frozen=True)
class Pair:
    near: float = 1
    far: int = 2


@dataclass(frozen=True)
class Plain:
    """Defaults as an author may write them: not always of the declared type."""

    number: float = 1
    numbers: tuple[float, ...] = (1, 2)
    maybe: float | None = 2
    weights: dict[str, float] = field(default_factory=lambda: {"a": 1})
    pair: Pair = field(default_factory=lambda: Pair(near=5, far=7))
    either: float | int = 3
    path: Path = "x"  # type: ignore[assignment]


def test_defaults_are_brought_to_the_declared_type() -> None:
    made = options_from(Plain, {})
    assert repr(made) == (
        "Plain(number=1.0, numbers=(1.0, 2.0), maybe=2.0, weights={'a': 1.0}, pair=Pair(near=5.0, far=7), either=3, "
        f"path={Path('x')!r})"
    )
    set_by_hand = options_from(Plain, {name: getattr(Plain(), name) for name in ("number", "numbers", "weights")})
    assert fingerprint({"options": made}) == fingerprint({"options": set_by_hand})
    assert options_from(Plain, {"weights": {"b": 2}}).weights == {"a": 1.0, "b": 2.0}
    assert all(type(weight) is float for weight in options_from(Plain, {"weights": {"b": 2}}).weights.values())


def test_a_default_of_another_type_is_an_error_of_the_plugin() -> None:
    @dataclass
    class Wrong:
        count: int = None  # type: ignore[assignment]

    with pytest.raises(PluginError, match=r"probe\.count: its default null is not of its type, a whole number"):
        options_from(Wrong, {}, "probe.")


def test_types_that_cannot_be_found_are_an_error_of_the_plugin() -> None:
    Unknown = make_dataclass("Unknown", [("count", "NoSuchType", 1)])
    for check in (check_option_types, lambda kind: options_from(kind, {})):
        with pytest.raises(PluginError, match=r"Unknown cannot be found: name 'NoSuchType'(.|\n)*TYPE_CHECKING"):
            check(Unknown)


@pytest.mark.parametrize("given", [{"pair.near": Written("3")}, {"pair": Written("{near: 3}")}, {"pair": {"near": 3}}])
def test_a_part_of_a_nested_option_keeps_the_rest_of_its_default(given: dict[str, Any]) -> None:
    assert make_config(Plain, given, "probe").pair == Pair(near=3.0, far=7)


@pytest.mark.parametrize("given", [{"pair.nera": Written("3")}, {"pair": Written("{nera: 3}")}, {"pair": {"nera": 3}}])
def test_an_unknown_name_inside_an_option_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"Unknown option 'probe\.pair\.nera'. Did you mean 'probe\.pair\.near'"):
        make_config(Plain, given, "probe")


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, Written("1_")),
        (int, Written("1__0")),
        (int, Written("9" * 5000)),
        (float, Written("1_.5")),
        (float, 10**400),
        (Literal["a", "b"], 3),
        (list[int], Written("[1,2")),
        (tuple[int, ...], Written("(1,2]")),
        (dict[int, float], Written("{x: 2}")),
        (Colour, True),
    ],
)
def test_what_looks_like_a_value_and_is_none_is_refused(hint: Any, value: object) -> None:
    with pytest.raises(UsageError, match=r"^probe\.x: expected "):
        convert(value, hint, "probe.x")


class Count(Enum):
    ONE = 1
    TWO = 2


@pytest.mark.parametrize(
    ("hint", "value", "expected"),
    [
        (list[list[int]], Written("[[0,1],[2]]"), [[0, 1], [2]]),
        (tuple[tuple[int, int], ...], Written("[0, 1], [2, 3]"), ((0, 1), (2, 3))),
        (list[Pair], Written("[{near: 1}, {near: 2, far: 3}]"), [Pair(1.0), Pair(2.0, 3)]),
        (list[str], Written("['a,b', it's, c(d]"), ["a,b", "it's", "c(d"]),
        (dict[int, float], Written("{1: 2}"), {1: 2.0}),
        (bool | int, 1, 1),
        (bool | int, Written("1"), 1),
        (bool | int, Written("true"), True),
        (float | int, 3, 3),
        (float | int, Written("2.5"), 2.5),
        (int | str, "3", "3"),
        (Count, Written("2"), Count.TWO),
        (Count, Written("Count.TWO"), Count.TWO),
        (Literal["a", True], Written("True"), True),
    ],
)
def test_nested_values_and_unions_keep_what_was_meant(hint: Any, value: object, expected: object) -> None:
    found = convert(value, hint, "probe.x")
    assert (found, type(found)) == (expected, type(expected))


def test_yaml_that_cannot_be_read_is_said_of_its_option() -> None:
    with pytest.raises(UsageError, match=r"^probe\.network: '\{a: ' cannot be read"):
        options_from(Every, {"network": Written("{a: ")}, "probe.")


@pytest.mark.parametrize("text", ["1_0", "nan", ".inf", "-.INF", "1e400", "9" * 30, str(2**63), "-1_000", "1_0.5"])
@pytest.mark.parametrize("name", ["whole", "number", "maybe", "numbers", "pair"])
def test_numbers_that_no_table_stores_are_refused(name: str, text: str) -> None:
    values: list[object] = [Written(text), text]
    if name in ("whole", "number"):
        values += [float(text.replace("_", "").strip("-.").lower())] if "e" in text or "n" in text.lower() else []
    for value in values:
        if name == "number" and value in ("9" * 30, str(2**63)):
            continue
        with pytest.raises(UsageError, match=rf"^probe\.{name}: expected"):
            options_from(Every, {name: [value, value] if name == "pair" else value}, "probe.")


def test_the_largest_whole_numbers_are_taken() -> None:
    assert options_from(Every, {"whole": str(2**63 - 1)}).whole == 2**63 - 1
    assert options_from(Every, {"whole": -(2**63)}).whole == -(2**63)
    with pytest.raises(UsageError) as refused:
        options_from(Every, {"whole": 2**63})
    assert refused.value.hint == "Numbers are finite and have no '_'; whole numbers have at most 64 bits."


@pytest.mark.parametrize("name", ["maybe", "numbers", "either"])
def test_an_empty_value_is_not_null(name: str) -> None:
    if name == "either":
        assert options_from(Every, {name: Written("")}).either == ""
        return
    with pytest.raises(UsageError, match=rf"part\.{name} has no value"):
        options_from(Every, {name: Written("")}, "part.")


@dataclass(frozen=True)
class Texts:
    text: str = "${HOME}"
    maybe: str | None = None
    names: tuple[str, ...] = ()
    folder: Path = Path("x")
    network: dict[str, Any] = field(default_factory=dict)
    anything: Any = "???"


@given(st.text(max_size=5) | st.text(alphabet="\\$?{}a: #[", max_size=8) | st.sampled_from(["???", "\\???", "no"]))
def test_text_of_any_kind_stays_as_it_is(text: str) -> None:
    given = {"text": Written(text), "network": {text: text, "inner": [text]}, "anything": {"a": text}, "names": [text]}
    made = options_from(Texts, given)
    assert (type(made.text), made.text) == (str, text)
    assert (made.network, made.anything) == ({text: text, "inner": [text]}, {"a": text})
    assert made.names == (text,)
    assert options_from(Texts, {"anything": text, "maybe": text, "folder": text}) == Texts(
        anything=text, maybe=text, folder=Path(text)
    )


def test_defaults_that_look_like_templates_stay_as_they_are() -> None:
    made = options_from(Texts, {})
    assert (made, type(made.anything)) == (Texts(), str)


@pytest.mark.parametrize("given", [True, 3, 1.1])
def test_a_number_or_boolean_for_text_has_to_be_quoted(given: object) -> None:
    for name in ("text", "maybe_text"):
        with pytest.raises(UsageError) as refused:
            options_from(Every, {name: given}, "data.")
        assert refused.value.hint == "To give it as text, put it in quotes."


@pytest.mark.parametrize("hint", [set[int], frozenset[str], int | list[int], list[int] | dict[str, int], object])
def test_sets_and_unions_of_containers_are_types_that_no_option_can_have(hint: Any) -> None:
    with pytest.raises(PluginError, match=r"One\.raw: No option can have the type"):
        check_option_types(make_dataclass("One", [("raw", hint, None)]))


def test_deep_nesting_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"probe\.(network|anything)"):
        options_from(Every, {"anything": Written("[" * 400 + "]" * 400)}, "probe.")


@dataclass(frozen=True)
class Pairs:
    pairs: tuple[tuple[int, int], ...] = ((0, 1),)


@pytest.mark.parametrize("written", ["[[a,b]]", "[[1,2,3]]", "[0,1]", "((0,1),(2,3))x"])
def test_tuples_inside_a_tuple_are_checked(written: str) -> None:
    assert options_from(Pairs, {"pairs": Written("[[1,2],[3,4]]")}).pairs == ((1, 2), (3, 4))
    with pytest.raises(UsageError, match=r"^probe\.pairs: expected values separated by commas"):
        options_from(Pairs, {"pairs": Written(written)}, "probe.")
