"""Finds imported datasets by names such as `difftrack:MODEL/SET` or `tapvid-davis`.

They are in `datasets/KIND/...` of the home folder of vcorr (`vcorr.store.home`), one dataset folder per set.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from vcorr.contract.errors import MissingError, UsageError, unknown_name
from vcorr.contract.text_files import expand_home
from vcorr.data.tapvid_sets import DATASETS as TAPVID_DATASETS
from vcorr.data.tapvid_sets import KIND as TAPVID
from vcorr.store.home import home_folder

RECORD = "dataset.json"
"""The file in a dataset folder that records how the dataset was made."""

IMPORTS = {
    "difftrack": "Get it:     git clone https://github.com/cvlab-kaist/DiffTrack\n"
    "Import it:  vcorr dataset import difftrack DiffTrack/dataset"
}
"""How to get what can be imported, by the name before the colon."""


def imports_folder(kind: str) -> Path:
    """Returns the folder that holds the imported sets of a kind."""
    return home_folder() / "datasets" / kind


def list_imported_sets(kind: str) -> list[str]:
    """Returns the part after the colon for every imported set of a kind, sorted."""
    root = imports_folder(kind)
    return sorted(path.parent.relative_to(root).as_posix() for path in root.glob(f"*/*/{RECORD}"))


def list_imported_names() -> list[str]:
    """Returns the names of all imported sets."""
    tapvid = [name for name in TAPVID_DATASETS if (_tapvid_folder(name) / RECORD).is_file()]
    return [f"{kind}:{name}" for kind in IMPORTS for name in list_imported_sets(kind)] + tapvid


def explain_import(dataset: str) -> str:
    """Returns how to get and import a set of TAP-Vid, by the name of its dataset."""
    source = TAPVID_DATASETS[dataset]
    return (
        f"Get it:     {source.files}, as https://github.com/google-deepmind/tapnet/tree/main/tapnet/tapvid says\n"
        f"Import it:  vcorr dataset import {TAPVID} PATH --name {source.name}"
    )


def _tapvid_folder(dataset: str) -> Path:
    return imports_folder(TAPVID) / TAPVID_DATASETS[dataset].name


def find_imported_folder(kind: str, name: str) -> Path:
    """Returns the folder of an imported set.

    Raises:
        UsageError: no set was named, or the named set is not imported.
        MissingError: no set of this kind is imported.
    """
    known = list_imported_sets(kind)
    if not known:
        raise MissingError(f"The dataset {kind}:{name} is not imported.", hint=IMPORTS[kind])
    if not name:
        raise UsageError(f"--data {kind} names no set.", hint=f"Imported: {', '.join(f'{kind}:{n}' for n in known)}")
    if name not in known:
        raise unknown_name(f"set of {kind}", name, known, hint=f"Imported: {', '.join(known)}.\n{IMPORTS[kind]}")
    return imports_folder(kind) / name


def split_name(text: str, kinds: Collection[str]) -> tuple[str, str] | None:
    """Splits "KIND:NAME" at its first colon; returns None if the first part is none of `kinds`."""
    kind, colon, name = text.partition(":")
    return (kind, name) if colon and kind in kinds else None


def is_within_reach(data: str) -> bool:
    """Returns whether a default dataset can be used: imported sets after their import, all others always."""
    imported = split_name(data, IMPORTS)
    return imported is None or imported[1] in list_imported_sets(imported[0])


def find_folder(text: str) -> Path:
    """Returns the dataset folder that a path, or the name of an imported set, stands for.

    Raises:
        MissingError, UsageError: there is none.
    """
    if imported := split_name(text, IMPORTS):
        return find_imported_folder(*imported)
    if text in TAPVID_DATASETS:
        if not (_tapvid_folder(text) / RECORD).is_file():
            raise MissingError(f"The dataset {text} is not imported.", hint=explain_import(text))
        return _tapvid_folder(text)
    path = expand_home(text)
    if not path.is_dir():
        known = list_imported_names()
        hint = f"Imported: {', '.join(known)}." if known else "Nothing is imported yet: vcorr dataset import --help"
        hint += "\nDatasets of plugins are not folders: vcorr show dataset NAME"
        raise MissingError(f"{text} is neither a folder nor the name of an imported dataset.", hint=hint)
    return path
