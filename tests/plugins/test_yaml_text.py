"""YAML as its readers mean it."""

from __future__ import annotations

import pytest

from vcorr.plugins.yaml_text import read_yaml, reason


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
        ("1_000", 1000),
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
        ("a: [", "expected the node content, but found '<stream end>' (line 1)"),
        ("a: *x", "found undefined alias 'x' (line 1)"),
        ("a: !!python/object:os.system {}", "could not determine a constructor"),
    ],
)
def test_what_cannot_be_read_says_why_and_where(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        read_yaml(text)
    assert reason(caught.value).startswith(expected)


@pytest.mark.parametrize("text", ["&a [*a]", "x: &a {b: [1, *a]}"])
def test_a_value_that_holds_itself_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a value holds itself$"):
        read_yaml(text)
    assert read_yaml("[&a [1], *a]") == [[1], [1]]
