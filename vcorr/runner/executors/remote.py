"""What executors on other machines share: a package that computes clips in any process, and what comes back."""

from __future__ import annotations

import pickle
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vcorr.contract.errors import MissingError, StoreError
from vcorr.runner.events import Events
from vcorr.runner.executors.messages import Broken, Event, SentEvents, pickle_plan
from vcorr.runner.plan import Plan
from vcorr.runner.worker import Report, find_predicted, work_off_each
from vcorr.store.lock import LOCK
from vcorr.store.rundir import RunDirectory


@dataclass(frozen=True)
class Done:
    """What a process says about one clip. clip: its id. events: what happened, in order."""

    clip: str
    report: Report
    events: tuple[Event, ...]

    def pass_on(self, events: Events) -> Report:
        """Passes the events on, and returns the report."""
        for event in self.events:
            event.apply(events)
        return self.report


@dataclass(frozen=True)
class Package:
    """Everything that another process needs to compute clips of a run; small, and can be pickled.

    plan: the plan, pickled. folder: of the run, on a file system that every machine sees. path: `sys.path`.
    """

    plan: bytes
    folder: str
    path: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan, run: RunDirectory) -> Package:
        """Returns the package of a run; raises UsageError if the plan cannot be pickled."""
        return cls(pickle_plan(plan), str(run.path.absolute()), tuple(sys.path))


class ClipComputer:
    """Computes clips in another process. The model stays loaded from the first clip on.

    Raises:
        StoreError: this machine does not see the folder of the run.
        MissingError: its device is of another product than the run was planned for.
    """

    def __init__(self, package: Package) -> None:
        sys.path.extend(path for path in package.path if path not in sys.path)
        folder = Path(package.folder)
        _check_folder(folder)
        plan: Plan = pickle.loads(package.plan)
        _check_device(plan)
        self._heard: list[Event] = []
        self._given: deque[str] = deque()
        # reads each clip only when its report is asked for
        given = iter(self._given.popleft, None)
        self._reports = work_off_each(plan, RunDirectory(folder), given, events=SentEvents(self._heard.append))

    def compute(self, clip: str) -> Done:
        """Computes one clip, and returns what it says."""
        self._heard.clear()
        self._given.append(clip)
        report = next(self._reports)
        return Done(clip, report, tuple(self._heard))


def _check_folder(folder: Path) -> None:
    import socket

    if not (folder / LOCK).exists():
        raise StoreError(
            f"The machine {socket.gethostname()} does not see the folder of the run, {folder}.",
            hint="Choose --out on a file system that all machines share.",
        )


def _check_device(plan: Plan) -> None:
    if not plan.hardware.device.startswith("cuda"):
        return
    import torch

    found = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
    if found != plan.hardware.name:
        raise MissingError(
            f"A process of the run got {found}; the run was planned with {plan.hardware.name}.",
            hint="Start the run on a machine with the same GPU, and ask for GPUs of one product.",
        )


Share = Callable[[Package, Sequence[str]], Iterator[Report]]
"""Has other machines compute some clips, and yields their reports."""


def share_rest(plan: Plan, run: RunDirectory, events: Events, share: Share) -> Iterator[Report]:
    """Works off stored clips in this process and has all others computed by `share`. Yields one report per clip."""
    clips = plan.selection.clips
    predicted = find_predicted(plan, run, clips)
    yield from work_off_each(plan, run, [clip for clip in clips if clip in predicted], events=events)
    left = [clip for clip in clips if clip not in predicted]
    if left:
        # a process of its own has one device, which is the first one there
        device = plan.hardware.device.partition(":")[0]
        alone = replace(plan, hardware=replace(plan.hardware, device=device))
        yield from share(Package.of(alone, run), left)


def compute_clips(package: Package, clips: Sequence[str]) -> list[Done | Broken]:
    """Computes clips one after the other. An error that ends the run is the last item."""
    found: list[Done | Broken] = []
    try:
        computer = ClipComputer(package)
        found += [computer.compute(clip) for clip in clips]
    except Exception as error:
        found.append(Broken.of(error))
    return found
