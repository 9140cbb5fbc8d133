"""Runs tests in another order, and reports files that leave the process changed.

    python tests/support/shuffled.py 7 tests/cli plugins     files, and the tests of each file, in the order of seed 7
    python tests/support/shuffled.py alone tests/cli         each file in a process of its own

Whatever follows the first argument goes to pytest. A test that fails in one order alone depends on the tests before it.
The same seed gives the same order for the same tests.
"""

from __future__ import annotations

import locale
import logging
import os
import random
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ALONE = "alone"
_OF_OTHERS = ("PYTEST_", "TORCHINDUCTOR_", "_RJEM_")
"""Beginnings of environment variables that pytest, torch and polars set for themselves."""
NO_TESTS = 5
"""Exit code of pytest where no test was chosen."""


def shuffle_items(items: Sequence[Any], seed: int) -> list[Any]:
    """Returns the tests with their files in an order drawn from the seed, and the tests of each file in another."""
    draw = random.Random(seed)
    files: dict[Path, list[Any]] = {}
    for item in sorted(items, key=lambda item: item.nodeid):
        files.setdefault(item.path, []).append(item)
    order = list(files.values())
    draw.shuffle(order)
    for tests in order:
        draw.shuffle(tests)
    return [item for tests in order for item in tests]


def take_state() -> dict[str, object]:
    """Returns what the whole process shares and a test may have changed, by name."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_OF_OTHERS)}
    umask = os.umask(0)
    os.umask(umask)
    state: dict[str, object] = {f"environment variable {name}": value for name, value in own.items()}
    state |= {
        "working directory": os.getcwd(),
        "umask": oct(umask),
        "locale": locale.setlocale(locale.LC_ALL),
        "filters of warnings": tuple(map(str, warnings.filters)),
        "level of the root logger": logging.getLogger().level,
        "disabled logging": logging.root.manager.disable,
        "handler of Ctrl-C": signal.getsignal(signal.SIGINT),
        "handler of SIGTERM": signal.getsignal(signal.SIGTERM),
        "limit of recursion": sys.getrecursionlimit(),
        "search path of modules": tuple(sys.path),
        "standard output": id(sys.__stdout__),
        "hook of exceptions": sys.excepthook,
    }
    return state | _take_torch_state()


def _take_torch_state() -> dict[str, object]:
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    return {
        "torch's threads": torch.get_num_threads(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's gradients": torch.is_grad_enabled(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's kernels of attention": (
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
        ),
    }


def list_changes(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """Returns a line for each thing that differs; what one of the two lacks, such as torch, is no difference in it."""
    missing = object()
    names = sorted({*before, *after})
    return [
        f"{name}: {before.get(name, '(not set)')} became {after.get(name, '(not set)')}"
        for name in names
        if before.get(name, missing) != after.get(name, missing)
        and (name in before or not name.startswith("torch's"))  # torch was imported in between
    ]


class Shuffled:
    """A plugin of pytest that shuffles the tests and compares the process before and after each file."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.left: dict[str, list[str]] = {}
        self._before: dict[str, object] = {}

    @pytest.hookimpl(tryfirst=True)  # pytest then brings together the tests that share a costly fixture
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Shuffles the tests that were found."""
        items[:] = shuffle_items(items, self.seed)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
        """Compares the state of the process before the first test of a file and after the last."""
        self._before = self._before or take_state()
        result = yield
        if nextitem is None or nextitem.path != item.path:
            changes = list_changes(self._before, take_state())
            if changes:
                self.left.setdefault(item.nodeid.partition("::")[0], []).extend(changes)
            self._before = {}
        return result  # type: ignore[return-value]  # the type that pytest's wrappers have

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Lists the files that left something changed, and how to repeat the order."""
        for path, changes in self.left.items():
            terminalreporter.section(f"{path} leaves changes")
            for change in changes:
                terminalreporter.write_line(change)
        terminalreporter.write_line(f"order of seed {self.seed}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fails a run whose tests pass but leave changes."""
        if self.left and session.exitstatus == 0:
            session.exitstatus = 1


def run_shuffled(seed: int, arguments: Sequence[str]) -> int:
    """Runs the tests in the order of the seed, in this process; returns pytest's exit code."""
    return int(pytest.main([*arguments], plugins=[Shuffled(seed)]))


def run_alone(arguments: Sequence[str]) -> int:
    """Runs each file in a process of its own; returns 1 if one of them fails, else 0.

    arguments: files and folders, then options of pytest.
    """
    places = [Path(each) for each in arguments if Path(each).exists()]
    options = [each for each in arguments if not Path(each).exists()]
    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("test_*.py")))]
    codes = {file: _run_file(file, options) for file in files}
    failed = [str(file) for file, code in codes.items() if code not in (0, NO_TESTS)]
    print(f"{len(files)} files alone, {len(failed)} failed", *failed, sep="\n  ")  # noqa: T201  # a script
    return int(bool(failed))


def _run_file(file: Path, options: Sequence[str]) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", str(file), *options], check=False).returncode


def main(arguments: Sequence[str]) -> int:
    """Runs the tests as the module's docstring says; returns an exit code."""
    how, *rest = arguments or ["1"]
    return run_alone(rest or ["tests", "plugins"]) if how == ALONE else run_shuffled(int(how), rest)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
