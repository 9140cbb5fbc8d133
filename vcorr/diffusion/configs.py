"""Reads the configurations of a pipeline's components from files, without importing torch or diffusers.

A plugin has a folder for each model, `configs/NAME`. It holds the released `config.json` of each component under the
component's name (`transformer.json`, `vae.json`, `scheduler.json`). `pipeline.json` holds the pipeline's own values,
which the hub keeps in `model_index.json`. A folder `small` in it, or next to it for a whole family, holds the changes
for the small size: files with the same names and the changed keys, and `video.json` with height, width and frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from vcorr.contract.errors import PluginError, did_you_mean
from vcorr.store.json_text import read_json

Size = Literal["released", "small"]
Configs = Mapping[str, Mapping[str, Any]]
"""The configuration of each component of the pipeline, by diffusers' names."""

PIPELINE, VIDEO = "pipeline", "video"
"""Entries that are not components: the pipeline's own values, and the size of the video."""
_SIZES = ("height", "width", "frames")
_SMALL, _INDEX = "small", "model_index.json"
_IN_FOLDER = ("config.json", "scheduler_config.json")


@cache
def packaged_configs(reference: str, size: Size = "released") -> Configs:
    """Reads the configurations in a folder of a package, or in a whole pipeline folder that a package holds.

    Args:
        reference: "package:path/to/folder".
        size: "small" for the size that checks use.

    Raises:
        PluginError: the folder does not exist, a file in it is not a JSON mapping, or `video.json` holds something
            else than sizes. For the small size also if it has no files, or a file that changes no released one.
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
    return _apply_small(found, Path(str(folder)))


def _apply_small(released: Configs, folder: Path) -> Configs:
    """Returns the released configurations with the changes of the family's folder `small`, then of the model's own."""
    family, own = (dict(_files(small)) for small in (folder.parent / _SMALL, folder / _SMALL))
    if not (family or own):
        raise PluginError(
            f"The model of {folder} has no small size.", hint=f"Add {folder / _SMALL} with files of the changed values."
        )
    for name in own.keys() - released.keys() - family.keys() - {VIDEO, PIPELINE}:
        raise PluginError(
            f"{folder / _SMALL / name}.json changes nothing: there is no {name}.json one folder further up."
            f"{did_you_mean(name, released)}",
            hint="Give it the name of the file that it changes, or add the released file.",
        )
    names = dict.fromkeys([*released, *family, *own])
    return {name: {**released.get(name, {}), **family.get(name, {}), **own.get(name, {})} for name in names}


def folder_configs(folder: Path) -> Configs:
    """Reads the configurations and the pipeline's own values from a folder that diffusers saved.

    Raises:
        PluginError: a file in it is not a JSON mapping.
    """
    found = {path.parent.name: _mapping(path) for name in _IN_FOLDER for path in folder.glob(f"*/{name}")}
    index = folder / _INDEX
    values = _mapping(index) if index.is_file() else {}
    own = {name: value for name, value in values.items() if not (name.startswith("_") or isinstance(value, list))}
    return {**found, PIPELINE: own}


def pipeline_configs(pipe: Any) -> Configs:
    """Returns the configurations of the components of a loaded pipeline, and the pipeline's own values."""
    found = {
        name: dict(component.config)
        for name, component in pipe.components.items()
        if isinstance(getattr(component, "config", None), Mapping)
    }
    own = {name: value for name, value in dict(pipe.config).items() if not isinstance(value, (list, tuple))}
    return {**found, PIPELINE: own}


def _files(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for path in sorted(folder.glob("*.json")):
        found = _mapping(path)
        if path.stem == VIDEO:
            _expect_sizes(path, found)
        yield path.stem, found


def _expect_sizes(path: Path, video: Mapping[str, Any]) -> None:
    for name, value in video.items():
        if name not in _SIZES:
            known = ", ".join(_SIZES)
            raise PluginError(f"{path} has {name!r}.{did_you_mean(name, _SIZES)}", hint=f"It holds {known}.")
        if type(value) is not int or value < 1:
            raise PluginError(f"{path}: {name} is {value!r}, not a whole number above 0.", hint="Correct it there.")


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        found = read_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PluginError(f"{path} cannot be read: {error}.") from error
    if not isinstance(found, dict):
        raise PluginError(f"{path} must hold the names and values of a configuration.")
    return found
