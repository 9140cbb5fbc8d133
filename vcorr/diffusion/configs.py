"""Sizes as data: the configurations of a pipeline's components, from files, without importing torch or diffusers.

A plugin has a folder for each model, `configs/NAME`, with the released `config.json` of each component under the
component's name (`transformer.json`, `vae.json`, `scheduler.json`), and the pipeline's own values, which the hub keeps
in `model_index.json`, in `pipeline.json`. `small` beside them, or one folder further up for a whole family, holds what
is different at the size for checks: files of the same names with the keys that change, and `video.json` with height,
width and frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from vcorr.errors import PluginError

Size = Literal["released", "small"]
Configs = Mapping[str, Mapping[str, Any]]
"""By component of the pipeline, its configuration by diffusers' names."""

PIPELINE, VIDEO = "pipeline", "video"
"""What is no component: values of the pipeline's own, and the size of the video."""
_SMALL, _INDEX = "small", "model_index.json"
_IN_FOLDER = ("config.json", "scheduler_config.json")


@cache
def packaged_configs(reference: str, size: Size = "released") -> Configs:
    """The configurations in a folder of a package, or in a pipeline that is packaged whole.

    Args:
        reference: "package:path/to/folder".
        size: "small" for the size for checks.

    Raises:
        PluginError: there is no such folder, or a file in it is not a JSON mapping.
    """
    package, _, path = reference.partition(":")
    try:
        folder = resources.files(package).joinpath(path)
    except ImportError as error:
        raise PluginError(f"The configurations {reference!r} cannot be read: {error}.") from error
    if folder.joinpath(_INDEX).is_file():
        return folder_configs(Path(str(folder)))
    found = dict(_files(Path(str(folder))))
    if not found:
        raise PluginError(f"The configurations {reference!r} cannot be read: the folder has no JSON file.")
    if size == "released":
        return found
    for small in (Path(str(folder)).parent / _SMALL, Path(str(folder)) / _SMALL):
        for name, changes in _files(small):
            found[name] = {**found.get(name, {}), **changes}
    return found


def folder_configs(folder: Path) -> Configs:
    """The configurations in a pipeline's folder as diffusers saves it, and the pipeline's own values.

    Raises:
        PluginError: a file in it is not a JSON mapping.
    """
    found = {path.parent.name: _mapping(path) for name in _IN_FOLDER for path in folder.glob(f"*/{name}")}
    index = folder / _INDEX
    values = _mapping(index) if index.is_file() else {}
    own = {name: value for name, value in values.items() if not (name.startswith("_") or isinstance(value, list))}
    return {**found, PIPELINE: own}


def pipeline_configs(pipe: Any) -> Configs:
    """The configurations of the components of a loaded pipeline, and the pipeline's own values."""
    found = {
        name: dict(component.config)
        for name, component in pipe.components.items()
        if isinstance(getattr(component, "config", None), Mapping)
    }
    own = {name: value for name, value in dict(pipe.config).items() if not isinstance(value, (list, tuple))}
    return {**found, PIPELINE: own}


def _files(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((path.stem, _mapping(path)) for path in sorted(folder.glob("*.json")))


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PluginError(f"{path} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise PluginError(f"{path} must hold the names and values of a configuration.")
    return found
