"""Signals that ask a command to stop: the first one in good order, the second one at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import tomllib

import pytest
from support.pages import ROOT
from support.processes import PATIENCE

from vcorr.cli.stopping import stop_in_order

BUSY = """
import signal
from vcorr.cli.stopping import stop_in_order
with stop_in_order():
    try:
        print("ready", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        print("stopping", flush=True)
        signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_an_interrupt_and_the_handlers_come_back(number) -> None:
    def own(*_: object) -> None:
        """Stands for whatever handles the signal outside, also where nohup would ignore it."""

    before = signal.signal(number, own)
    try:
        with pytest.raises(KeyboardInterrupt), stop_in_order():
            os.kill(os.getpid(), number)
        assert signal.getsignal(number) is own
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_second_signal_ends_at_once(start_program, number) -> None:
    process = start_program([sys.executable, "-c", BUSY])
    assert process.stdout is not None
    for said in ("ready\n", "stopping\n"):
        assert process.stdout.readline() == said
        process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (130, "\nEnded at once.\n")


def test_an_ignored_signal_stays_ignored(monkeypatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as below nohup
    try:
        with stop_in_order():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_runs_the_block_as_it_is() -> None:
    done: list[bool] = []

    def work() -> None:
        with stop_in_order():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


INTERRUPTED_IMPORT = """
import sys
from vcorr.__main__ import main
class Interrupt:
    def find_spec(self, name, *rest):
        if name == "click":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupt())
main()
"""


def test_an_interrupt_while_modules_are_imported_is_one_line(start_program) -> None:
    process = start_program([sys.executable, "-c", INTERRUPTED_IMPORT])
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (130, "", "Interrupted.\n")


def test_the_script_begins_where_an_interrupt_is_heard() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"vcorr": "vcorr.__main__:main"}
