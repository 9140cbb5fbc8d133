"""Models of installed plugins at their small sizes, with random weights."""

from __future__ import annotations

from typing import Any

import vcorr


def load_small(name: str, **options: Any) -> Any:
    """Returns the adapter of a model, loaded at the sizes that `vcorr plugin check` uses, or with other options."""
    entry = next(found.entry for found in vcorr.installed().models.all() if found.entry.name == name)
    model = entry.create(entry.config_type()(**{**entry.check, **options}))
    model.load("cpu", "float32", "random")
    return model
