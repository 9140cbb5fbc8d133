"""Times plain and probed passes of a model's denoiser, taking turns, and measures their memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from vcorr.bench.measuring import Progress, choose_model, measure_or_explain, say_nothing
from vcorr.bench.random_models import Pass, build_model, empty_clip, one_pass
from vcorr.bench.timing import settle, time_in_turns
from vcorr.capture.captures import Capture
from vcorr.capture.recorder import Recorder
from vcorr.data.query_grids import query_grid
from vcorr.diffusion import DiffusersVideoModel
from vcorr.functional.query_points import QueryPoints
from vcorr.plugins.registry import Registry
from vcorr.runner.gaps import Gaps
from vcorr.runner.hardware import Hardware, choose_hardware
from vcorr.runner.index_lists import resolve_layers
from vcorr.runner.parts import Part, probe_parts
from vcorr.runner.spec import RunSpec

NOISE = 0.5
"""Noise level that is passed to the recorder; no probe's cost depends on it."""


@dataclass(frozen=True)
class BenchOptions:
    """Options of a measurement.

    Attributes:
        points: number of query points; they form a square grid.
        pairs: pairs of one plain and one probed pass that are timed, after one pair to warm up.
        guidance: run all branches that the pipeline puts into one batch, else only the conditional branch.
        keep_vae: keep the autoencoder in memory.
    """

    points: int = 400
    pairs: int = 5
    guidance: bool = True
    keep_vae: bool = False


@dataclass(frozen=True)
class Overhead:
    """What was measured for one model.

    Attributes:
        size: frames x height x width of the video, in pixels.
        tokens: length of the attention sequence, text included.
        batch: number of guidance branches in the pass.
        parameters: number of the denoiser's parameters.
        layers: number of layers that are probed.
        build_s: seconds that it took to create the weights.
        plain_ms, probed_ms: medians over the pairs, in milliseconds.
        ratio: median over the pairs of probed time / plain time.
        plain_gib, probed_gib: peak memory allocated on the device during a pass, weights included; NaN on a CPU.
        error: why nothing was measured; then the numbers are NaN or 0.
    """

    model: str
    device: str
    dtype: str
    probes: str
    points: int = 0
    size: str = ""
    tokens: int = 0
    batch: int = 0
    parameters: int = 0
    layers: int = 0
    build_s: float = math.nan
    plain_ms: float = math.nan
    probed_ms: float = math.nan
    ratio: float = math.nan
    plain_gib: float = math.nan
    probed_gib: float = math.nan
    error: str = ""


@dataclass(frozen=True)
class Bench:
    """What is to be measured for one model; nothing is built yet.

    layers: indices of the layers that are probed.
    """

    model: Part
    probes: Mapping[str, Part]
    layers: frozenset[int]
    hardware: Hardware
    options: BenchOptions

    def run(self, say: Progress = say_nothing) -> Overhead:
        """Builds the model with random weights and times it; a failure is in `error`, so that others are measured."""
        blank = Overhead(self.model.entry.name, self.hardware.name, self.hardware.dtype, ", ".join(self.probes))
        return measure_or_explain(blank, self.hardware.device, lambda: self._measure(blank, say))

    def _measure(self, blank: Overhead, say: Progress) -> Overhead:
        say("building the network")
        began = time.perf_counter()
        model = build_model(self.model.create(), self.hardware.device, self.hardware.dtype)
        one = one_pass(model, guidance=self.options.guidance, keep_vae=self.options.keep_vae)
        settle(self.hardware.device)
        built = replace(blank, build_s=time.perf_counter() - began)
        probes = {name: probe.create() for name, probe in self.probes.items()}
        return _compare(built, model, one, self.layers, probes, self.options, say)


def make_bench(spec: RunSpec, registry: Registry, options: BenchOptions) -> Bench:
    """Makes the measurement that `spec` describes: model, probes, layers, device, dtype and options.

    Raises:
        UsageError: a name is unknown, an option, layer or device does not exist, or the model cannot be timed.
    """
    model, adapter = choose_model(spec, registry)
    sites = adapter.sites()
    adapter.grid(empty_clip(), None)  # raises for a size that the model does not take, before anything is built
    return Bench(
        model,
        {probe.entry.name: probe for probe in probe_parts(spec, registry, adapter)},
        frozenset(sites[index].layer for index in resolve_layers(spec.layers, len(sites))),
        choose_hardware(spec, Gaps()),
        options,
    )


def _compare(
    blank: Overhead,
    model: DiffusersVideoModel[Any],
    one: Pass,
    layers: frozenset[int],
    probes: Mapping[str, Any],
    options: BenchOptions,
    say: Progress,
) -> Overhead:
    clip = empty_clip()
    grid = model.grid(clip, None)
    queries = query_grid(max(round(options.points**0.5), 1), round(grid.height), round(grid.width))
    layout, grids = model.layout(), partial(model.grid, clip)

    def run_probed(chosen: Mapping[str, Any]) -> None:
        recorder = Recorder(chosen, queries, layers=layers)
        with recorder.attach(one.module, model.sites(), layout, grids), recorder.step(0, noise=NOISE):
            one()

    counting = _Tokens()
    run_probed({"tokens": counting})  # also warms the device up
    runs: dict[str, Callable[[], object]] = {"plain": one, "probed": partial(run_probed, probes)}
    turns = time_in_turns(runs, model.device, options.pairs, say)
    return replace(
        blank,
        points=len(queries),
        size=f"{grid.video_frames} x {grid.height:.0f} x {grid.width:.0f}",
        tokens=counting.tokens,
        batch=one.batch,
        parameters=sum(parameter.numel() for parameter in one.module.parameters()),
        layers=len(layers),
        plain_ms=turns.ms("plain"),
        probed_ms=turns.ms("probed"),
        ratio=turns.ratio("probed", "plain"),
        plain_gib=turns.gib("plain"),
        probed_gib=turns.gib("probed"),
    )


class _Tokens:
    """Counts the tokens of the attention sequence; predicts that nothing moves."""

    needs = frozenset({"k"})
    tokens = 0

    def read(self, capture: Capture, queries: QueryPoints) -> dict[int, Tensor]:
        self.tokens = capture.grid.tokens + capture.k_text.shape[1]
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}
