"""Makes Ctrl-C mean the same in every run of the tests."""

import signal
import threading


def take_interrupts() -> None:
    """Makes an interrupt end this process and those that it starts.

    A shell sets interrupts to be ignored for commands in the background, and processes inherit that. Tests that
    interrupt a process would then wait until it is killed.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
