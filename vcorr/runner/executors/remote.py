"""What executors on other machines share: a package that computes clips in any process, and what comes back."""

from __future__ import annotations

import pickle
import shutil
import socket
import sys
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vcorr.contract.errors import MissingError, StoreError
from vcorr.runner.events import Events
from vcorr.runner.executors.messages import Broken, Event, SentEvents, pickle_plan
from vcorr.runner.plan import Plan
from vcorr.runner.worker import Report, find_predicted, work_off_each
from vcorr.store.atomic_files import atomic_file, make_folder
from vcorr.store.lock import LOCK
from vcorr.store.run_names import WRITE_ORDER
from vcorr.store.rundir import TABLES, RunDirectory


@dataclass(frozen=True)
class Done:
    """What a process says about one clip.

    Args:
        clip: its id.
        report: the numbers.
        events: what happened, in order.
        files: what was written, by path below the run, in the order in which a run writes; empty from a machine that
            sees the folder of the run.
    """

    clip: str
    report: Report
    events: tuple[Event, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)

    def pass_on(self, events: Events, run: RunDirectory) -> Report:
        """Writes the files into the run, passes the events on, and returns the report.

        Raises:
            StoreError: a file cannot be written.
        """
        for name, content in self.files.items():
            make_folder((run.path / name).parent)
            with atomic_file(run.path / name) as temporary:
                Path(temporary).write_bytes(content)
        for event in self.events:
            event.apply(events)
        return self.report


@dataclass(frozen=True)
class Package:
    """Everything that another process needs to compute clips of a run; small, and can be pickled.

    Args:
        plan: the plan, pickled.
        folder: of the run.
        path: `sys.path`.
        lock: the lock file of the folder, which says that a folder of this name on another machine is the same one.
        may_send: whether a machine that does not see the folder may send its files with its reports.
    """

    plan: bytes
    folder: str
    path: tuple[str, ...]
    lock: bytes
    may_send: bool = False

    @classmethod
    def of(cls, plan: Plan, run: RunDirectory, *, may_send: bool = False) -> Package:
        """Returns the package of a run whose lock is held; raises UsageError if the plan cannot be pickled."""
        folder = run.path.absolute()
        return cls(pickle_plan(plan), str(folder), tuple(sys.path), _read(folder / LOCK), may_send)

    def is_seen(self) -> bool:
        """Returns whether this machine sees the folder of the run."""
        return _read(Path(self.folder) / LOCK) == self.lock != b""


class ClipComputer:
    """Computes clips in another process. The model stays loaded from the first clip on.

    A machine that does not see the folder of the run writes to a folder of its own, and sends the files of each clip.

    Raises:
        StoreError: this machine does not see the folder of the run, and may not send files.
        MissingError: its device is of another product than the run was planned for.
    """

    def __init__(self, package: Package) -> None:
        sys.path.extend(path for path in package.path if path not in sys.path)
        self._sends = not package.is_seen()
        folder = Path(package.folder)
        if self._sends:
            folder = _make_own_folder(package)
            weakref.finalize(self, shutil.rmtree, folder.parent, ignore_errors=True)
        plan: Plan = pickle.loads(package.plan)
        _check_device(plan)
        self._heard: list[Event] = []
        self._given: deque[str] = deque()
        # reads each clip only when its report is asked for
        given = iter(self._given.popleft, None)
        self._folder = folder
        self._reports = work_off_each(plan, RunDirectory(folder), given, events=SentEvents(self._heard.append))

    def compute(self, clip: str) -> Done:
        """Computes one clip, and returns what it says."""
        self._heard.clear()
        self._given.append(clip)
        report = next(self._reports)
        return Done(clip, report, tuple(self._heard), _take_files(self._folder) if self._sends else {})


def _make_own_folder(package: Package) -> Path:
    """Makes a folder of this machine for a run; raises StoreError if its files may not be sent."""
    if not package.may_send:
        raise StoreError(
            f"The machine {socket.gethostname()} does not see the folder of the run, {package.folder}.",
            hint="Choose --out on a file system that all machines share. For a URL, VCORR_HOME is such a folder.",
        )
    folder = Path(tempfile.mkdtemp(prefix="vcorr-"), Path(package.folder).name)
    for table in TABLES:
        (folder / table).mkdir(parents=True)
    return folder


def _take_files(folder: Path) -> dict[str, bytes]:
    """Returns the content of all files of a run, in the order in which a run writes them, and deletes them."""
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    ranks = {name: rank for rank, name in enumerate(WRITE_ORDER, start=1)}
    found = {}
    for name in sorted(names, key=lambda name: (ranks.get(name.parts[0], 0), name)):
        found[name.as_posix()] = (folder / name).read_bytes()
        (folder / name).unlink()
    return found


def _read(path: Path) -> bytes:
    """Returns the content of a file; nothing if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


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


def share_rest(
    plan: Plan, run: RunDirectory, events: Events, share: Share, *, may_send: bool = False
) -> Iterator[Report]:
    """Works off stored clips in this process and has all others computed by `share`. Yields one report per clip.

    may_send: as in `Package`.
    """
    clips = plan.selection.clips
    predicted = find_predicted(plan, run, clips)
    yield from work_off_each(plan, run, [clip for clip in clips if clip in predicted], events=events)
    left = [clip for clip in clips if clip not in predicted]
    if left:
        # a process of its own has one device, which is the first one there
        device = plan.hardware.device.partition(":")[0]
        alone = replace(plan, hardware=replace(plan.hardware, device=device))
        yield from share(Package.of(alone, run, may_send=may_send), left)


def compute_clips(package: Package, clips: Sequence[str]) -> list[Done | Broken]:
    """Computes clips one after the other. An error that ends the run is the last item."""
    found: list[Done | Broken] = []
    try:
        computer = ClipComputer(package)
        found += [computer.compute(clip) for clip in clips]
    except Exception as error:
        found.append(Broken.of(error))
    return found
