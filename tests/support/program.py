"""The program in this process, on plugins whose answers are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from vcorr.cli import main as program


class Ended(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def vcorr(plugins, capsys, monkeypatch, tmp_path) -> Callable[..., Ended]:
    """Runs a command line; returns its exit code and what it printed."""
    plugins()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str) -> Ended:
        with pytest.raises(SystemExit) as ended:
            program.main(arguments)
        captured = capsys.readouterr()
        return Ended(int(ended.value.code or 0), captured.out, captured.err)

    return run
