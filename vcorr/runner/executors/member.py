"""One process that computes clips, seen from the process of the run: how it starts, what it says, how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

from vcorr.runner.executors.messages import Order, Proceed

SECONDS_TO_END = 3.0
"""How long a process may take to tidy up after it was asked to end; then it is killed."""
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from vcorr.runner.executors.member_program import main; main(int(sys.argv[1]))"
)


class Member:
    """A process that computes clips, one after the other.

    It is a fresh interpreter: CUDA does not survive a fork, and `multiprocessing` would run the user's script a second
    time. It has its own process group, so Ctrl-C in a terminal reaches the run alone. Its
    standard input closes when the run ends, however it ends, and the process then ends too.

    Args:
        order: the first message to the process; its device is the one that the process takes.
        clip: the first clip to compute.

    Attributes:
        clip: id of the clip in work; None for none.
        has_begun: whether it came so far as to work on a clip, with the model loaded.
        is_silent: whether it has closed its output.
    """

    def __init__(self, order: Order, clip: str) -> None:
        self.device = order.device
        self.clip: str | None = None
        self.has_begun = self.is_silent = False
        self._text = b""
        ours, theirs = socket.socketpair()
        self._process = _start(order, theirs.fileno())
        theirs.close()
        self.connection: Connection = Connection(ours.detach())
        assert self._process.stdout is not None
        self.output = self._process.stdout.fileno()
        os.set_blocking(self.output, False)
        # a process that dies at once is met when its messages are read
        with contextlib.suppress(OSError):
            self.connection.send(order)
        self.give(clip)

    def proceed(self, message: Proceed) -> None:
        """Sends the process a message about the clip in work."""
        with contextlib.suppress(OSError):
            self.connection.send(message)

    def give(self, clip: str) -> None:
        """Gives the process its next clip."""
        self.clip = clip
        with contextlib.suppress(OSError):
            self.connection.send(clip)

    @property
    def sources(self) -> list[int | Connection]:
        """What can be waited for: messages, and output as long as there can be any."""
        return [self.connection] if self.is_silent else [self.connection, self.output]

    def read_lines(self) -> list[str]:
        """Returns the whole lines that the process has printed since the last call; at its end also half a line."""
        with contextlib.suppress(BlockingIOError):
            while not self.is_silent:
                read = os.read(self.output, 65536)
                self.is_silent = not read
                self._text += read
        lines = self._text.split(b"\n")
        self._text = b"" if self.is_silent else lines.pop()
        return [line.decode(errors="replace") for line in lines if line]

    def describe_end(self) -> str:
        """Returns how an ended process ended, such as "killed by SIGKILL"."""
        code = self._process.wait()
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"

    def ask_to_end(self) -> None:
        """Asks the process to end after it has deleted its temporary files."""
        self._process.terminate()

    def end(self, seconds: float = SECONDS_TO_END) -> None:
        """Waits a short time for the process to end, then kills it, and closes everything."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.connection.close()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def end_members(members: Sequence[Member]) -> None:
    """Ends processes, all in the time of one. None runs when this returns."""
    for member in members:
        member.ask_to_end()
    until = time.monotonic() + SECONDS_TO_END
    for member in members:
        member.end(max(0.0, until - time.monotonic()))


def _start(order: Order, descriptor: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-P", "-c", _PROGRAM, str(descriptor), json.dumps(sys.path)]
    return subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=[descriptor],
        process_group=0,
        env=_environment(order),
        bufsize=0,
    )


def _environment(order: Order) -> dict[str, str]:
    """Returns the environment of the process: its share of the CPU threads, and one GPU alone."""
    found = {**os.environ, "OMP_NUM_THREADS": str(order.threads), "PYTHONUNBUFFERED": "1"}
    if order.device.startswith("cuda:"):
        found["CUDA_VISIBLE_DEVICES"] = find_card(int(order.device[5:]), os.environ.get("CUDA_VISIBLE_DEVICES"))
    return found


def find_card(number: int, visible: str | None) -> str:
    """Returns what CUDA_VISIBLE_DEVICES has to say for one device of this process.

    Args:
        number: of the device, as torch counts in this process.
        visible: CUDA_VISIBLE_DEVICES of this process; None if it is not set.
    """
    return str(number) if not visible else [word.strip() for word in visible.split(",")][number]
