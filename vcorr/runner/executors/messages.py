"""Messages between the process of a run and the processes that compute its clips."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vcorr.contract.errors import UsageError
from vcorr.runner.events import Events

if TYPE_CHECKING:
    from vcorr.runner.plan import Plan


@dataclass(frozen=True)
class Order:
    """The first message to a new process.

    Args:
        plan: the plan, pickled, so that it is unpickled only after the process is set up.
        folder: of the run.
        threads: number of CPU threads to compute with.
        device: the device as the user knows it, such as "cuda:1".
        rank: number of the process among those that share every pass.
        ranks: number of processes that share every pass; 1 if the process computes whole clips by itself.
        meeting: path of the file through which these find each other.
    """

    plan: bytes
    folder: str
    threads: int
    device: str
    rank: int = 0
    ranks: int = 1
    meeting: str = ""


@dataclass(frozen=True)
class Event:
    """A call of a method of `Events`."""

    method: str
    arguments: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def apply(self, events: Events) -> None:
        """Makes the call."""
        getattr(events, self.method)(*self.arguments, **self.options)


@dataclass(frozen=True)
class Broken:
    """The error that ended a process. trace: its traceback as text."""

    error: BaseException
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> Broken:
        """Returns the message for an error; an error that cannot be pickled becomes one with its words."""
        trace = "".join(traceback.format_exception(error))
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return cls(error, trace)

    def raise_again(self) -> None:
        """Raises the error in this process; its cause holds the traceback of the other process."""
        raise self.error from RemoteTracebackError(self.trace)


@dataclass(frozen=True)
class Begun:
    """Says that a process has loaded the model and begins with a clip."""


@dataclass(frozen=True)
class Computed:
    """What a process says that has computed a clip together with others. code: what went wrong, in words; "" for
    nothing. broken: the error.
    """

    code: str = ""
    broken: Broken | None = None


@dataclass(frozen=True)
class Proceed:
    """Tells a process that all others have said the same about the clip."""


class RemoteTracebackError(Exception):
    """Holds the traceback of another process as its text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class SentEvents:
    """Sends every event as a message; meets `Events`."""

    def __init__(self, send: Callable[[Event], None]) -> None:
        self._send = send

    def clip_started(self, clip_id: str) -> None:
        """Sends the event."""
        self._send(Event("clip_started", (clip_id,)))

    def step_done(self, clip_id: str) -> None:
        """Sends the event."""
        self._send(Event("step_done", (clip_id,)))

    def clip_done(self, clip_id: str, *, reused: bool) -> None:
        """Sends the event."""
        self._send(Event("clip_done", (clip_id,), {"reused": reused}))

    def clip_failed(self, clip_id: str, error: str) -> None:
        """Sends the event."""
        self._send(Event("clip_failed", (clip_id, error)))

    def note(self, message: str) -> None:
        """Sends the event."""
        self._send(Event("note", (message,)))


def pickle_plan(plan: Plan) -> bytes:
    """Returns a plan for one process, pickled.

    Raises:
        UsageError: it holds something that no other process can find.
    """
    hardware = replace(plan.hardware, shared=())
    try:
        return pickle.dumps(replace(plan, hardware=hardware))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"The run cannot be handed to other processes: {error}.",
            hint="Use --workers 1. A plugin's options must be classes of an importable module.",
        ) from error
