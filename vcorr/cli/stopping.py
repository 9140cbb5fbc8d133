"""Lets signals end a command in good order: Ctrl-C, and what a shell, a cluster or a terminal that closes sends."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from vcorr.contract.errors import EXIT_INTERRUPTED

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextlib.contextmanager
def stop_in_order() -> Iterator[None]:
    """Raises KeyboardInterrupt in the block at the first signal that asks to stop. The second one ends the process.

    A signal that the process ignores stays ignored, such as SIGHUP below `nohup`. Only the main thread can do this;
    in another thread the block runs as it is.
    """
    asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            # files are whole at every instant, and the kernel releases the lock of the run
            os.write(2, b"\nEnded at once.\n")
            os._exit(EXIT_INTERRUPTED)
        asked = True
        raise KeyboardInterrupt

    before = {}
    with contextlib.suppress(ValueError):  # another thread than the main one
        for name in _SIGNALS:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
