"""Gives Arrow tables as frames of pandas or polars. Both are imported only if they are asked for."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from vcorr.contract.errors import MissingError, unknown_name

FrameKind: TypeAlias = Literal["arrow", "pandas", "polars"]
KINDS: tuple[FrameKind, ...] = ("arrow", "pandas", "polars")


def check_kind(kind: str) -> None:
    """Checks that frames of this kind can be made, before anything is read.

    Raises:
        UsageError: there is no such kind.
        MissingError: the package is not installed.
    """
    if kind not in KINDS:
        raise unknown_name("kind of frame", kind, KINDS)
    if kind != "arrow":
        _import(kind)


def to_frame(table: pa.Table, kind: FrameKind) -> Any:
    """Returns a table as it is, as a pandas.DataFrame or as a polars.DataFrame.

    Texts that are dictionaries become categories. pandas has no numbers with missing values: such columns become floats
    with NaN, or objects with None.

    Raises:
        UsageError, MissingError: as `check_kind`.
    """
    check_kind(kind)
    if kind == "pandas":
        return table.to_pandas(split_blocks=True)
    return _import(kind).from_arrow(table) if kind == "polars" else table


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = f"A frame of {name} needs the package {name}: {error}"
        raise MissingError(message, hint=f"pip install {name}") from error
