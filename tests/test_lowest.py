"""The lowest versions that users may have are the ones that `make lowest` runs."""

from __future__ import annotations

import tomllib

from packaging.requirements import Requirement
from packaging.version import Version
from support.pages import ROOT, read

PACKAGES = {"av", "opencv-python-headless", "pyarrow", "datasets", "pluggy", "omegaconf"}
"""Packages that are not pinned by what diffusers and torch need, and whose versions change what vcorr does."""


def list_pins(name: str) -> dict[str, Version]:
    """Returns the exact versions in a file of constraints, by package."""
    lines = [line for line in read(ROOT / name).splitlines() if line and not line.startswith("#")]
    return {package: Version(version) for package, version in (line.split("==") for line in lines)}


def list_bounds() -> dict[str, Version]:
    """Returns the lower bounds of pyproject.toml, by package."""
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    return {one.name: Version(s.version) for one in wanted for s in one.specifier if s.operator == ">="}


def test_the_lower_bounds_are_the_versions_that_are_run() -> None:
    bounds, pins = list_bounds(), list_pins("constraints-lowest.txt")
    assert pins == {name: bounds[name] for name in PACKAGES}


def test_the_usual_versions_are_not_below_them() -> None:
    usual = list_pins("constraints.txt")
    assert all(usual[name] >= version for name, version in list_pins("constraints-lowest.txt").items())


def test_ci_runs_them() -> None:
    targets = [line.split()[1:] for line in read(ROOT / ".ci" / "run").splitlines() if line.startswith("make ")]
    assert {"check", "test", "lowest"} <= {target for line in targets for target in line}
