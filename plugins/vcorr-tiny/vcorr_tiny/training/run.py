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
    """Writes training curves as JSON lines, and prints them."""

    path: Path
    started: float = field(default_factory=time.monotonic)

    def write(self, kind: str, **values: object) -> None:
        """Appends one record; rounds floats to six significant digits to keep the file small."""
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

    @property
    def out_of_time(self) -> bool:
        """Whether this invocation should stop now."""
        return time.monotonic() >= self.deadline

    def generator(self, stream: int, number: int) -> torch.Generator:
        """Returns the generator of one step or chunk, on the run's device."""
        return torch.Generator(self.device).manual_seed(stream_seed(self.seed, stream, number))

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
