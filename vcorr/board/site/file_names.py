"""File names for names that come from plugins and tables."""

from __future__ import annotations

import hashlib
import re

_UNSAFE = re.compile(r"[^a-z0-9._-]+")
_LONGEST = 80


def slug(name: str) -> str:
    """A file name (without ending) for any text: the text itself where it is a plain name, else that and a short hash.

    Different texts give different names.
    """
    plain = _UNSAFE.sub("-", name.lower()).strip("-.")[:_LONGEST]
    if plain and plain == name:
        return plain
    return f"{plain or 'unnamed'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
