"""Reads and writes lists of indices and ranges, such as "0,10-20" or "all"."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from vcorr.contract.errors import UsageError


def split_names(text: str) -> list[str]:
    """Returns the names in a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def read_indices(text: str, total: int, what: str, forms: str, flag: str) -> tuple[int, ...]:
    """Returns the indices that a text names, out of `total`: in ascending order, each once.

    Args:
        text: "all", or indices and ranges such as "1,5-9".
        total: how many there are.
        what: their name in messages, such as "layers".
        forms: the forms that a text can have, for the hint.
        flag: what the user typed before the text, such as "--layers".

    Raises:
        UsageError: the text has another form, or names an index that does not exist.
    """
    if text == "all":
        return tuple(range(total))
    chosen: set[int] = set()
    for part in split_names(text):
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
        if not match:
            raise UsageError(
                f"{flag} {text!r} cannot be read at {part!r}.", hint=f"Write indices and ranges such as {forms}."
            )
        first, last = read_index(match[1]), read_index(match[2] or match[1])
        if first > last:
            raise UsageError(f"{flag} {part} runs backwards.", hint=f"Write {match[2]}-{match[1]}.")
        if last >= total:
            raise UsageError(f"{flag} {part} is out of range.", hint=_what_there_is(total, what))
        chosen.update(range(first, last + 1))
    if not chosen:
        raise UsageError(f"{flag} is empty.", hint="Leave it out for the default, or write 'all'.")
    return tuple(sorted(chosen))


def read_index(digits: str) -> int:
    """Returns the number; `sys.maxsize` for more digits than any index has, because Python reads at most 4300."""
    return int(digits) if len(digits) < len(str(sys.maxsize)) else sys.maxsize


def _what_there_is(total: int, what: str) -> str:
    return f"There are {what} 0-{total - 1}." if total else f"There are no {what}."


def say_ranges(numbers: Sequence[int]) -> str:
    """Returns ascending numbers as text, with ranges for neighbours: "0,5-9" for 0, 5, 6, 7, 8 and 9."""
    parts: list[list[int]] = []
    for n in numbers:
        if parts and parts[-1][-1] == n - 1:
            parts[-1].append(n)
        else:
            parts.append([n])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)
