"""Options explain themselves: every option of every entry, limits, inheritance, nested options."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import pytest

import vcorr
from vcorr.contract.entries import ProbeEntry
from vcorr.plugins.option_facts import describe_options, list_unexplained
from vcorr.plugins.option_values import Written, options_from
from vcorr.plugins.registry import installed
from vcorr.testing import check_entry

KINDS = ("models", "probes", "metrics", "datasets", "trackers", "guidances")
ENTRIES = [(kind, entry.entry.name) for kind in KINDS for entry in installed().catalogue(kind).all()]


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_option_of_every_entry_is_explained_in_sentences(kind: str, name: str) -> None:
    for option in describe_options(installed().catalogue(kind).get(name).entry.config_type()):
        assert option.explanation.endswith("."), option
        assert option.allowed, option


@dataclass(frozen=True)
class Inner:
    depth: int = vcorr.option(1, "How deep.", least=1)


@dataclass(frozen=True)
class Options:
    share: float = vcorr.option(0.5, "A share.", least=0, most=1)
    count: int | None = vcorr.option(None, "A count.", unit="frames", least=1)
    edges: tuple[float, ...] = vcorr.option((1.0,), "Edges.", least=0)
    word: Literal["a", "b"] = vcorr.option("a", "A word.")
    inner: Inner = vcorr.option(factory=Inner, explanation="What is inside.")
    path: str = vcorr.option(explanation="A path that has to be given.", default="")


@dataclass(frozen=True)
class Fewer(Options):
    LEFT_OUT: ClassVar[frozenset[str]] = frozenset({"count", "inner", "word"})


@dataclass(frozen=True)
class Lower(Options):
    share: float = 0.25
    silent: int = 3
    hidden: int = field(default=0, init=False)


def test_type_limits_default_and_unit_are_in_words() -> None:
    found = {each.name: (each.allowed, each.default, each.unit) for each in describe_options(Options)}
    assert found == {
        "share": ("a number from 0 to 1", 0.5, ""),
        "count": ("a whole number of at least 1 or null", None, "frames"),
        "edges": ("numbers separated by commas, each of at least 0", [1.0], ""),
        "word": ("'a' or 'b'", "a", ""),
        "inner": ("keys and values, as in {key: value}", None, ""),
        "inner.depth": ("a whole number of at least 1", 1, ""),
        "path": ("text", "", ""),
    }
    assert describe_options(None) == []


def test_options_that_a_part_refuses_are_left_out_and_still_have_their_defaults() -> None:
    assert [each.name for each in describe_options(Fewer)] == ["share", "edges", "path"]
    made = options_from(Fewer, {"share": Written("0.75")}, "probe.")
    assert (made.share, made.count, made.inner) == (0.75, None, Inner())
    with pytest.raises(vcorr.UsageError, match="LEFT_OUT"):
        options_from(Fewer, {"LEFT_OUT": Written("x")}, "probe.")


TRIED: dict[str, Any] = {
    "heads": "0,3",
    "radius": 1,
    "rotary": False,
    "symmetric": False,
    "slow_bands": 0.5,
    "temperature": 0.1,
}
"""Another value than the default for every option of the built-in probes."""
WITHOUT_EFFECT = {("feature", "symmetric"), ("hidden", "symmetric")}
"""Options that a probe accepts without effect: these two match one way in any case."""


@pytest.mark.parametrize("name", [loaded.entry.name for loaded in installed().probes.all()])
def test_the_listed_options_of_a_probe_are_the_ones_that_it_takes(name: str) -> None:
    entry = installed().probes.get(name).entry
    kind = entry.config_type()
    taken = set()
    for option in () if kind is None else fields(kind):
        with contextlib.suppress(vcorr.UsageError):
            entry.create(kind(**{option.name: TRIED[option.name]}))
            taken.add(option.name)
    without = {option for probe, option in WITHOUT_EFFECT if probe == name}
    assert taken >= without
    assert {each.name for each in describe_options(kind)} == taken - without


def test_a_default_that_is_replaced_keeps_its_explanation() -> None:
    (share,) = [each for each in describe_options(Lower) if each.name == "share"]
    assert (share.explanation, share.default, share.allowed) == ("A share.", 0.25, "a number from 0 to 1")
    assert list_unexplained(Lower) == ["silent"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("share", Written("1.5"), "a number from 0 to 1, got 1.5"),
        ("share", -1, "a number from 0 to 1, got -1.0"),
        ("count", Written("0"), "a whole number of at least 1 or null, got 0"),
        ("edges", [1, -2], "numbers separated by commas, each of at least 0, got (1.0, -2.0)"),
    ],
)
def test_a_number_beyond_its_limits_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(vcorr.UsageError) as refused:
        options_from(Options, {name: value}, "data.")
    assert refused.value.message == f"data.{name}: expected {words}."
    assert options_from(Options, {"share": 1, "count": 1, "edges": [0]}) == Options(1.0, 1, (0.0,))


def test_a_plugin_whose_options_are_not_explained_does_not_pass() -> None:
    entry = ProbeEntry(name="silent", summary="x", factory="a:B", config=Lower)
    (check,) = [each for each in check_entry(entry).checks if each.name == "every option has an explanation"]
    assert not check.passed
    assert "silent: `vcorr show` says nothing about it; write `name: type = vcorr.option(" in check.reason
    explained = ProbeEntry(name="said", summary="x", factory="a:B", config=Options)
    assert {each.name: each.passed for each in check_entry(explained).checks}["every option has an explanation"]
    assert len(fields(Options)) == 6


@dataclass(frozen=True)
class Named:
    word: str = vcorr.option("a", "A word.")
    clips: int = vcorr.option(1, "A number.", most=1_000_000)

    def __post_init__(self) -> None:
        if self.word not in ("a", "b"):
            raise vcorr.UsageError(f"word: expected 'a' or 'b', got {self.word!r}.", hint="Write a.")


def test_what_a_dataclass_refuses_is_said_of_the_option() -> None:
    with pytest.raises(vcorr.UsageError) as refused:
        options_from(Named, {"word": "c"}, "probe.")
    assert str(refused.value) == "probe.word: expected 'a' or 'b', got 'c'.\nWrite a."


def test_large_limits_are_written_out() -> None:
    with pytest.raises(vcorr.UsageError, match="expected a whole number of at most 1000000, got 1000001"):
        options_from(Named, {"clips": 1_000_001}, "data.")
