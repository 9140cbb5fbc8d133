"""YAML as its readers mean it."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scale import draw_cases

from vcorr.contract.yaml_text import read_yaml


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("2024-01-01", "2024-01-01"),
        ("1:30", "1:30"),
        ("010", "010"),
        ("0x1F", 31),
        ("1e-3", 1e-3),
        ("-2.5", -2.5),
        (".5", 0.5),
        ("1_000", "1_000"),
        ("<<", "<<"),
        ("=", "="),
        ("!!str 3", "3"),
        ('"\\ud83d\\ude00"', "\U0001f600"),
        ("${HOME}", "${HOME}"),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("[1, a]", [1, "a"]),
        ("a: &x {b: 1}\nc:\n  <<: *x\n  d: 2", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
    ],
)
def test_scalars_are_what_they_look_like(text: str, expected: object) -> None:
    found = read_yaml(text)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3", "the key 'a' is there twice (line 3)"),
        ("a: [", "a value is missing (line 1)"),
        ("a: [b", "a bracket is not closed: ',' or ']' is missing (line 1)"),
        ("a: *x", "no anchor is called 'x'; text that begins with '*' has to be quoted (line 1)"),
        ("a: Closeup: a cat", "text with ': ' in it has to be quoted (line 1)"),
        ("a:\n\tb", "lines are indented with spaces, not with tabs (line 2)"),
        ("a: @x", "text that begins with '@' has to be quoted (line 1)"),
        ('a: "x', "a quotation mark is not closed (line 1)"),
        ("a\n--- b", "it has more than one document ('---') (line 2)"),
        ("[a]: b", "a key is a list or a mapping, not text (line 1)"),
        ("a: !!python/object:os.system {}", "the tag !!python/object:os.system is not read; text that begins with '!'"),
        ("!!binary aGVsbG8=", "the tag !!binary is not read"),
        ("!!int abc", "'abc' is not a whole number (line 1)"),
        ("!!bool x", "'x' is not true or false (line 1)"),
        ("!!map x", "text that begins with '!' has to be quoted (line 1)"),
        ('"\\UFFFFFFFF"', "an escape in double quotes is no character"),
        ('"\\ud800"', "an escape is half a character (line 1)"),
        ("a\n\x07", "it holds the character U+0007; write it as an escape in quotes (line 2)"),
        ("a\u2028b", "it holds the character U+2028"),
        ("9" * 5000, "a number has 5000 digits (line 1)"),
        ("1e400", "the number 1e400 is too large (line 1)"),
        ("<<: 3", "'<<' takes a mapping (line 1)"),
    ],
)
def test_what_cannot_be_read_says_why_and_where(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read_yaml(text)
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize("text", ["&a [*a]", "x: &a {b: [1, *a]}", "&a {<<: *a}"])
def test_a_value_that_holds_itself_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a value holds itself \(line 1\)$"):
        read_yaml(text)
    assert read_yaml("[&a [1], *a]") == [[1], [1]]


@pytest.mark.parametrize("opened", ["[", "{a: ", "- ", "? "])
def test_deep_nesting_is_refused(opened: str) -> None:
    with pytest.raises(ValueError, match="more than 100 levels of values inside values"):
        read_yaml(opened * 10_000)
    assert read_yaml("[" * 90 + "]" * 90)


def _double(form: str) -> str:
    """Returns sixty anchors, each twice as large as the one before it."""
    lines = ["a0: &a0 {x: 1}", *(f"a{i}: &a{i} {form.replace('*', f'*a{i - 1}')}" for i in range(1, 60))]
    return "\n".join(lines)


@pytest.mark.parametrize("form", ["[*, *]", "{x: *, y: *}", "{<<: [*, *]}", "[[*], {z: *}]"])
def test_aliases_that_grow_exponentially_are_refused_before_memory_is_taken(form: str) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than 100000 values, with every alias written out"):
        read_yaml(_double(form))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10_000_000


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.text(alphabet="\t\n #:-?!&*|>'\"%@`{}[],~=<0123456789.eExyn_", max_size=12),
    st.sampled_from(["yes", "no", "on", "off", "null", "~", "010", "1:30", "1_0", "0x1F", "1e3", "<<", "???", "---"]),
)
VALUES = st.recursive(SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=5), each))


@given(VALUES)
@draw_cases(150)
def test_values_come_back_as_json_writes_them(value: Any) -> None:
    """Reads JSON, which is YAML: every value comes back with its type, and text as it was."""
    text = json.dumps(value)
    text = text.replace("\x7f", "\\x7f")  # the one control character that JSON leaves as it is
    assert json.dumps(read_yaml(text)) == json.dumps(value)


@given(st.text(max_size=20) | st.text(alphabet="abc:#-'\"{}[]&*!|>%@` \t\n0_?.~<", max_size=12))
@draw_cases(300)
def test_any_text_is_a_value_or_one_line_in_our_words(text: str) -> None:
    said = _refusal(text)
    for foreign in ("\n", "token", "scanner", "constructor", "node", "expected '<", "stream", "NoneType", "chr()"):
        assert foreign not in said


def _refusal(text: str) -> str:
    """Returns why a text is not read; "" if it is read."""
    try:
        read_yaml(text)
    except ValueError as error:
        return str(error)
    return ""
