"""Tables at every width: nothing that is printed is cut, and what is left out is said."""

from __future__ import annotations

import io
import itertools
import json

import pytest
from rich.console import Console

from vcorr.cli.views.table_width import Column, break_name, fit_table

COLUMNS = (
    Column("name", is_name=True),
    Column("value"),
    Column("first to go", gives_way=0),
    Column("second", gives_way=1),
    Column("together", gives_way=1),
    Column("last", gives_way=2),
)
ROWS = [("a_rather_long_name_of_something", *(f"{i}.12345" for i in range(5))), None, ("b", *("-0.123",) * 5)]


def shown(width: int) -> str:
    out = Console(width=width, file=io.StringIO(), highlight=False)
    out.print(fit_table(out, "A table", COLUMNS, ROWS))
    return out.file.getvalue()  # type: ignore[attr-defined]


def hidden(text: str) -> list[str]:
    line = " ".join(text.split()).partition("Left out at this width: ")[2]
    return [name for name in line.removesuffix(". --json has all.").split("; ") if name]


@pytest.mark.parametrize("width", range(24, 101))
def test_no_number_is_cut_and_no_line_too_long(width) -> None:
    text = shown(width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    left_out = hidden(text)
    for i, column in enumerate(COLUMNS[1:]):
        assert (f"{i}.12345" in text) is (column.name not in left_out)


def test_columns_give_way_in_their_order() -> None:
    found = [tuple(hidden(shown(width))) for width in range(100, 20, -1)]
    assert [names for names, _ in itertools.groupby(found)] == [
        (),
        ("first to go",),
        ("first to go", "second", "together"),
        ("first to go", "second", "together", "last"),
    ]


@pytest.mark.parametrize(
    ("name", "width", "lines"),
    [
        ("matching_accuracy_moving", 24, ["matching_accuracy_moving"]),
        ("matching_accuracy_moving", 20, ["matching_accuracy_", "moving"]),
        ("matching_accuracy@displacement:0-1", 18, ["matching_accuracy@", "displacement:0-1"]),
        ("  matching_accuracy_moving (difftrack)", 12, ["  matching_", "accuracy_", "moving (difftrack)"]),
        ("averyveryverylongname", 8, ["averyveryverylongname"]),
        ("_leading_", 4, ["_leading_"]),
        ("漢漢漢_字字字", 8, ["漢漢漢_", "字字字"]),
    ],
)
def test_names_break_at_their_parts(name, width, lines) -> None:
    assert break_name(name, width).split("\n") == lines


@pytest.mark.parametrize("width", [60, 80, 120])
def test_commands_print_whole_numbers_at_usual_widths(vcorr, monkeypatch, width) -> None:
    made = vcorr("run", "--model", "sliding-model", "--probe", "qk,feature", "--steps", "0,9", "--set", "variant=both")
    path = made.out.splitlines()[-1].removeprefix("Results: ")
    vcorr("score", path, "--set", "metrics=matching_accuracy,strata")
    monkeypatch.setenv("COLUMNS", str(width))
    for command in (("show", "run", path), ("compare", path, path), ("score", path)):
        text = vcorr(*command).out
        tables = [line for line in text.splitlines() if not line.startswith(("Results", "Scores", "path"))]
        assert max(map(len, tables)) <= width
        numbers = [line.replace(" … ", " ") for line in tables if line.strip().startswith(("qk", "feature", "skill"))]
        assert numbers
        assert not any("…" in line for line in numbers), "\n".join(numbers)
    assert json.loads(vcorr("compare", path, path, "--json").out)["rows"]
