"""Keeps what was computed about two tensors, so that all who read them compute it once. It imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Result = TypeVar("Result")


class SharedSums:
    """Sums of exponentials, and other results, of one left and one right tensor, which do not change meanwhile.

    A capture keeps one for each pair of its tensors. So two probes that read the same pair share their sums, and the
    sums are freed with the capture.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[Hashable, int], tuple[object, Any]] = {}

    def once(self, what: Hashable, compute: Callable[[], Result], of: object = None) -> Result:
        """Returns what `compute` returns; it is called the first time alone.

        what: says what is computed, with everything it depends on. of: an object that it depends on as well, such as
        the query tokens; the same object means the same result.
        """
        key = (what, id(of))
        if key not in self._found:
            self._found[key] = (of, compute())  # an id is unique only while its object lives
        result: Result = self._found[key][1]
        return result

    def of_heads(self, heads: tuple[int, ...]) -> SharedSums:
        """Returns what is shared about some heads of the two tensors."""
        return self.once(("heads", heads), SharedSums)
