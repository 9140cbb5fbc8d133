"""Has several processes of this machine share every pass of the model (`--parallel`), clip after clip.

Process 0 stores what a clip gives. Before it does, every process says how the clip went. If all of them say the same,
the clip is stored, or fails. If one of them fails alone, the others wait for it inside the pass; then all of them end,
the clip fails, and new ones begin with the next clip. A process that is killed ends the run.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType

from vcorr.runner.events import Events
from vcorr.runner.executors.crew import ProcessDiedError, SaidOnce, share_threads
from vcorr.runner.executors.member import Member, end_members
from vcorr.runner.executors.messages import Begun, Broken, Computed, Event, Order, Proceed, pickle_plan
from vcorr.runner.plan import Plan
from vcorr.runner.worker import Report, ends_run, give_up
from vcorr.store.rundir import RunDirectory

SECONDS_TO_AGREE = 30.0
"""How long the others may take to say how a clip went, after all have begun and one has failed."""


class Team:
    """Processes that share every pass of the model.

    Args:
        plan: what to do with a clip.
        run: where the shards go; this process holds its lock.
        events: receives what happens. A printed line that several processes have is passed on once.
        devices: the device of each process.
    """

    def __init__(self, plan: Plan, run: RunDirectory, events: Events, devices: Sequence[str]) -> None:
        self._plan, self._run, self._events, self._devices = plan, run, events, devices
        self._members: list[Member] = []
        self._meeting: Path | None = None
        self._said = SaidOnce()
        self._pickled = pickle_plan(plan)
        self._threads = share_threads(len(devices))

    def __enter__(self) -> Team:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Ends every process. None runs when this returns."""
        self._end()

    def work_off(self, clips: Sequence[str]) -> Iterator[Report]:
        """Yields one report per clip.

        Raises:
            StoreError, PluginError, MissingError: the first error that ended a process.
            ProcessDiedError: a process died.
        """
        for clip in clips:
            if self._members:
                for member in self._members:
                    member.give(clip)
            else:
                self._start(clip)
            yield self._finish(clip)

    def _start(self, clip: str) -> None:
        self._meeting = Path(tempfile.mkdtemp(prefix="vcorr-processes-"))
        folder, file = str(self._run.path.absolute()), str(self._meeting / "store")
        for rank, device in enumerate(self._devices):
            order = Order(self._pickled, folder, self._threads, device, rank, len(self._devices), file)
            self._members.append(Member(order, clip))

    def _end(self) -> None:
        end_members(self._members)
        self._members.clear()
        if self._meeting is not None:
            shutil.rmtree(self._meeting, ignore_errors=True)

    def _finish(self, clip: str) -> Report:
        """Returns the report of a clip that the processes are working on."""
        said = self._ask_all()
        if len(said) == len(self._members) and len({one.code for one in said}) == 1:
            self._members[0].proceed(Proceed())
            return self._take_report()
        error = next(one.broken.error for one in said if one.broken is not None)
        self._end()
        if ends_run(error) or not isinstance(error, Exception):
            raise error
        return give_up(self._plan, self._run, clip, error, self._events)

    def _ask_all(self) -> list[Computed]:
        """Returns how the clip went in each process; in some only, if the others wait for one that has failed."""
        said: dict[Member, Computed] = {}
        begun: set[Member] = set()
        while len(said) < len(self._members):
            may_give_up = len(begun) == len(self._members) and any(one.broken is not None for one in said.values())
            heard = self._hear(SECONDS_TO_AGREE if may_give_up else None)
            if heard is None:
                break
            begun.update(member for member, message in heard if isinstance(message, Begun))
            said.update((member, message) for member, message in heard if isinstance(message, Computed))
        return [said[member] for member in self._members if member in said]

    def _take_report(self) -> Report:
        while True:
            for _, message in self._hear(None) or ():
                if isinstance(message, Report):
                    return message

    def _hear(self, seconds: float | None) -> list[tuple[Member, object]] | None:
        """Passes on what processes print and what happens, and returns their other messages; None if none came in time.

        Raises:
            ProcessDiedError: a process has ended.
        """
        sources = {source: member for member in self._members for source in member.sources}
        ready = wait(list(sources), seconds)
        if not ready:
            return None
        found: list[tuple[Member, object]] = []
        for member in dict.fromkeys(sources[source] for source in ready):  # type: ignore[index]
            self._said.print_lines(member)
            if not member.connection.poll():
                continue
            message = self._receive(member)
            if isinstance(message, Broken):
                message.raise_again()
            elif isinstance(message, Event):
                message.apply(self._events)
            else:
                found.append((member, message))
        return found

    def _receive(self, member: Member) -> object:
        try:
            return member.connection.recv()
        except (EOFError, OSError):
            end = member.describe_end()
            self._said.print_lines(member)
            raise ProcessDiedError(
                f"Process {self._members.index(member)} of {len(self._members)}, on {member.device}, ended early "
                f"({end}), and the others cannot compute without it.",
                hint="The same command goes on from there. Often memory is short: every process holds the whole model.",
            ) from None
