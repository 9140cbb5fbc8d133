"""Tests which options are left out of fingerprints."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.option_notes import find_later, option


@dataclass(frozen=True)
class Options:
    """Options of a part: one of the first version, two that came later."""

    first: int = option(1, "An option of the first version.")
    second: int = option(2, "A later option.", later=True)
    third: tuple[int, ...] = option(factory=lambda: (3,), explanation="A later option.", later=True)


@dataclass(frozen=True)
class Stronger(Options):
    """Options that inherit a later one, with another default."""

    second: int = 5


def test_later_options_are_found_at_their_defaults_only() -> None:
    assert find_later(Options()) == {"second", "third"}
    assert find_later(Options(first=7, second=3)) == {"third"}
    assert find_later(Options(third=(4,))) == {"second"}
    assert find_later(Stronger()) == {"second", "third"}
    assert find_later(Stronger(second=2)) == {"third"}


def test_what_has_no_options_has_no_later_ones() -> None:
    assert find_later(None) == set()
    assert find_later({"second": 2}) == set()
    assert find_later(Options) == set()
