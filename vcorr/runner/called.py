"""What the objects share through which the runner calls into a model, a dataset and a tracker.

Such an object has the members of its protocol. It makes every call inside `PartName.calling`, checks what comes back,
and restores what the part changed for the whole process. So the rest of the runner needs no `try` around a part.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vcorr.contract.errors import PluginError, VcorrError
from vcorr.contract.part_calls import PartName, show_value
from vcorr.plugins.process_state import keep_settings
from vcorr.runner.parts import Part
from vcorr.store.fingerprint import plain


class CalledPart:
    """A part with the object that its factory made.

    Raises:
        PluginError: the factory raises, or makes an object without the members of its kind.
    """

    def __init__(self, part: Part) -> None:
        self.name = part.name
        self._changes = Changes()
        with self._changes.watch():
            self.made = part.create()

    def take_notes(self) -> list[str]:
        """Returns a note on the settings of the process that the part has changed; see `Changes.take_notes`."""
        return self._changes.take_notes([self.name])

    @contextlib.contextmanager
    def _calling(self, step: str) -> Iterator[None]:
        """Calls into the part, and watches the settings of the process."""
        with self._changes.watch(), self.name.calling(step):
            yield


class Changes:
    """The settings of the process that parts have changed."""

    def __init__(self) -> None:
        self._new: dict[str, None] = {}
        self._said: set[str] = set()

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Sets back what the block changes for the whole process, and remembers it."""
        changed: list[str] = []
        try:
            with keep_settings() as changed:
                yield
        finally:
            self._new.update((name, None) for name in changed if name not in self._said)

    def take_notes(self, suspects: Iterable[PartName]) -> list[str]:
        """Returns one sentence about the changes that no earlier call named; none if there are none.

        suspects: the parts that may have made them. Parts of vcorr itself are named only if there are no others.
        """
        new, self._new = list(self._new), {}
        self._said.update(new)
        if not new:
            return []
        parts = list(dict.fromkeys(suspects))
        who = " or ".join(str(part) for part in [part for part in parts if not part.is_own] or parts)
        return [f"{who} changed {' and '.join(new)} for the whole process; vcorr has set that back."]


def plain_identity(found: Any, where: str) -> dict[str, Any]:
    """Returns what a part's `identity` gave, as plain values.

    Raises:
        PluginError: it is no mapping of plain values.
    """
    if not isinstance(found, Mapping):
        raise PluginError(f"{where}: identity() must return a mapping, got {show_value(found)}.")
    try:
        return dict(plain(found))
    except VcorrError as error:
        raise PluginError(f"{where}: identity() must return plain values. {error.message}", hint=error.hint) from error


def whole_number(value: Any, name: str) -> int:
    """Returns a member that must be a whole number of at least 0; numpy's whole numbers count too.

    Raises:
        PluginError: it is something else. name: of the member.
    """
    is_whole = not isinstance(value, bool) and hasattr(type(value), "__index__")
    if not is_whole or int(value) < 0:
        raise PluginError(f"{name} must be a whole number of at least 0, got {show_value(value)}.")
    return int(value)
