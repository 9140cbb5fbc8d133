"""Reads `run.json`. What comes out has the form of `record_form`, so no reader has to check it again.

`read_values` reads the record of a dataset folder too.
"""

from __future__ import annotations

import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vcorr.contract.errors import StoreError, first_line
from vcorr.store.json_text import read_json
from vcorr.store.record_form import find_problem
from vcorr.store.upgrades import RECORD_VERSION, upgrade_record

MOST_BYTES = 64 << 20
"""Size of the largest run.json that is read. Records of a hundred thousand clips have a tenth of it."""


class DamagedRecordError(StoreError):
    """A record of a run or dataset that is missing or cannot be used. It can be written again."""


def read_record(path: Path) -> dict[str, Any]:
    """Returns the values of a run.json, in the current layout.

    Raises:
        DamagedRecordError: the file is missing or damaged, or a key has a value that it cannot have. The message names
            file and key.
        StoreError: the file may not be read, or was written by a newer vcorr.
    """
    values = read_values(path)
    if not isinstance(values, dict) or not values:
        raise DamagedRecordError(f"{path} is not the record of a run.")
    version = values.get("record_version", 1)
    if isinstance(version, int) and version > RECORD_VERSION:
        raise StoreError(f"{path} was written by a newer vcorr.", hint="Upgrade: pip install --upgrade vcorr")
    if problem := find_problem(values):
        raise DamagedRecordError(f"{path}: {problem}.", hint="Correct it there. Or else: ")
    return upgrade_record(values)


def probe_names(record: Mapping[str, Any]) -> list[str]:
    """Returns the names of the probes of a run, as run.json says; none if it does not."""
    resolved = record.get("resolved")
    probes = resolved.get("probes") if isinstance(resolved, dict) else None
    return [str(probe["name"]) for probe in probes or [] if isinstance(probe, dict) and "name" in probe]


def read_values(path: Path) -> Any:
    """Returns the values of a JSON file of at most `MOST_BYTES`, in whatever form they are.

    Raises:
        DamagedRecordError: the file is missing, or is not JSON.
        StoreError: the file may not be read.
    """
    try:
        return read_json(_read_text(path))
    except FileNotFoundError as error:
        raise DamagedRecordError(f"{path.parent} has no {path.name}.") from error
    except PermissionError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror}.", hint=f"Allow it: chmod u+r {shlex.quote(str(path))}"
        ) from error
    except (OSError, ValueError) as error:
        raise DamagedRecordError(f"{path} is damaged and cannot be read: {first_line(error)}.") from error


def _read_text(path: Path) -> str:
    """Returns the text of an ordinary file of at most `MOST_BYTES`; a pipe would not end."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is no ordinary file")
    if found.st_size > MOST_BYTES:
        raise ValueError(f"it has {found.st_size >> 20} MiB, and no record has more than {MOST_BYTES >> 20}")
    return path.read_text(encoding="utf-8")
