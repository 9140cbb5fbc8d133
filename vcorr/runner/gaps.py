"""Keeps what a run lacks: a run ends at the first gap, a dry run collects all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from vcorr.contract.entries import DatasetEntry
from vcorr.contract.errors import MissingError, VcorrError
from vcorr.contract.records import Clip
from vcorr.runner.parts import Part

T = TypeVar("T")

GapKind = Literal["weights", "data", "image", "tracker", "device", "package", "executor"]
"""What may be missing."""


@dataclass(frozen=True)
class Gap:
    """One thing that is missing.

    kind: what it belongs to. message: what it is. hint: the command or option that helps; may be empty.
    """

    kind: GapKind
    message: str
    hint: str


class Gaps:
    """Collects gaps, or raises at the first one.

    Args:
        collect: True for a dry run, which needs neither weights nor data.
    """

    def __init__(self, *, collect: bool = False) -> None:
        self._collect = collect
        self._found: list[Gap] = []

    @property
    def found(self) -> tuple[Gap, ...]:
        """The gaps so far, in the order in which they were found."""
        return tuple(self._found)

    def lack(self, kind: GapKind) -> bool:
        """Returns whether something of this kind is missing."""
        return any(gap.kind == kind for gap in self._found)

    def fill(self, kind: GapKind, make: Callable[[], T], instead: T) -> T:
        """Returns what `make` returns; `instead`, and keeps the gap, if something is missing and gaps are collected.

        Raises:
            MissingError: something is missing and gaps are not collected.
        """
        try:
            return make()
        except MissingError as error:
            self.add(kind, error)
            return instead

    def add(self, kind: GapKind, error: VcorrError) -> None:
        """Keeps what an error says as a gap, once; raises the error if gaps are not collected."""
        if not self._collect:
            raise error
        gap = Gap(kind, error.message, error.hint)
        if gap not in self._found:
            self._found.append(gap)


class AbsentData:
    """Stands for a dataset that is not in reach: it has no clips, and its split has no name."""

    split = ""

    def ids(self) -> Sequence[str]:
        """Returns no ids: how many clips there are is not known."""
        return ()

    def clip(self, clip_id: str) -> Clip:
        """Raises MissingError: there is no clip."""
        raise MissingError(f"Clip {clip_id} is not in reach.")


ABSENT_DATA = Part(DatasetEntry(name="absent", summary="", factory=f"{__name__}:AbsentData"), "vcorr", None)
"""The part of such a dataset."""
