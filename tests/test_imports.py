"""No package imports itself in a circle, and the core's contract stands on nothing.

The layers themselves are a contract of import-linter (pyproject.toml), checked by `make check`.
"""

import ast
import collections
import graphlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import vcorr

CORE = Path(vcorr.__file__).parent
PLUGINS = sorted((Path(__file__).parents[1] / "plugins").glob("*/vcorr_*"))


def modules(package):
    """Yields the files of a package with the names of their modules."""
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(package):
    """Returns the modules of its package that each module imports, also inside functions and for the type checker."""
    files = dict(modules(package))
    graph = {name: set() for name in files}
    for name, path in files.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                graph[name].update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                targets = {f"{node.module}.{alias.name}" for alias in node.names}
                graph[name].update(target if target in files else node.module for target in targets)
    return {name: found & files.keys() - {name} for name, found in graph.items()}


@pytest.mark.parametrize("package", [CORE, *PLUGINS], ids=lambda package: package.name)
def test_no_circles(package):
    graph = imports(package)
    assert len(graph) > 2  # it is the package, and its modules were found
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert len(order) == len(graph)


def test_all_packages_are_looked_at_and_their_imports_seen():
    assert len(PLUGINS) >= 9
    assert "vcorr.contract.errors" in imports(CORE)["vcorr.contract.geometry"]


def test_module_names_do_not_repeat():
    """Checks that a name in a traceback or in a search means one module."""
    names = collections.Counter(path.stem for _, path in modules(CORE) if not path.stem.startswith("__"))
    assert [name for name, count in names.items() if count > 1] == []


def test_the_contract_loads_nothing_else_of_the_core():
    """Checks that the imports that import-linter ignores there serve the type checker alone."""
    contract = [name for name, path in modules(CORE) if path.parent.name == "contract" and path.stem != "__init__"]
    code = f"import importlib, sys\nfor name in {contract}: importlib.import_module(name)\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {name.split(".")[1] for name in loaded if name.startswith("vcorr.")} == {"contract"}
    assert "torch" not in loaded
    assert len(contract) > 10


def test_import_linter_looks_at_every_plugin():
    settings = tomllib.loads((CORE.parent / "pyproject.toml").read_text())["tool"]["importlinter"]
    names = [plugin.name for plugin in PLUGINS]
    assert settings["root_packages"] == ["vcorr", *names]
    lists = [
        contract[key]
        for contract in settings["contracts"]
        for key in ("source_modules", "forbidden_modules", "modules")
        if any(module.startswith("vcorr_") for module in contract.get(key, ()))
    ]
    assert lists == [names] * 3
