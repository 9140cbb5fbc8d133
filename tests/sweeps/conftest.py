"""The program in this process, on plugins whose answers are known, and files of sweeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.program import Ended, vcorr

__all__ = ["vcorr"]


@pytest.fixture
def sweep(vcorr: Callable[..., Ended], tmp_path: Path) -> Callable[..., Ended]:
    """Writes `sweep.yaml` and runs the command on it."""

    def run(text: str, *flags: str) -> Ended:
        (tmp_path / "sweep.yaml").write_text(text)
        return vcorr("sweep", "sweep.yaml", *flags)

    return run
