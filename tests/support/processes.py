"""Programs that run next to a test: started as from a terminal, waited for as long as a loaded machine takes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 600
"""Seconds that tests wait for a process. Only one that never ends takes so long, whatever else the machine does."""
_ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start_process(words: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Starts a program with its output in pipes; options: of `subprocess.Popen`."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with _as_in_a_terminal():
        return subprocess.Popen(list(words), **{**pipes, **options})


@contextmanager
def _as_in_a_terminal() -> Iterator[None]:
    """Lets programs that start here react to signals, also where a shell's `&` or nohup ignores them for the tests."""
    ignored = [number for number in _ASKING if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, lambda *_: None)  # a program that starts has the default in place of a handler
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


def end_process(process: subprocess.Popen[str]) -> None:
    """Kills a process that still runs, and closes its pipes."""
    process.kill()
    process.communicate()


def read_marker(process: subprocess.Popen[str], marker: Path) -> str:
    """Waits until the process writes into the fifo `marker`; returns what it wrote.

    Raises:
        AssertionError: the process ended first.
    """
    with os.fdopen(os.open(marker, os.O_RDONLY | os.O_NONBLOCK)) as file:
        while not select.select([file], [], [], 0.1)[0]:
            assert process.poll() is None, process.communicate()[1]
        os.set_blocking(file.fileno(), True)
        return file.read()
