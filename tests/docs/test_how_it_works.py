"""The page "How the code works": its links exist, its stops are visited in their order, its numbers are measured."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from support.pages import ROOT, blocks, read
from support.rooms import rooms_in_layers

from vcorr.cli.main import main
from vcorr.store.rundir import find_runs

PAGE = ROOT / "docs" / "how-it-works.md"
CODE = re.compile(r"\[`([\w.]+)`\]\(([^)\s]+\.py)\)")
MOST_STOPS = 12

VISITED = (
    "main",
    "build_spec",
    "model_part",
    "resolve_steps",
    "preflight",
    "execute",
    "work_off_each",
    "prepare_clip",
    "run_mode",
    "StepReader.see_call",
    "match_readings",
    "score_table",
)
"""A function of each stop that is called when the stop is reached, and not before."""


def list_stops() -> list[str]:
    """Returns the text of each stop, its heading first."""
    return re.findall(r"^## (\d+\. .*?)(?=^## )", read(PAGE), re.DOTALL | re.MULTILINE)


def find_code_links(text: str) -> list[tuple[str, Path]]:
    """Returns the functions and classes that a text links, with the files it says they are in."""
    return [(name, (PAGE.parent / target).resolve()) for name, target in CODE.findall(text)]


def names_in(path: Path) -> set[str]:
    """Returns the functions, classes and methods of a file, methods as `Class.method`."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    top = [node for node in ast.parse(read(path)).body if isinstance(node, kinds)]
    inner = {(node.name, part.name) for node in top for part in node.body if isinstance(part, kinds)}
    return {node.name for node in top} | {f"{outer}.{name}" for outer, name in inner}


def test_every_function_that_is_linked_is_in_its_file() -> None:
    found = find_code_links(read(PAGE))
    assert [f"{name} in {path.relative_to(ROOT)}" for name, path in found if name not in names_in(path)] == []


def test_stops_are_counted_and_each_says_what_goes_in_and_out_and_why() -> None:
    numbers = [int(stop.split(".")[0]) for stop in list_stops()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) <= MOST_STOPS
    for stop in list_stops():
        assert re.findall(r"^- \*\*(\w+):\*\*", stop, re.MULTILINE) == ["Code", "In", "Out", "Why"], stop
        assert find_code_links(stop)


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[dict[str, Any]]]:
    """Runs the page's command; gives the functions of `VISITED` in the order of their first calls, and the scores."""
    out = tmp_path_factory.mktemp("how-it-works")
    (line,) = [line for block in blocks(PAGE) if block.info == ("sh",) for line in block.text.splitlines()]
    files = {str(path): path for _, path in find_code_links(read(PAGE))}
    calls: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        name = frame.f_code.co_qualname
        if event == "call" and name in VISITED and name not in calls and frame.f_code.co_filename in files:
            calls.append(name)

    sys.setprofile(note)
    try:
        with pytest.raises(SystemExit) as ended:
            main([*shlex.split(line)[1:], "--out", str(out), "--device", "cpu"])
    finally:
        sys.setprofile(None)
    assert ended.value.code == 0
    (run,) = find_runs(out)
    return calls, run.read("scores").to_pylist()


def test_stops_are_visited_in_their_order(visit) -> None:
    calls, _ = visit
    assert calls == list(VISITED)
    for stop, name in zip(list_stops(), VISITED, strict=True):
        assert name in [linked for linked, _ in find_code_links(stop)], stop


def test_the_numbers_are_the_commands(visit) -> None:
    _, rows = visit
    assert len(rows) == int(re.search(r"\*\*Out:\*\* (\d+) rows of scores", read(PAGE))[1])
    (row,) = [row for row in rows if row["metric"] == "matching_accuracy" and row["step"] == 30]
    said = re.search(r"at step 30 says ([\d.]+), between ([\d.]+) and ([\d.]+)\.", read(PAGE))
    values = [row[name] for name in ("value", "floor", "ceiling")]
    assert values == pytest.approx([float(number) for number in said.groups()], abs=0.01)
    levels = re.search(r"noise level ([\d.]+)\).*?step 30 \(([\d.]+)\)", read(PAGE), re.DOTALL)
    noise = {row["step"]: row["noise"] for row in rows}
    assert [noise[10], noise[30]] == pytest.approx([float(number) for number in levels.groups()], abs=0.005)


def test_the_picture_has_the_rooms_in_the_order_that_is_checked() -> None:
    (picture,) = [block for block in blocks(PAGE) if block.info == ("text",)]
    drawn = [re.split(r" {2,}", line)[0].split(" · ") for line in picture.text.splitlines()]
    assert drawn == rooms_in_layers()
