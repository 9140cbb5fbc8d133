"""Finds recipes: config files of runs that plugins contain, for `vcorr run --config NAME`.

A plugin's recipes are the files `configs/NAME.yaml` in the package of its entry point. They have the keys of any config
file (`vcorr.runner.spec`); the comment at their top says what they are for.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vcorr.contract.errors import unknown_name
from vcorr.contract.text_files import expand_home
from vcorr.plugins.registry import PluginSource, Registry, clash

FOLDER = "configs"
SUFFIXES = (".yaml", ".yml")
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")


@dataclass(frozen=True)
class Recipe:
    """A config file and the plugin that contains it."""

    name: str
    path: Path
    source: PluginSource

    @property
    def summary(self) -> str:
        """Comment at the top of the file, in one line."""
        lines: list[str] = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            if not line.startswith("#"):
                break
            lines.append(line.lstrip("# "))
        return " ".join(lines)


def recipes(registry: Registry) -> list[Recipe]:
    """Returns every recipe of the plugins that work, sorted by name; a name may occur more than once."""
    working = [report.source for report in registry.plugins if report.state in ("ok", "warning")]
    packages = {source.package: source for source in working if source.package}  # two entry points, one package
    found = [recipe for source in packages.values() for recipe in _of(source)]
    return sorted(found, key=lambda recipe: (recipe.name, recipe.source.label))


def find_recipe(name: str, registry: Registry) -> Recipe:
    """Returns the recipe with that name.

    Raises:
        UsageError: no plugin has it; the nearest name is suggested.
        PluginError: more than one plugin has it; all are named.
    """
    known = recipes(registry)
    claims = [recipe for recipe in known if recipe.name == name]
    if not claims:
        hint = f"Known configs: {_listing(known)}. For a file of your own, give its suffix: --config {name}.yaml"
        raise unknown_name("config", name, {recipe.name for recipe in known}, hint=hint)
    if len(claims) > 1:
        raise clash(f"config name {name!r}", [claim.source for claim in claims])
    return claims[0]


def config_path(text: str, registry: Registry) -> Path:
    """Returns the file that `--config` means: a path, or the name of a recipe; raises as `find_recipe`."""
    path = expand_home(text)
    if path.is_file() or path.suffix in SUFFIXES or "/" in text or os.sep in text:
        return path
    return find_recipe(text, registry).path


def _of(source: PluginSource) -> Iterator[Recipe]:
    spec = importlib.util.find_spec(source.package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted((Path(folder) / FOLDER).glob("*.yaml")):
            if _NAME.fullmatch(path.stem):
                yield Recipe(path.stem, path, source)


def _listing(found: Iterable[Recipe]) -> str:
    return ", ".join(sorted({recipe.name for recipe in found})) or "none installed"
