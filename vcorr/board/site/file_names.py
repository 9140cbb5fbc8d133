"""Makes file names from names that plugins and tables give."""

from __future__ import annotations

import hashlib
import re

_UNSAFE = re.compile(r"[^a-z0-9._-]+")
_LONGEST = 80


def slug(name: str) -> str:
    """Returns a file name without ending for any text; different texts give different names.

    Text that is already a safe lowercase name stays as it is. Any other text is made safe and gets a short hash.
    """
    plain = _UNSAFE.sub("-", name.lower()).strip("-.")[:_LONGEST]
    if plain and plain == name:
        return plain
    return f"{plain or 'unnamed'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
