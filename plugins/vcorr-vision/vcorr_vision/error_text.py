"""Says errors of other libraries in one line of a message."""

from __future__ import annotations

LONGEST = 300
"""Characters of an error that a message repeats: transformers may list hundreds of names."""


def in_one_line(error: BaseException) -> str:
    """Returns the text of an error without line breaks, cut off after `LONGEST` characters; its type if it has none."""
    return (" ".join(str(error).split()) or type(error).__name__)[:LONGEST]
