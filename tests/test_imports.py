"""No package imports itself in a circle: every module can be read, and moved, after those it stands on."""

import ast
import graphlib
from pathlib import Path

import pytest

import vcorr

CORE = Path(vcorr.__file__).parent
PLUGINS = sorted((Path(__file__).parents[1] / "plugins").glob("*/vcorr_*"))


def modules(package):
    """The files of a package by the names of their modules."""
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(package):
    """For each module the modules of its package that it imports: inside functions and for the type checker as well."""
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
