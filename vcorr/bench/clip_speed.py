"""Times whole clips of mode renoise, from their pixels to the predictions of the probes, in several ways in turns.

The base is the loop that has one noise level at a time: for each level it embeds the prompt, encodes the video and runs
one pass.

Shape legend: T video frames, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from vcorr.bench.measuring import Progress, measure_or_explain, say_nothing
from vcorr.bench.overhead import Bench
from vcorr.bench.random_models import build_model, empty_clip
from vcorr.bench.timing import Turns, time_in_turns
from vcorr.capture.recorder import Recorder
from vcorr.contract.records import Clip, RunSettings
from vcorr.data.query_grids import query_grid
from vcorr.diffusion import DiffusersVideoModel
from vcorr.runner.index_lists import resolve_steps

LOOP = "level by level"
ONCE = "encoded once"
KEPT = "encoded before"
RANDOM = "random"
_PROMPT = "a red disk moves over a blue ground"


@dataclass(frozen=True)
class ClipSpeed:
    """How fast one way of running clips is.

    Attributes:
        way: `LOOP`; `ONCE`, where prompt and video are encoded once for all levels; "N in a pass", which also puts N
            levels into a pass; `KEPT`, where an earlier run of the process has encoded both.
        levels: number of noise levels of a clip.
        seconds, cpu_seconds: medians, per clip: on the clock, and of all threads of the process.
        ratio, cpu_ratio: medians over the rounds of these times / the times of `LOOP` in the same round.
        gib: peak memory on the device; NaN on a CPU.
        error: why nothing was measured; then the numbers are NaN or 0.
    """

    model: str
    device: str
    dtype: str
    probes: str
    way: str = ""
    levels: int = 0
    size: str = ""
    seconds: float = math.nan
    cpu_seconds: float = math.nan
    ratio: float = math.nan
    cpu_ratio: float = math.nan
    gib: float = math.nan
    error: str = ""

    @property
    def clips_per_hour(self) -> float:
        """Clips in an hour on the clock."""
        return 3600 / self.seconds


@dataclass(frozen=True)
class ClipBench:
    """What is measured. levels: of a clip. batches: numbers of levels in a pass. weights: as of `--weights`."""

    bench: Bench
    levels: int
    batches: Sequence[int]
    weights: str = RANDOM

    def run(self, say: Progress = say_nothing) -> list[ClipSpeed]:
        """Builds the model and times each way; a failure is in `error` of one row."""
        one = self.bench
        blank = ClipSpeed(one.model.entry.name, one.hardware.name, one.hardware.dtype, ", ".join(one.probes))
        rows: list[ClipSpeed] = []

        def measure() -> ClipSpeed:
            rows.extend(self._measure(blank, say))
            return blank

        failed = measure_or_explain(blank, one.hardware.device, measure)
        return rows or [failed]

    def _measure(self, blank: ClipSpeed, say: Progress) -> list[ClipSpeed]:
        say("building the network")
        model, hardware = self.bench.model.create(), self.bench.hardware
        if self.weights == RANDOM:
            build_model(model, hardware.device, hardware.dtype)
        else:
            model.load(hardware.device, hardware.dtype, self.weights)
        clip = _noise_clip(model, self.bench.options.points)
        ways = self._ways(model, clip)
        turns = time_in_turns(ways, model.device, self.bench.options.pairs, say)
        assert clip.video is not None  # made above
        made = replace(blank, levels=self.levels, size=" x ".join(map(str, clip.video.shape[:3])))
        return [_row(made, way, turns) for way in ways]

    def _ways(self, model: DiffusersVideoModel[Any], clip: Clip) -> Mapping[str, Callable[[], object]]:
        steps = resolve_steps(f"{self.levels}-spread", model.steps)
        settings = RunSettings("renoise", steps, model.steps)
        probes = {name: probe.create() for name, probe in self.bench.probes.items()}

        def read(settings: RunSettings, *, forget: bool = True) -> None:
            if forget:
                model.kept_inputs.forget()
            recorder = Recorder(probes, clip.queries, layers=self.bench.layers)
            model.run(clip, settings, recorder)
            recorder.answers  # noqa: B018  # brings them to the CPU

        def loop() -> None:
            for step in steps:
                read(replace(settings, steps=(step,)))

        batched = {
            f"{number} in a pass": partial(read, replace(settings, noise_batch=number)) for number in self.batches
        }
        # the last way runs after one that has encoded prompt and video
        return {LOOP: loop, ONCE: partial(read, settings), **batched, KEPT: partial(read, settings, forget=False)}


def _row(blank: ClipSpeed, way: str, turns: Turns) -> ClipSpeed:
    return replace(
        blank,
        way=way,
        seconds=turns.ms(way) / 1000,
        cpu_seconds=turns.cpu_ms(way) / 1000,
        ratio=turns.ratio(way, LOOP),
        cpu_ratio=turns.cpu_ratio(way, LOOP),
        gib=turns.gib(way),
    )


def _noise_clip(model: DiffusersVideoModel[Any], points: int) -> Clip:
    """Returns a clip of noise of the size that the model reads, with about `points` query points in a grid."""
    config = model.config
    shape = (config.frames, config.height, config.width, 3)
    video = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    queries = query_grid(max(round(points**0.5), 1), config.height, config.width)
    return replace(empty_clip(video), prompt=_PROMPT).with_queries(queries)
