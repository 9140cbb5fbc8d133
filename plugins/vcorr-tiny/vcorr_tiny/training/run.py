"""Holds what all stages share: the settings of a run, its clock, its log and its random streams."""

import json
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vcorr_tiny.networks import TinyConfig
from vcorr_tiny.sprites.draws import seed_of
from vcorr_tiny.training.ranks import Ranks

VAE_DATA, DIT_DATA, DIT_NOISE = range(3)
"""Random streams of a run; a number within a stream is a step or a chunk."""
_SEEDS, _STREAMS, _NUMBERS = 64, 4, 2**22


def stream_seed(seed: int, stream: int, number: int) -> int:
    """Returns the seed of a (run seed, stream, number), from the train split; so any step can be drawn again."""
    if not 0 <= number < _NUMBERS:
        raise ValueError(f"number {number} of stream {stream} is outside 0 .. {_NUMBERS - 1}")
    return seed_of("train", ((seed % _SEEDS) * _STREAMS + stream) * _NUMBERS + number)


@dataclass
class Budget:
    """Limits of a stage: ``steps`` and ``seconds``, of which the first one reached ends it; 0 means no such limit."""

    steps: int = 0
    seconds: float = 0.0
    done: int = 0
    spent: float = 0.0

    @property
    def progress(self) -> float:
        """Share of the budget used, in [0, 1]; 1 for a stage without any budget."""
        shares = [self.done / self.steps] if self.steps else []
        shares += [self.spent / self.seconds] if self.seconds else []
        return min(1.0, max(shares, default=1.0))

    @property
    def finished(self) -> bool:
        """Whether the budget is used up."""
        return self.progress >= 1.0


@dataclass
class Log:
    """Writes training curves as JSON lines, and prints them; a silent log does neither."""

    path: Path
    silent: bool = False
    started: float = field(default_factory=time.monotonic)

    def write(self, kind: str, **values: object) -> None:
        """Appends one record; rounds floats to six significant digits to keep the file small."""
        if self.silent:
            return
        clock = round(time.monotonic() - self.started, 1)
        record = {"kind": kind, "clock": clock} | {key: _round(value) for key, value in values.items()}
        line = json.dumps(record)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        sys.stdout.write(line[:600] + "\n")
        sys.stdout.flush()


def _round(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {str(key): _round(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_round(item) for item in value]
    return value


@dataclass
class Run:
    """One invocation of the training script."""

    config: TinyConfig
    seed: int
    device: torch.device
    log: Log
    deadline: float = float("inf")
    """Value of ``time.monotonic()`` at which to save and stop; another invocation can continue."""
    ranks: Ranks = field(default_factory=Ranks)

    @property
    def out_of_time(self) -> bool:
        """Whether this invocation should stop now."""
        return time.monotonic() >= self.deadline

    @property
    def must_stop(self) -> bool:
        """Whether rank 0 is out of time; every rank has to ask at the same point."""
        (late,) = self.ranks.broadcast([self.ranks.first and self.out_of_time])
        return bool(late)

    def generator(self, stream: int, number: int) -> torch.Generator:
        """Returns this rank's generator of one step or chunk, on the run's device; no two ranks share a seed."""
        place = number * self.ranks.count + self.ranks.rank
        return torch.Generator(self.device).manual_seed(stream_seed(self.seed, stream, place))

    def autocast(self) -> AbstractContextManager[object]:
        """Returns a context with bfloat16 matrix products on a GPU, and plain float32 on a CPU."""
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else nullcontext()

    @property
    def working_dtype(self) -> torch.dtype:
        """Dtype of stored latents and of weights that no optimiser updates: bfloat16 on a GPU, float32 on a CPU."""
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def synchronise(self) -> None:
        """Waits until the device has finished its work, so that a clock can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Pace:
    """Tells whether a stage makes another step, alike on all ranks, and counts the time that it takes."""

    def __init__(self, run: Run, budget: Budget) -> None:
        self.run, self.budget = run, budget
        self.since = time.monotonic()
        self.stopped = False
        self._looked = False

    def goes_on(self) -> bool:
        """Returns whether to make another step; every ``look_every``-th step looks at the clock of rank 0."""
        if not self._looked or self.budget.done % self.run.ranks.look_every == 0:
            self._look()
        return not (self.stopped or self.budget.finished)

    def tally(self) -> None:
        """Adds the time since the last look to the budget, as rank 0 counts it."""
        now = time.monotonic()
        (self.budget.spent,) = self.run.ranks.broadcast([self.budget.spent + now - self.since])
        self.since = now

    def _look(self) -> None:
        self.tally()
        self._looked = True
        if not self.budget.finished:
            self.stopped = self.run.must_stop
