"""Runs a module as ``python -m`` does, in a process that ends with the one that started it.

``python -m vcorr_tiny.tied_process MODULE ARGUMENTS``. A process that is killed cannot end those it started. They would
go on to use devices and folders, next to those that the repeated command starts. So the kernel interrupts them, on
Linux. An interrupt also counts where the shell had set it to be ignored, as it does for commands in the background.
"""

from __future__ import annotations

import ctypes
import runpy
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
"""Of prctl(2) of Linux: the signal that this process gets when the thread that started it ends."""


def tie() -> None:
    """Makes an interrupt end this process, and the end of the process that started it interrupt it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # without it, only the repeated command is less safe
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)


if __name__ == "__main__":
    tie()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
