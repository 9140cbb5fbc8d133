"""Times plain and probed passes of a model's denoiser, taking turns, and measures their memory."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vcorr.bench.random_models import Pass, build_model, empty_clip, one_pass
from vcorr.bench.timing import settle, time_run
from vcorr.capture.captures import Capture
from vcorr.capture.recorder import Recorder
from vcorr.contract.errors import UsageError, VcorrError
from vcorr.data.query_grids import query_grid
from vcorr.diffusion import DiffusersVideoModel
from vcorr.functional.query_points import QueryPoints
from vcorr.plugins.registry import Registry
from vcorr.runner.gaps import Gaps
from vcorr.runner.hardware import Hardware, choose_hardware
from vcorr.runner.index_lists import resolve_layers
from vcorr.runner.parts import Part, model_part, probe_parts
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

    def run(self) -> Overhead:
        """Builds the model with random weights and times it.

        A failure, such as a lack of device memory, is reported in `error`. It is not raised, so that the results of
        other models are kept.
        """
        blank = Overhead(self.model.entry.name, self.hardware.name, self.hardware.dtype, ", ".join(self.probes))
        try:
            with torch.no_grad():
                return self._measure(blank)
        except torch.OutOfMemoryError as error:
            return replace(blank, error=f"out of memory: {str(error).splitlines()[0]}")
        except VcorrError as error:
            return replace(blank, error=error.message)
        finally:
            gc.collect()
            if torch.device(self.hardware.device).type == "cuda":
                torch.cuda.empty_cache()

    def _measure(self, blank: Overhead) -> Overhead:
        began = time.perf_counter()
        model = build_model(self.model.create(), self.hardware.device, self.hardware.dtype)
        one = one_pass(model, guidance=self.options.guidance, keep_vae=self.options.keep_vae)
        settle(self.hardware.device)
        built = replace(blank, build_s=time.perf_counter() - began)
        probes = {name: probe.create() for name, probe in self.probes.items()}
        return _compare(built, model, one, self.layers, probes, self.options)


def make_bench(spec: RunSpec, registry: Registry, options: BenchOptions) -> Bench:
    """Makes the measurement that `spec` describes: model, probes, layers, device, dtype and options.

    Raises:
        UsageError: a name is unknown, an option, layer or device does not exist, or the model cannot be timed.
    """
    model = model_part(spec, registry)
    adapter: Any = model.create()
    if not isinstance(adapter, DiffusersVideoModel):
        raise UsageError(
            f"{model.entry.label} is not a diffusers video model, so there is no denoiser to build and time.",
            hint="See: vcorr list models",
        )
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
    runs = [
        (time_run(one, model.device), time_run(partial(run_probed, probes), model.device))
        for _ in range(options.pairs + 1)
    ]
    pairs = runs[1:]
    return replace(
        blank,
        points=len(queries),
        size=f"{grid.video_frames} x {grid.height:.0f} x {grid.width:.0f}",
        tokens=counting.tokens,
        batch=one.batch,
        parameters=sum(parameter.numel() for parameter in one.module.parameters()),
        layers=len(layers),
        plain_ms=statistics.median(plain.ms for plain, _ in pairs),
        probed_ms=statistics.median(other.ms for _, other in pairs),
        ratio=statistics.median(other.ms / plain.ms for plain, other in pairs),
        plain_gib=max(plain.gib for plain, _ in pairs),
        probed_gib=max(other.gib for _, other in pairs),
    )


class _Tokens:
    """Counts the tokens of the attention sequence; predicts that nothing moves."""

    needs = frozenset({"k"})
    tokens = 0

    def read(self, capture: Capture, queries: QueryPoints) -> dict[int, Tensor]:
        self.tokens = capture.grid.tokens + capture.k_text.shape[1]
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}
