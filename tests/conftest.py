"""Fixtures every test may use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from support import sliding
from support.garbage import lasting_objects
from support.interrupts import take_interrupts
from support.processes import PATIENCE, end_process, start_process
from support.scale import load_profile

from vcorr.plugins import builtin, registry
from vcorr.store.home import HOME_VARIABLE

# before anything imports torch: on a busy machine its spinning threads slow the tests tenfold
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# before anything imports Triton: without a GPU, its interpreter runs the kernels
os.environ["TRITON_INTERPRET"] = "1"


load_profile()
take_interrupts()
__all__ = ["lasting_objects"]

# what a terminal says of its width and colours is not for the tests; those that need it set it
for _name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"):
    os.environ.pop(_name, None)


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Callable[..., registry.Registry]:
    """Replaces the installed plugins by the built-ins, the test plugin and the modules given; returns the registry."""

    def use(*modules: object) -> registry.Registry:
        sources = [registry.PluginSource(registry.BUILTIN, "vcorr", "0", lambda: builtin)]
        sources += [
            registry.PluginSource(m.__name__, m.__name__, "1", lambda m=m: m)  # type: ignore[misc]
            for m in (sliding, *modules)
        ]
        made = registry.Registry(sources)
        monkeypatch.setattr(registry, "installed", lambda: made)
        return made

    return use


@pytest.fixture
def vcorr_program(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the program in a process of its own, in a folder of its own; returns what it printed and its exit code."""

    def run(
        *arguments: str, path: Path | None = None, program: Sequence[str] = ("-m", "vcorr"), **options: object
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *program, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=options.pop("cwd", tmp_path),
            env=process_environment(path),
            timeout=PATIENCE,
            **options,  # type: ignore[call-overload]
        )

    return run


@pytest.fixture
def start_program() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts programs next to the test, with `support.processes.start_process`; none of them outlives the test."""
    started: list[subprocess.Popen[str]] = []

    def start(words: Sequence[str], **options: object) -> subprocess.Popen[str]:
        started.append(start_process(words, **{"env": process_environment(), **options}))
        return started[-1]

    yield start
    for process in started:
        end_process(process)


def process_environment(path: Path | None = None) -> dict[str, str]:
    """The environment of a program under test; `path` is searched for modules and distributions first."""
    kept = {HOME_VARIABLE}  # set for every test: what the developer has imported is not there
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VCORR_") or k in kept}
    environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), environment.get("PYTHONPATH", "")])
    return environment


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reaches a hub or sees what is imported here, and none changes the environment of the next.

    A command line that runs inside the test asks libraries to be quiet, by environment variables.
    """
    before = dict(os.environ)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path_factory.getbasetemp() / "home-of-nobody"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv(registry.SELECT_VARIABLE, raising=False)
    yield
    os.environ.update(before)
    for name in set(os.environ) - set(before):
        del os.environ[name]
    registry.installed.cache_clear() if hasattr(registry.installed, "cache_clear") else None
