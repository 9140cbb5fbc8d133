"""The tutorials of docs/plugins, typed line by line: written, installed with pip, checked and run."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from support.distributions import Environment
from support.pages import ROOT, blocks

PAGES = {page.stem: page for page in sorted((ROOT / "docs" / "plugins").glob("*.md"))}
TYPE = """
import contextlib, io, json, runpy, shlex, sys
from vcorr.cli.main import main
said = []
for line in sys.stdin.read().splitlines():
    program, *words = shlex.split(line)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            if program == "python":
                sys.argv = words[1:]
                runpy.run_module(words[1], run_name="__main__")
            main(words)
        except SystemExit as end:
            code = end.code
    said.append([line, code, out.getvalue()])
print(json.dumps(said))
"""


def lines(page: Path) -> list[str]:
    """Returns the lines that a page says to type."""
    return [line for block in blocks(page) if block.info == ("sh",) for line in block.text.splitlines()]


def list_output(page: Path) -> list[str]:
    """Returns the lines that a page says are printed."""
    return [line for block in blocks(page) if block.info == ("text",) for line in block.text.splitlines()]


@pytest.fixture(scope="module")
def type_all(tmp_path_factory) -> tuple[Path, dict[str, tuple[int, str]]]:
    """Types every line of every page in a folder; gives the folder, and by line its exit code and its output."""
    made = Environment.create(tmp_path_factory.mktemp("tutorials"))
    everything = [line for page in PAGES.values() for line in lines(page)]
    new = [line for line in everything if line.startswith("vcorr plugin new ")]
    pip = [line for line in everything if line.startswith("pip install -e ")]
    rest = [line for line in everything if line not in (*new, *pip)]
    said = _type(made, new)
    made.pip_install(*(made.folder / shlex.split(line)[-1] for line in pip))
    return made.folder, said | _type(made, rest)


def _type(environment: Environment, typed_lines: list[str]) -> dict[str, tuple[int, str]]:
    done = environment.run("-c", TYPE, stdin="\n".join(typed_lines))
    return {line: (code, out) for line, code, out in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize("kind", PAGES)
def test_a_tutorial_works_as_it_stands(kind, type_all) -> None:
    folder, said = type_all
    mine = {line: said[line] for line in lines(PAGES[kind]) if not line.startswith("pip ")}
    assert {line: (code, out) for line, (code, out) in mine.items() if code} == {}
    printed = "".join(out for _, out in mine.values())
    assert list_output(PAGES[kind])
    assert [line for line in list_output(PAGES[kind]) if line not in printed] == []
    assert (folder / f"vcorr-{name_of(kind)}").is_dir()


@pytest.mark.parametrize("kind", ["model", "probe", "dataset"])
def test_what_is_new_has_its_place_on_a_board(kind, type_all) -> None:
    folder, _ = type_all
    pages = "".join(page.read_text() for page in (folder / f"site-{kind}").rglob("*.html"))
    assert name_of(kind) in pages


def name_of(kind: str) -> str:
    (line,) = [line for line in lines(PAGES[kind]) if line.startswith("vcorr plugin new ")]
    return shlex.split(line)[3].removeprefix("vcorr-")


def test_there_is_a_tutorial_of_every_kind() -> None:
    from vcorr.authoring.scaffold.names import KINDS

    assert set(PAGES) == set(KINDS)
