"""Works off clips in several processes of this machine, and replaces a process that dies."""

from __future__ import annotations

import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from types import TracebackType

from vcorr.contract.errors import VcorrError
from vcorr.runner.events import Events
from vcorr.runner.executors.member import Member, end_members
from vcorr.runner.executors.messages import Broken, Event, Order, pickle_plan
from vcorr.runner.plan import Plan
from vcorr.runner.worker import Report, give_up
from vcorr.store.rundir import RunDirectory

TRIES = 2
"""How often a clip is tried whose process dies, and how often a process is started that dies before its first clip."""


class ProcessDiedError(VcorrError):
    """A process of a run was killed, or ended without an error of Python."""


class Crew:
    """Processes that share clips: each takes the next clip as soon as it has finished one.

    Args:
        plan: what to do with a clip.
        run: where the shards go; this process holds its lock.
        events: receives what happens in all processes, in order. A note or a printed line that several processes have
            is passed on once.
        devices: the device of each process.
    """

    def __init__(self, plan: Plan, run: RunDirectory, events: Events, devices: Sequence[str]) -> None:
        self._plan, self._run, self._events = plan, run, events
        self._free = list(devices)
        self._members: list[Member] = []
        self._left: deque[str] = deque()
        self._tries: Counter[str] = Counter()
        self._unborn = 0
        self._said = SaidOnce()
        self._pickled = pickle_plan(plan)
        self._threads = share_threads(len(devices))

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Ends every process. None runs when this returns."""
        end_members(self._members)
        self._members.clear()

    def work_off(self, clips: Sequence[str]) -> Iterator[Report]:
        """Yields one report per clip, in the order in which they are finished.

        The processes stay, with the model loaded, for the clips of a further call.

        Raises:
            StoreError, PluginError, MissingError: the first error that ended a process.
            ProcessDiedError: two processes died before they began with a clip.
        """
        self._left.extend(clips)
        self._hand_out()
        while any(member.clip for member in self._members):
            for member in self._wait():
                yield from self._hear(member)

    def _hand_out(self) -> None:
        """Gives clips to processes that have none, and to new processes on devices that have no process."""
        for member in self._members:
            if self._left and member.clip is None:
                member.give(self._left.popleft())
        while self._left and self._free:
            order = Order(self._pickled, str(self._run.path.absolute()), self._threads, self._free.pop(0))
            self._members.append(Member(order, self._left.popleft()))

    def _wait(self) -> list[Member]:
        """Waits until a process says something, and returns the processes that do."""
        sources = {source: member for member in self._members for source in member.sources}
        return list(dict.fromkeys(sources[source] for source in wait(list(sources))))  # type: ignore[index]

    def _hear(self, member: Member) -> Iterator[Report]:
        """Passes on what a process printed and sent."""
        self._said.print_lines(member)
        if not member.connection.poll():
            return
        try:
            message = member.connection.recv()
        except (EOFError, OSError):
            yield from self._bury(member)
            return
        if isinstance(message, Broken):
            message.raise_again()
        elif isinstance(message, Event):
            self._pass_on(member, message)
        else:
            member.has_begun, member.clip = True, None
            self._hand_out()
            yield message

    def _pass_on(self, member: Member, event: Event) -> None:
        member.has_begun = member.has_begun or event.method == "clip_started"
        if event.method != "note" or self._said.is_new(member, event.arguments[0]):
            event.apply(self._events)

    def _bury(self, member: Member) -> Iterator[Report]:
        """Takes a process out that has ended. If it was working on a clip, another process tries the clip again."""
        self._members.remove(member)
        end = member.describe_end()
        self._said.print_lines(member)
        member.end()
        self._free.insert(0, member.device)
        if member.clip is None:
            return
        if not member.has_begun:
            self._check_birth(member, end)
        self._tries[member.clip] += member.has_begun
        if self._tries[member.clip] < TRIES:
            self._events.note(f"The process on {member.device} ended early ({end}). Clip {member.clip} is tried again.")
            self._left.appendleft(member.clip)
        else:
            error = ProcessDiedError(f"the process ended early in every try, {TRIES} times ({end})")
            yield give_up(self._plan, self._run, member.clip, error, self._events)
        self._hand_out()

    def _check_birth(self, member: Member, end: str) -> None:
        """Raises ProcessDiedError if so many processes died at their start that another one would die as well."""
        self._unborn += 1
        if self._unborn >= TRIES:
            raise ProcessDiedError(
                f"The process on {member.device} ended before its first clip ({end}), as another one did before.",
                hint="Often memory is short: every process holds the model. Take fewer, such as --workers 1.",
            )


class SaidOnce:
    """Tells lines that are new from those which another process has said as often."""

    def __init__(self) -> None:
        self._counts: dict[Member, Counter[str]] = {}
        self._passed: Counter[str] = Counter()

    def is_new(self, member: Member, line: str) -> bool:
        """Returns whether a process has said this line more often than it was passed on."""
        own = self._counts.setdefault(member, Counter())
        own[line] += 1
        new = own[line] > self._passed[line]
        self._passed[line] += new
        return new

    def print_lines(self, member: Member) -> None:
        """Passes on what a process has printed."""
        for line in member.read_lines():
            if self.is_new(member, line):
                sys.stderr.write(f"{line}\n")


def share_threads(processes: int) -> int:
    """Returns how many CPU threads each process may use, so that all use as many as this process would."""
    import torch

    return max(1, torch.get_num_threads() // processes)
