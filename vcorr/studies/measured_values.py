"""Keeps what a study measured outside its runs, so that repeating the command does not measure it again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vcorr.store.atomic_files import write_text

FILE = "measured.json"


class MeasuredValues:
    """Plain values in `measured.json` in the folder of a study, by kind and key.

    A file that cannot be read counts as empty: its values are measured again.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._values = _read(self._path)

    def fill(self, kind: str, key: str, measure: Callable[[], Any]) -> Any:
        """Returns a value; measures and stores it if it is not there.

        Raises:
            StoreError: the file cannot be written.
        """
        if key not in self._values.get(kind, {}):
            self.store(kind, key, measure())
        return self.get(kind, key)

    def get(self, kind: str, key: str, default: Any = None) -> Any:
        """Returns a value, or `default` if it is not there."""
        return self._values.get(kind, {}).get(key, default)

    def store(self, kind: str, key: str, value: Any) -> None:
        """Stores a value, in the place of an earlier one.

        Raises:
            StoreError: the file cannot be written.
        """
        self._values.setdefault(kind, {})[key] = value
        write_text(self._path, json.dumps(self._values, indent=1) + "\n")

    def extend(
        self, kind: str, key: str, names: Sequence[str], measure: Callable[[Sequence[str]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Returns one value per name, such as a clip; measures and stores those that are not there.

        Raises:
            StoreError: the file cannot be written.
        """
        found = self.get(kind, key)
        known = found if isinstance(found, dict) else {}
        if missing := [name for name in names if name not in known]:
            known = {**known, **measure(missing)}
            self.store(kind, key, known)
        return {name: known[name] for name in names}


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    is_plain = isinstance(found, dict) and all(isinstance(part, dict) for part in found.values())
    return found if is_plain else {}
