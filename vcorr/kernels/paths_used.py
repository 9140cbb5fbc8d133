"""Remembers which path matched tokens in this process: fused kernels, plain torch, or both. It imports no torch."""

from __future__ import annotations

from typing import Literal

Path = Literal["fused", "plain"]

_used: set[Path] = set()


def note_path(path: Path) -> None:
    """Notes that a path has computed something that both paths could compute."""
    _used.add(path)


def paths_used() -> frozenset[Path]:
    """Returns the paths that computed something since `forget_paths`, or since the process began."""
    return frozenset(_used)


def forget_paths() -> None:
    """Begins anew, before a model computes."""
    _used.clear()
