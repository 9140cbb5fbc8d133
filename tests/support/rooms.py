"""The rooms of the core and their order, as pyproject.toml has them for import-linter."""

from __future__ import annotations

import tomllib

from support.pages import ROOT, read


def rooms_in_layers() -> list[list[str]]:
    """Returns the rooms of each layer, from the top."""
    contracts = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    return [layer.split(" | ") for layer in layers]
