"""Defines the types of the options that name a folder, for results of runs and for anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vcorr.contract.errors import UsageError


class _Folder(click.Path):
    """A path that is not empty: Python reads an empty path as the working folder, which nobody asked for."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str):
            name = param.human_readable_name if isinstance(param, click.Argument) else param.opts[0] if param else ""
            value = self.read(value, name or "The folder")
        return super().convert(value, param, ctx)

    def read(self, text: str, name: str) -> str | Path:
        """Returns what a text means. name: of the option, for messages."""
        from vcorr.store.remote.addresses import is_url

        if not text.strip():
            raise UsageError(f"{name} is empty.", hint="Name a folder, or '.' for this one.")
        if is_url(text):
            raise UsageError(
                f"{name} is a URL, and this command writes to a folder of this machine.",
                hint="Results of runs can have a URL: vcorr run --out s3://bucket/runs",
            )
        return text


class _Results(_Folder):
    """A run or a folder of runs, as a path or a URL. The value is a folder, which may stand for a URL."""

    def read(self, text: str, name: str) -> str | Path:
        """Returns the folder. Raises what a URL raises whose package is missing, before anything is computed."""
        from vcorr.store.remote.addresses import folder_of, is_url

        if not is_url(text):
            return super().read(text, name)
        folder = folder_of(text)
        if not text.startswith(("file:", "local:")):
            from vcorr.store.remote.filesystems import check_protocol

            check_protocol(text)
        return folder


FOLDER = _Folder(path_type=Path)
RESULTS = _Results(path_type=Path)
