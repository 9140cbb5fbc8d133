"""Times tracking against the network's own passes, in one process, taking turns.

Shape legend: T frames of a chunk, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vcorr.bench.measuring import Progress, measure_or_explain, say_nothing
from vcorr.bench.overhead import Bench
from vcorr.bench.random_models import NUM_STEPS, build_model
from vcorr.bench.timing import time_in_turns
from vcorr.capture.captures import Capture
from vcorr.capture.recorder import Recorder
from vcorr.contract.bases import ProbeBase
from vcorr.contract.errors import VcorrError
from vcorr.contract.records import NO_QUERIES, Clip, Queries, RunSettings
from vcorr.data.query_grids import query_grid
from vcorr.diffusion import DiffusersVideoModel
from vcorr.functional.query_points import QueryPoints
from vcorr.tracking.chunk_sizes import ChunkSizes
from vcorr.tracking.correspondence import CorrespondenceTracker
from vcorr.tracking.track_options import TrackOptions

STEP = NUM_STEPS - 1
"""The step that is run: the cleanest one. The number does not change what a pass costs."""


@dataclass(frozen=True)
class TrackingCost:
    """What tracking a clip costs in addition to the network's own passes.

    Attributes:
        layers: that are read.
        frames: T, frames of the clip, each encoded by itself.
        passes: number of passes of the network that the clip takes.
        points: number of query points, all in the first frame.
        network_ms: median time of these passes, each up to the last layer that is read, in milliseconds.
        track_ms: median time of the tracker, from the frames to the tracks; encoded frames are kept before.
        ratio: median over the pairs of the tracker's time / the network's time.
        error: why nothing was measured; then the numbers are NaN or 0.
    """

    model: str
    device: str
    dtype: str
    probe: str
    layers: tuple[int, ...] = ()
    frames: int = 0
    passes: int = 0
    points: int = 0
    network_ms: float = math.nan
    track_ms: float = math.nan
    ratio: float = math.nan
    error: str = ""


def measure_tracking(bench: Bench, passes: int = 4, say: Progress = say_nothing) -> TrackingCost:
    """Builds the model with random weights and times it; a failure is in `error`, so that other models are measured.

    Args:
        bench: model, one probe, layers, device, number of points and of pairs (`make_bench`).
        passes: of the network for the clip. A tracker prepares the next pass while a GPU computes. So a clip of several
            passes takes less for each.
        say: shows how far it is.
    """
    (name, part), *_ = bench.probes.items()
    blank = TrackingCost(bench.model.entry.name, bench.hardware.name, bench.hardware.dtype, name)

    def measure() -> TrackingCost:
        say("building the network")
        model = build_model(bench.model.create(), bench.hardware.device, bench.hardware.dtype)
        return _compare(blank, model, part.create(), bench, passes, say)

    return measure_or_explain(blank, bench.hardware.device, measure)


def middle_layer(bench: Bench) -> Bench:
    """Returns the measurement with the middle one of its layers alone."""
    layers = sorted(bench.layers)
    return replace(bench, layers=frozenset(layers[len(layers) // 2 : len(layers) // 2 + 1]))


def _compare(
    blank: TrackingCost,
    model: DiffusersVideoModel[Any],
    probe: Any,
    bench: Bench,
    passes: int,
    say: Progress,
) -> TrackingCost:
    options = TrackOptions(visibility="cycle")
    layers, settings = tuple(sorted(bench.layers)), RunSettings(steps=(STEP,), num_steps=NUM_STEPS)
    tracker = CorrespondenceTracker(model, probe, layers, settings, options)
    clip = _clip_of(model, layers, options, bench.options.points, passes)
    once = _run_network(model, clip, tracker, frozenset(probe.needs))
    plain, tracked = partial(_repeat, once, passes), partial(tracker.follow, clip)
    tracked()  # encodes the frames, and warms the device up
    turns = time_in_turns({"network": plain, "tracker": tracked}, model.device, bench.options.pairs, say)
    return replace(
        blank,
        layers=layers,
        frames=0 if clip.video is None else len(clip.video),
        passes=passes,
        points=len(clip.queries),
        network_ms=turns.ms("network"),
        track_ms=turns.ms("tracker"),
        ratio=turns.ratio("tracker", "network"),
    )


def _repeat(run: Callable[[], None], times: int) -> None:
    for _ in range(times):
        run()


def _clip_of(
    model: DiffusersVideoModel[Any], layers: tuple[int, ...], options: TrackOptions, points: int, passes: int
) -> Clip:
    """Returns a clip of random pixels that takes so many passes, with its query points in frame 0."""
    site = next((site for site in model.sites() if site.layer in layers), None)
    blank = Clip("bench", "", NO_QUERIES)
    grid = model.grid(blank, site)
    height, width = round(grid.height), round(grid.width)
    frames = 1 + passes * (ChunkSizes(model, site, options).size_for(blank) - 1)
    video = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    return replace(blank, video=video, queries=Queries.at(query_grid(max(round(points**0.5), 1), height, width)))


def _run_network(
    model: DiffusersVideoModel[Any], clip: Clip, tracker: CorrespondenceTracker, needs: frozenset[str]
) -> Callable[[], None]:
    """Returns what runs the network alone, up to the last layer that the tracker reads."""
    chunk = tracker.typical_chunk(clip)
    assert chunk.video is not None  # `_clip_of` has made it
    passes = model.borrow(chunk, model.grid(chunk, None), tracker.settings)
    inputs = passes.inputs(model.encode_clip(chunk, chunk.video), STEP)
    module, layout, grids = passes.module(STEP), model.layout(), partial(model.grid, chunk)

    def run() -> None:
        recorder = Recorder({"end": _Stop(needs, len(tracker.layers))}, NO_QUERIES, layers=set(tracker.layers))
        with (
            suppress(_EndError),
            recorder.attach(module, model.sites(), layout, grids),
            recorder.step(STEP, noise=0.1),
        ):
            module(**inputs)

    return run


class _EndError(VcorrError):
    """Ends a pass at the last layer that is read."""


class _Stop(ProbeBase):
    """Reads nothing, and ends the pass at the last layer."""

    def __init__(self, needs: frozenset[str], layers: int) -> None:
        self.needs, self._left = needs, max(1, layers)

    def read(self, capture: Capture, queries: QueryPoints) -> dict[int, Tensor]:
        self._left -= 1
        if not self._left:
            raise _EndError("The last layer was reached.")
        return {-1: torch.zeros(0, capture.grid.frames, 2)}
