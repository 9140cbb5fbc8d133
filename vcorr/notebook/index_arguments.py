"""Reads arguments that hold layers, heads or steps by their indices."""

from __future__ import annotations

from collections.abc import Collection
from numbers import Integral
from typing import Any

from vcorr.contract.errors import UsageError

NONE_FOR_ALL = "None for all"


def read_index_argument(
    caller: str, name: str, values: int | Collection[int], otherwise: str = NONE_FOR_ALL
) -> tuple[int, ...]:
    """Returns indices in the order in which they were given; one alone may be given without a list.

    Args:
        caller: the function that got the argument, as in "record()".
        name: of the argument.
        values: as given.
        otherwise: what may be given in place of indices, in words; "" for nothing.

    Raises:
        UsageError: it holds something else than whole numbers from 0, or nothing.
    """
    given: Any = (values,) if isinstance(values, Integral) else values
    several = isinstance(given, Collection) and not isinstance(given, (str, bytes))
    items = tuple(given) if several else (given,)
    wrong = [one for one in items if isinstance(one, bool) or not isinstance(one, Integral) or one < 0]
    if wrong or not items:
        what = f"got {wrong[0]!r}" if wrong else "got none"
        also = f", or {otherwise}" if otherwise else ""
        raise UsageError(f"{caller}: {name} must be indices counted from 0{also}; {what}.")
    return tuple(int(one) for one in items)
