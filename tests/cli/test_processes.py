"""The program as a process: killed, interrupted, resumed; and what it must not import."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import process_environment
from support import knowing, sliding
from support.distributions import install
from support.processes import PATIENCE, read_marker
from support.tables import same
from support.videos import write

from vcorr.store.lock import LOCK
from vcorr.store.rundir import find_runs

_LISTING = """
import sys
from vcorr.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code
print("LOADED", *sorted(name for name in sys.modules if "." not in name))
"""
LOADED = ("-c", _LISTING)
"""The program, which then says what it has imported."""
CLIPS = 12
"""Some more than begin until a run is stopped."""
RUN = ("run", "--model", "sliding-model", "--probe", "qk", "--steps", "last", "--set", f"data.clips={CLIPS}")


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A folder with the test plugin installed as a distribution."""
    folder = tmp_path / "packages"
    folder.mkdir()
    install(folder, "vcorr-sliding", Path(sliding.__file__).read_text())
    return folder


@pytest.fixture
def start(start_program, tmp_path: Path, packages: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a run whose clips wait, in turn, for somebody to read them from the fifo `marker`."""

    def run(marker: Path, command: Sequence[str] = RUN) -> subprocess.Popen[str]:
        os.mkfifo(marker)
        words = [sys.executable, "-m", "vcorr", *command, "--set", f"model.marker={marker}"]
        return start_program(words, cwd=tmp_path, env=process_environment(packages))

    return run


def tables_of(folder: Path) -> dict[str, pa.Table]:
    (found,) = find_runs(folder / "runs")
    return {name: found.read(name).drop(["run"]) for name in ("predictions", "tracks", "scores")}


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGKILL, -9), (signal.SIGINT, 130), pytest.param(signal.SIGTERM, 130, marks=pytest.mark.slow)],
)
def test_a_stopped_run_loses_the_clip_in_flight_and_resumes(
    tmp_path, packages, vcorr_program, start, signum, code
) -> None:
    marker = tmp_path / "marker"
    process = start(marker)
    for _ in range(3):  # waits until the next clip has begun
        begun = read_marker(process, marker).split()
    process.send_signal(signum)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, err
    (stopped,) = find_runs(tmp_path / "runs")
    assert (stopped.path / LOCK).exists() == (signum == signal.SIGKILL)
    kept = {p.stem for p in (stopped.path / "predictions").glob("*.arrow")}
    assert kept >= {"slide-0", "slide-1"}
    assert len(begun) >= 1
    assert len(kept) < CLIPS
    for table in ("predictions", "tracks", "scores"):
        stopped.read(table)
    if signum != signal.SIGKILL:
        said = f"Interrupted. {len(kept)} of {CLIPS} clips are finished and kept in runs/{stopped.run_id}. The same"
        assert said in " ".join(err.split())
        assert stopped.record()["status"] == "partial"

    marker.unlink()
    marker.touch()
    resumed = vcorr_program(*RUN, "--set", f"model.marker={marker}", "--json", path=packages)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["reused"] == len(kept)
    assert len(marker.read_text().split()) == CLIPS - len(kept)

    (tmp_path / "calm").mkdir()
    calm = vcorr_program(*RUN, "--set", f"model.marker={marker}", path=packages, cwd=tmp_path / "calm")
    assert calm.returncode == 0, calm.stderr
    assert not list(tmp_path.rglob(LOCK))
    undisturbed = tables_of(tmp_path / "calm")
    assert all(same(table, undisturbed[name]) for name, table in tables_of(tmp_path).items())


def read_all(process: subprocess.Popen[str], marker: Path, clips: int) -> None:
    """Lets that many more clips of a started run go on."""
    seen = 0
    while seen < clips:
        seen += len(read_marker(process, marker).split())


def test_a_second_writer_of_a_run_is_refused_and_the_first_ends_whole(tmp_path, packages, vcorr_program, start) -> None:
    command = (*RUN[:-1], "data.clips=4")
    marker = tmp_path / "marker"
    first = start(marker, command)
    begun = len(read_marker(first, marker).split())
    (run,) = find_runs(tmp_path / "runs")
    for second in ((*command, "--set", f"model.marker={marker}"), ("score", f"runs/{run.run_id}")):
        refused = vcorr_program(*second, path=packages)
        assert refused.returncode == 2, refused.stderr
        said = f"Error: runs/{run.run_id} is being written by process {first.pid} on host {socket.gethostname()} (since"
        assert said in " ".join(refused.stderr.split())
        assert "Wait until that process has ended" in refused.stderr
    assert run.record()["status"] == "started", "who reads needs no lock"
    read_all(first, marker, 4 - begun)
    _, err = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, err
    record = run.record()
    assert (record["status"], record["clips"]) == ("complete", {"total": 4, "done": 4, "failed": 0, "reused": 0})
    assert not list(tmp_path.rglob(LOCK))
    (tmp_path / "calm").mkdir()
    marker.unlink()
    calm = vcorr_program(*command, "--set", f"model.marker={marker}", path=packages, cwd=tmp_path / "calm")
    assert calm.returncode == 0, calm.stderr
    undisturbed = tables_of(tmp_path / "calm")
    assert all(same(table, undisturbed[name]) for name, table in tables_of(tmp_path).items())


def test_a_second_build_of_a_dataset_is_refused_and_the_first_ends_whole(
    tmp_path, packages, vcorr_program, start
) -> None:
    source = (
        Path(knowing.__file__).read_text().replace("from support import sliding", "import vcorr_sliding as sliding")
    )
    install(packages, "vcorr-knowing", source)
    (tmp_path / "prompts.txt").write_text("a picture\nanother picture\n")
    build = ("dataset", "build", "--model", "sliding-model", "--prompts", "prompts.txt", "--tracker", "knowing")
    command = (*build, "--out", "built")
    marker = tmp_path / "marker"
    first = start(marker, command)
    begun = len(read_marker(first, marker).split())
    refused = vcorr_program(*command, "--set", f"model.marker={marker}", path=packages)
    assert refused.returncode == 2, refused.stderr
    assert f"Error: built is being written by process {first.pid} on host" in " ".join(refused.stderr.split())
    read_all(first, marker, 2 - begun)
    _, err = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, err
    assert json.loads((tmp_path / "built" / "dataset.json").read_text())["status"] == "complete"
    assert len(list((tmp_path / "built" / "data").iterdir())) == 2
    assert not list(tmp_path.rglob(LOCK))


@pytest.mark.parametrize(
    ("arguments", "banned"),
    [
        (["--help"], {"torch", "numpy", "pyarrow", "rich", "yaml", "omegaconf", "pluggy"}),
        (["list"], {"torch", "diffusers", "transformers", "pyarrow", "cv2"}),
        (["show", "model", "token-patches"], {"torch", "diffusers"}),
    ],
)
def test_what_commands_do_not_import(packages, vcorr_program, arguments, banned) -> None:
    done = vcorr_program(*arguments, path=packages, program=LOADED)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split("LOADED")[-1].split())
    assert "click" in loaded
    assert not loaded & banned


def test_the_core_and_its_plugins_are_listed_without_numpy(vcorr_program) -> None:
    """Checks the imports without the plugin of the tests, which computes with numpy."""
    done = vcorr_program("list", "models", program=LOADED)
    assert done.returncode == 0, done.stderr
    listed, _, loaded = done.stdout.partition("LOADED")
    assert "tiny" in listed
    assert not {"numpy", "yaml", "omegaconf", "jsonschema", "cv2"} & set(loaded.split())


def test_a_finished_run_is_answered_without_the_packages_that_compute(tmp_path, packages, vcorr_program) -> None:
    command = ["run", "--model", "sliding-model", "--probe", "qk", "--limit", "1", "--steps", "last"]
    first = vcorr_program(*command, path=packages)
    assert first.returncode == 0, first.stderr
    again = vcorr_program(*command, path=packages, program=LOADED)
    assert again.returncode == 0, again.stderr
    said, _, loaded = again.stdout.partition("LOADED")
    assert "pyarrow" in loaded.split()
    assert not {"torch", "diffusers", "transformers"} & set(loaded.split())
    assert "1 of 1 clips, 1 reused in" in said
    assert said.splitlines()[:-2] == first.stdout.splitlines()[: len(said.splitlines()) - 2]


def test_a_broken_plugin_does_not_stop_the_program(tmp_path, packages, vcorr_program) -> None:
    install(packages, "vcorr-broken", "raise RuntimeError('no luck')")
    listed = vcorr_program("list", "plugins", "--json", path=packages)
    states = {p["distribution"]: (p["state"], p["reasons"]) for p in json.loads(listed.stdout)}
    assert states["vcorr-broken"] == ("broken", ["RuntimeError: no luck"])
    assert vcorr_program("run", *RUN[1:-1], "data.clips=1", path=packages).returncode == 0


def test_a_closed_pipe_is_not_an_error(packages) -> None:
    command = f"{sys.executable} -m vcorr list | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        env=process_environment(packages),
    )
    assert "Traceback" not in done.stderr


def test_python_m_vcorr_is_the_program(vcorr_program) -> None:
    done = vcorr_program("--version")
    assert done.stdout.startswith("vcorr, version ")


def test_data_of_the_users_own_is_checked_once_it_is_named(vcorr_program, tmp_path) -> None:
    ended = vcorr_program("plugin", "check", "dataset:video")
    assert ended.returncode == 4, ended.stdout
    assert "not checked: No video was named" in " ".join(ended.stdout.split())
    assert "FAIL" not in ended.stdout
    path = write(tmp_path / "a.mkv", np.zeros((5, 64, 64, 3), dtype=np.uint8))
    ended = vcorr_program("plugin", "check", "dataset:video", "--set", f"data.path={path}")
    assert ended.returncode == 0, ended.stdout
    assert "clips have the id that they are loaded by" in ended.stdout
