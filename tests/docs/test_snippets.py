"""Code on the pages runs, and commands on the pages exist.

A block that begins with ```python runnable is executed, in the order of its page, in a folder that holds a run. Prompts
(>>>) make it a doctest. A block with `needs=PACKAGE` is skipped where that package is not installed.
"""

from __future__ import annotations

import doctest
import re
import shlex
import sys
import types
from pathlib import Path

import click
import pytest
from support import sliding
from support.pages import Block, blocks, name_of, pages

from vcorr.cli.main import DEBUG_FLAG, cli
from vcorr.plugins import builtin, registry
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec


def find_package(block: Block) -> str:
    """Returns the package that a block needs, "" for none."""
    return next((word.removeprefix("needs=") for word in block.info if word.startswith("needs=")), "")


RUNNABLE = {page: [block for block in blocks(page) if "runnable" in block.info] for page in pages()}
OPTIONAL = [(page, block) for page, found in RUNNABLE.items() for block in found if find_package(block)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes a folder with a small run below runs/."""
    folder = tmp_path_factory.mktemp("pages")
    modules = {registry.BUILTIN: builtin, "sliding": sliding}
    sources = [registry.PluginSource(name, name, "1", lambda m=m: m) for name, m in modules.items()]
    spec = RunSpec(model="sliding-model", probe="qk", steps="last")
    execute(make_plan(spec, registry.Registry(sources)), folder / "runs")
    return folder


@pytest.fixture
def namespace(run: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Returns the names of a page's code, in a module of its own, so that import strings to its classes work."""
    monkeypatch.chdir(run)
    module = types.ModuleType("documentation_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__dict__


def execute_block(page: Path, block: Block, names: dict[str, object]) -> None:
    """Runs a block; raises what it raises, or AssertionError with what a doctest printed in place of what it should."""
    if ">>>" not in block.text:
        exec(compile("\n" * (block.line - 1) + block.text, str(page), "exec"), names)
        return
    test = doctest.DocTestParser().get_doctest(block.text, names, name_of(page), str(page), block.line - 1)
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(test, out=said.append, clear_globs=False)
    names.update(test.globs)
    assert not said, "".join(said)


@pytest.mark.parametrize("page", [page for page, found in RUNNABLE.items() if found], ids=name_of)
def test_code_runs(page, namespace) -> None:
    for block in RUNNABLE[page]:
        if not find_package(block):
            execute_block(page, block, namespace)


@pytest.mark.parametrize(("page", "block"), OPTIONAL, ids=[f"{name_of(p)}-{find_package(b)}" for p, b in OPTIONAL])
def test_code_runs_with_other_packages(page, block, namespace) -> None:
    execute_block(page, block, namespace)


def commands(page: Path) -> list[str]:
    """Returns the vcorr command lines in the shell blocks of a page: continued lines joined, comments left out."""
    lines = [
        line.split("  #")[0].strip()
        for block in blocks(page)
        if block.info[:1] in ((), ("sh",), ("console",))
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    return [line for line in lines if re.match(r"([A-Z_]+=\S* )*vcorr ", line)]


COMMANDS = sorted({(name_of(page), line) for page in pages() for line in commands(page)})


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_commands_exist_with_their_flags(page, line) -> None:
    words = shlex.split(line)
    words = [word for word in words[words.index("vcorr") + 1 :] if word != DEBUG_FLAG]
    command: click.Command = cli
    while isinstance(command, click.Group):
        name, *words = words
        assert name in command.commands, f"{page}: {line}"
        command = command.commands[name]
    command.make_context(name, words)
