"""Reads JSON that people and other programs wrote."""

from __future__ import annotations

import json
from typing import Any


def read_json(text: str | bytes) -> Any:
    """Returns the values of a JSON document.

    Raises:
        ValueError: the text is not JSON, or has more brackets inside brackets than Python reads.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it has too many brackets inside brackets") from error
