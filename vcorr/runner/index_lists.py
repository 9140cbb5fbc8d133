"""Reads the values of `--steps` and `--layers`: lists of indices and ranges, and words such as "all"."""

from __future__ import annotations

import re
from collections import Counter

from vcorr.contract.errors import UsageError
from vcorr.contract.index_text import read_index, read_indices, split_names

_DEFAULT_COUNT = 8
DEFAULT_STEPS = f"{_DEFAULT_COUNT}-spread"
"""The steps that are read without `--steps`; if there are fewer, `resolve_steps` returns all of them."""


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
        return _spread(read_index(spread[1]), total)
    forms = f"'0,10-20', or 'all', 'last', '{DEFAULT_STEPS}'"
    return read_indices(text, total, "steps", forms, "--steps")


def resolve_layers(text: str, total: int) -> tuple[int, ...]:
    """Returns the layers that `--layers` names, out of `total`: in ascending order, each once.

    Args:
        text: "all", or indices and ranges such as "1,5-9".
        total: the number of layers.

    Raises:
        UsageError: the text has another form, or names a layer that does not exist.
    """
    return read_indices(text.strip(), total, "layers", "'1,5-9', or 'all'", "--layers")


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
            counts.update(range(read_index(match[1]), read_index(match[2] or match[1]) + 1))
    return [str(index) for index, count in sorted(counts.items()) if count > 1]
