"""docs/conventions.md: the names it gives as examples are names of the code, and private names stay in their module."""

from __future__ import annotations

import ast
import re

from support.pages import ROOT, read

CODE = [*ROOT.glob("vcorr/**/*.py"), *ROOT.glob("tests/**/test_*.py")]


def test_names_that_are_given_as_examples_exist() -> None:
    section = read(ROOT / "docs" / "conventions.md").split("### Names in code\n")[1]
    wrong = set(re.findall(r"not `(\w+)`", section))
    named = {word for code in re.findall(r"`([^`\n]+)`", section) for word in re.findall(r"\w{4,}(?<!_)", code)} - wrong
    source = "\n".join([path.name for path in CODE] + [read(path) for path in CODE])
    assert len(named) > 10
    assert [name for name in sorted(named) if not re.search(rf"\b{name}\b", source)] == []


def test_private_names_are_imported_by_no_other_module() -> None:
    found = []
    for path in [*ROOT.glob("vcorr/**/*.py"), *ROOT.glob("plugins/*/vcorr_*/**/*.py")]:
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vcorr"):
                private = [alias.name for alias in node.names if re.match(r"_(?!_)", alias.name)]
                found += [f"{path.relative_to(ROOT)}: {name}" for name in private]
    assert found == []
