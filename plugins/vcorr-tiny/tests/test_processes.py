"""Tests the embedded model in several processes: every file is the same as from one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from vcorr.plugins.registry import installed
from vcorr.runner.coordinator import execute
from vcorr.runner.plan import make_plan
from vcorr.runner.spec import RunSpec
from vcorr.store.rundir import TABLES


def read_files(out: Path, workers: int) -> dict[str, bytes]:
    spec = RunSpec(model="tiny", probe="qk", layers="8", steps="30", limit=2, device="cpu", workers=workers)
    run = execute(make_plan(spec, installed()), out).run
    paths = [path for table in TABLES for path in (run.path / table).iterdir()]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in paths}


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(tmp_path) -> None:
    alone = read_files(tmp_path / "one", 1)
    assert len(alone) == 2 * len(TABLES)
    assert read_files(tmp_path / "two", 2) == alone
