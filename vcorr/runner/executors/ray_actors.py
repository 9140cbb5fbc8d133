"""Works off the clips in actors of a Ray cluster, which keep the model (`--executor ray`)."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from vcorr.contract.errors import UsageError
from vcorr.runner.events import Events
from vcorr.runner.executors.crew import TRIES, ProcessDiedError
from vcorr.runner.executors.executor import Reports
from vcorr.runner.executors.messages import Broken
from vcorr.runner.executors.ray_options import RayOptions
from vcorr.runner.executors.remote import ClipComputer, Done, Package, share_rest
from vcorr.runner.executors.table import PART, read_options
from vcorr.runner.plan import Plan
from vcorr.runner.worker import Report, give_up, work_off_each
from vcorr.store.rundir import RunDirectory


def work_in_actors(plan: Plan, run: RunDirectory, *, compute: bool, events: Events) -> Reports:
    """Works off every clip; see `Executor`. An actor takes the next clip as soon as it has finished one."""
    if not compute:
        yield from work_off_each(plan, run, plan.selection.clips, compute=False, events=events)
        return
    options: RayOptions = read_options("ray", plan.spec.options.get(PART, {}))
    yield from share_rest(plan, run, events, _Actors(plan, run, events, options).work_off, may_send=True)


def _connect(address: str) -> None:
    """Connects to the cluster, or starts one. Raises UsageError if there is none to connect to."""
    try:
        ray.init(address=address or None, log_to_driver=False, ignore_reinit_error=True)
    except ConnectionError as error:
        raise UsageError(
            f"No Ray cluster can be reached: {error}", hint="Start one with: ray start --head --port 6379"
        ) from error


class _ClipActor:
    """Computes clips on a node. The model stays loaded."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._computer: ClipComputer | None = None

    def start(self) -> None:
        """Returns as soon as the actor has its place on a node."""

    def compute(self, clip: str) -> Done | Broken:
        """Computes one clip, or returns the error that ends the run."""
        try:
            self._computer = self._computer or ClipComputer(self._package)
            return self._computer.compute(clip)
        except Exception as error:
            return Broken.of(error)


class _Actors:
    """The actors of one run. A lost actor costs the clip that it was computing one of its tries."""

    def __init__(self, plan: Plan, run: RunDirectory, events: Events, options: RayOptions) -> None:
        self._plan, self._run, self._events, self._options = plan, run, events, options
        self._left: deque[str] = deque()
        self._tries: Counter[str] = Counter()
        self._actors: dict[Any, Any] = {}
        self._clips: dict[Any, str] = {}
        self._idle: list[Any] = []

    def work_off(self, package: Package, clips: Sequence[str]) -> Iterator[Report]:
        """Yields one report per clip, in the order in which they are finished."""
        _connect(self._options.address)
        self._left.extend(clips)
        try:
            for _ in range(min(len(clips), self._count())):
                self._start(package)
            while self._left or self._clips:
                yield from self._read(package, self._wait())
        finally:
            for actor in (*self._actors.values(), *self._idle):
                ray.kill(actor)
            ray.shutdown()

    def _count(self) -> int:
        """Returns the number of actors: `--workers`, or one per GPU of the cluster, or as many as CPU cores allow."""
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        if self._uses_gpu and not gpus:
            raise UsageError("The Ray cluster has no GPU.", hint="Add nodes with GPUs, or use --device cpu")
        by_cores = int(there.get("CPU", 1) / max(self._options.cpus, 0.01))
        return self._plan.spec.workers or max(1, gpus if self._uses_gpu else by_cores)

    @property
    def _uses_gpu(self) -> bool:
        return self._plan.hardware.device.startswith("cuda")

    def _start(self, package: Package) -> None:
        made = ray.remote(_ClipActor).options(num_cpus=self._options.cpus, num_gpus=int(self._uses_gpu))
        actor = made.remote(package)
        self._actors[actor.start.remote()] = actor

    def _wait(self) -> Any:
        """Returns what is ready first: the result of a clip, or an actor that has its place."""
        began = time.monotonic()
        while True:
            ready, _ = ray.wait(list(self._actors), timeout=1.0)
            if ready:
                return ready[0]
            if not self._clips and time.monotonic() - began > self._options.patience:
                raise ProcessDiedError(
                    f"No node of the Ray cluster had room for an actor in {self._options.patience:.0f} s.",
                    hint="The same command goes on when there is one. See: ray status",
                )

    def _read(self, package: Package, ready: Any) -> Iterator[Report]:
        """Yields the report of a clip that is finished, and gives its actor the next clip."""
        actor, clip = self._actors.pop(ready), self._clips.pop(ready, None)
        try:
            result = ray.get(ready)
        except ray.exceptions.RayError:
            yield from self._lose(package, clip)
            return
        if isinstance(result, Broken):
            result.raise_again()
        self._give(actor)
        if isinstance(result, Done):
            yield result.pass_on(self._events, self._run)

    def _give(self, actor: Any) -> None:
        if self._left:
            clip = self._left.popleft()
            following = actor.compute.remote(clip)
            self._actors[following], self._clips[following] = actor, clip
        else:
            self._idle.append(actor)

    def _lose(self, package: Package, clip: str | None) -> Iterator[Report]:
        """Puts a lost clip back, and starts another actor, which waits until a node has room for it."""
        if clip is not None:
            self._tries[clip] += 1
            if self._tries[clip] < TRIES:
                self._events.note(f"The actor of clip {clip} was lost. The clip is tried again.")
                self._left.appendleft(clip)
                if self._idle:
                    self._give(self._idle.pop())
            else:
                error = ProcessDiedError(f"its actor was lost in every try, {TRIES} times")
                yield give_up(self._plan, self._run, clip, error, self._events)
        self._start(package)
