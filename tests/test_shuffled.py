"""The run of tests in another order: what it shuffles, and which changes of the process it reports."""

from __future__ import annotations

import itertools
import os
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.shuffled import list_changes, shuffle_items, take_state

NAMES = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 20)), unique=True)


def make_items(names: list[tuple[str, int]]) -> list[SimpleNamespace]:
    return [SimpleNamespace(path=Path(f"test_{file}.py"), nodeid=f"{file}::{number}") for file, number in names]


@given(NAMES, st.integers(0, 9), st.randoms())
def test_every_test_runs_once_next_to_the_others_of_its_file(names, seed, chance) -> None:
    items = make_items(names)
    shuffled = shuffle_items(items, seed)
    assert sorted(item.nodeid for item in shuffled) == sorted(item.nodeid for item in items)
    files = [item.path for item in shuffled]
    assert sum(one != other for one, other in itertools.pairwise(files)) == max(len(set(files)) - 1, 0)
    chance.shuffle(items)
    assert shuffle_items(items, seed) == shuffled, "the order depends on the seed alone"


def test_seeds_give_other_orders_of_files_and_of_tests() -> None:
    items = make_items([(file, number) for file in "abcde" for number in range(6)])
    orders = [[item.nodeid for item in shuffle_items(items, seed)] for seed in range(5)]
    assert len({tuple(dict.fromkeys(name[0] for name in order)) for order in orders}) > 1
    assert len({tuple(name for name in order if name[0] == "a") for order in orders}) > 1


def change_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEFT_BEHIND", "1")


def change_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")


def change_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "filters", [*warnings.filters, ("ignore", None, UserWarning, None, 7)])


def change_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "COLUMNS", "33")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (change_variable, "environment variable LEFT_BEHIND: (not set) became 1"),
        (change_folder, "working directory"),
        (change_filters, "filters of warnings"),
        (change_columns, "environment variable COLUMNS"),
    ],
)
def test_what_a_test_leaves_changed_is_named(monkeypatch, change, name) -> None:
    before = take_state()
    assert list_changes(before, take_state()) == []
    change(monkeypatch)
    (said,) = list_changes(before, take_state())
    assert said.startswith(name)


def test_an_import_of_torch_is_no_change() -> None:
    state = take_state()
    without = {name: value for name, value in state.items() if not name.startswith("torch's")}
    assert list_changes(without, state) == []
    assert list_changes({**state, "torch's threads": 7}, {**state, "torch's threads": 1}) != []
