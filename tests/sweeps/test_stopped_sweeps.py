"""A sweep that is stopped after its first run: what is kept, and the same command goes on."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from conftest import process_environment
from support import sliding
from support.distributions import install
from support.processes import PATIENCE, read_marker

from vcorr.store.rundir import find_runs

CLIPS = 3
TEXT = """
model: sliding-model
probe: qk
steps: last
seed: [1, 2]
set: {data.clips: 3, model.marker: marker}
"""


def read_clips(process, marker: Path, count: int) -> None:
    """Waits until that many more clips have begun; each waits until somebody reads its name from the fifo."""
    seen = 0
    while seen < count:
        seen += len(read_marker(process, marker).split())


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGKILL, -9), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_stopped_sweep_goes_on_from_there(tmp_path, vcorr_program, start_program, signum, code) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    install(packages, "vcorr-sliding", Path(sliding.__file__).read_text())
    (tmp_path / "sweep.yaml").write_text(TEXT)
    marker = tmp_path / "marker"
    os.mkfifo(marker)
    words = [sys.executable, "-m", "vcorr", "sweep", "sweep.yaml"]
    process = start_program(words, cwd=tmp_path, env=process_environment(packages))
    read_clips(process, marker, CLIPS + 1)  # the first run has ended
    process.send_signal(signum)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, err
    kept = {path for run in find_runs(tmp_path / "runs") for path in (run.path / "predictions").glob("*.arrow")}
    assert CLIPS <= len(kept) < 2 * CLIPS
    if code == 130:
        said = " ".join(err.split())
        assert "Interrupted. 1 of 2 runs have ended; their results are kept in runs." in said
        assert "The same command goes on from there." in said
    before = {path: path.stat().st_mtime_ns for path in kept}

    marker.unlink()
    marker.touch()
    resumed = vcorr_program("sweep", "sweep.yaml", path=packages)
    assert resumed.returncode == 0, resumed.stderr
    assert "2 of 2 runs complete" in resumed.stdout
    assert len(marker.read_text().split()) == 2 * CLIPS - len(kept)
    assert {path: path.stat().st_mtime_ns for path in kept} == before
