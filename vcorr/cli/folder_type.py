"""Defines the type of the options that name a folder to write to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vcorr.contract.errors import UsageError


class _Folder(click.Path):
    """A path that is not empty: Python reads an empty path as the working folder, which nobody asked for."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and not value.strip():
            name = param.opts[0] if param else "The folder"
            raise UsageError(f"{name} is empty.", hint="Name a folder, or '.' for this one.")
        return super().convert(value, param, ctx)


FOLDER = _Folder(path_type=Path)
