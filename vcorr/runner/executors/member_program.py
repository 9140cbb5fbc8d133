"""What a process of a crew runs: it computes the clips that it is given, and sends reports and events."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from vcorr.runner.executors.messages import Broken, Order, SentEvents

_STOPPED = 143
"""Exit code of a process that was asked to end, as shells know it."""
_INTERRUPTED = 130
"""Exit code of a process in which KeyboardInterrupt was raised, as shells know it."""


def main(descriptor: int) -> None:
    """Computes clips until the run ends this process. descriptor: of the socket to the process of the run."""
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_end_with_run, daemon=True).start()
    connection: Connection = Connection(descriptor)
    try:
        _work(connection)
    except (EOFError, _StopError):
        sys.exit(_STOPPED)
    except KeyboardInterrupt:
        # raised by a part, or sent to this process alone: Ctrl-C reaches the run, which ends this process
        sys.exit(_INTERRUPTED)
    except Exception as error:
        connection.send(Broken.of(error))


def _work(connection: Connection) -> None:
    from vcorr.runner.plan import Plan
    from vcorr.runner.worker import work_off_each
    from vcorr.store.rundir import RunDirectory

    order: Order = connection.recv()
    plan: Plan = pickle.loads(order.plan)
    events = SentEvents(connection.send)
    if order.device.startswith("cuda"):
        # the process sees this one alone
        plan = replace(plan, hardware=replace(plan.hardware, device="cuda", shared=(order.device,)))
    if order.ranks > 1:
        from vcorr.runner.executors.rank_program import work_in_rank

        work_in_rank(order, plan, connection, _receive(connection))
        return
    for report in work_off_each(plan, RunDirectory(Path(order.folder)), _receive(connection), events=events):
        connection.send(report)


def _receive(connection: Connection) -> Iterator[str]:
    """Yields the clips that the run gives, until the run ends this process."""
    while True:
        yield connection.recv()


class _StopError(KeyboardInterrupt):
    """The run asks this process to end. As an interrupt it passes through a part; SystemExit would fail the clip."""


def _stop(number: int, frame: object) -> None:
    """Ends the process by an exception, so that half-written files are deleted."""
    raise _StopError


def _end_with_run() -> None:
    """Ends the process as soon as the process of the run has ended: another run may then write the directory."""
    os.read(0, 1)
    os._exit(_STOPPED)
