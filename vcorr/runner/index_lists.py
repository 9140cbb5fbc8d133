"""Reads the values of `--steps` and `--layers`: lists of indices and ranges, and words such as "all"."""

from __future__ import annotations

import re
import sys
from collections import Counter

from vcorr.contract.errors import UsageError

_DEFAULT_COUNT = 8
DEFAULT_STEPS = f"{_DEFAULT_COUNT}-spread"
"""The steps that are read without `--steps`; if there are fewer, `resolve_steps` returns all of them."""


def split_names(text: str) -> list[str]:
    """Returns the names in a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def resolve_steps(text: str | None, total: int) -> tuple[int, ...]:
    """Returns the steps that `--steps` names, out of `total`: in ascending order, each once.

    Args:
        text: indices and ranges such as "0,10-20", "all", "last" or "N-spread". None for the default: `DEFAULT_STEPS`,
            or all steps if there are fewer. Only the default adapts; an "N-spread" that the user typed does not.
        total: the number of steps.

    Raises:
        UsageError: the text has another form, or names a step that does not exist.
    """
    if text is None:
        return tuple(range(total)) if total < _DEFAULT_COUNT else _spread(_DEFAULT_COUNT, total)
    text = text.strip()
    if text == "last":
        return (total - 1,)
    if spread := re.fullmatch(r"([0-9]+)-spread", text):
        return _spread(_read_index(spread[1]), total)
    return _indices(text, total, "steps", f"'0,10-20', or 'all', 'last', '{DEFAULT_STEPS}'")


def resolve_layers(text: str, total: int) -> tuple[int, ...]:
    """Returns the layers that `--layers` names, out of `total`: in ascending order, each once.

    Args:
        text: "all", or indices and ranges such as "1,5-9".
        total: the number of layers.

    Raises:
        UsageError: the text has another form, or names a layer that does not exist.
    """
    return _indices(text.strip(), total, "layers", "'1,5-9', or 'all'")


def _indices(text: str, total: int, what: str, forms: str) -> tuple[int, ...]:
    if text == "all":
        return tuple(range(total))
    chosen: set[int] = set()
    for part in split_names(text):
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
        if not match:
            raise UsageError(
                f"--{what} {text!r} cannot be read at {part!r}.", hint=f"Write indices and ranges such as {forms}."
            )
        first, last = _read_index(match[1]), _read_index(match[2] or match[1])
        if first > last:
            raise UsageError(f"--{what} {part} runs backwards.", hint=f"Write {match[2]}-{match[1]}.")
        if last >= total:
            raise UsageError(f"--{what} {part} is out of range.", hint=_what_there_is(total, what))
        chosen.update(range(first, last + 1))
    if not chosen:
        raise UsageError(f"--{what} is empty.", hint="Leave it out for the default, or write 'all'.")
    return tuple(sorted(chosen))


def _read_index(digits: str) -> int:
    """Returns the number; `sys.maxsize` for more digits than any index has, because Python reads at most 4300."""
    return int(digits) if len(digits) < len(str(sys.maxsize)) else sys.maxsize


def _what_there_is(total: int, what: str) -> str:
    return f"There are {what} 0-{total - 1}." if total else f"There are no {what}."


def _spread(count: int, total: int) -> tuple[int, ...]:
    """Returns `count` steps, evenly spread from the first to the last of `total`; the last one if `count` is 1."""
    if not 1 <= count <= total:
        raise UsageError(
            f"--steps {count}-spread is out of range.",
            hint=f"There are {total} steps: write 'all', or N up to {total}.",
        )
    if count == 1:
        return (total - 1,)
    return tuple(round(i * (total - 1) / (count - 1)) for i in range(count))


def find_repeated(text: str) -> list[str]:
    """Returns the indices that a list such as "1,5-9,6" names more than once; none for words such as "all"."""
    counts: Counter[int] = Counter()
    for part in split_names(text):
        if match := re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part):
            counts.update(range(_read_index(match[1]), _read_index(match[2] or match[1]) + 1))
    return [str(index) for index, count in sorted(counts.items()) if count > 1]
