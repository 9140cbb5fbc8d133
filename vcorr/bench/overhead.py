"""Times plain and probed passes of a model's denoiser in turns, and measures their memory."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vcorr.bench.random_models import Pass, build_model, empty_clip, one_pass
from vcorr.capture.captures import Capture
from vcorr.capture.recorder import Recorder
from vcorr.contract.errors import UsageError, VcorrError
from vcorr.data.query_grids import query_grid
from vcorr.diffusion import DiffusersVideoModel
from vcorr.functional.query_points import QueryPoints
from vcorr.plugins.registry import Registry
from vcorr.runner.hardware import Hardware, chosen_hardware
from vcorr.runner.index_lists import resolve_layers
from vcorr.runner.parts import Part, model_part, probe_parts
from vcorr.runner.peak_memory import device_peak, forget_peak
from vcorr.runner.spec import RunSpec

NOISE = 0.5
"""Told to the recorder; no probe's cost depends on it."""


@dataclass(frozen=True)
class BenchOptions:
    """points: query points, on a square grid. pairs: of a plain and a probed pass, after one pair to warm up.
    guidance: all branches that the pipeline runs in one batch, else the conditional one alone. keep_vae: the
    autoencoder stays in memory.
    """

    points: int = 400
    pairs: int = 5
    guidance: bool = True
    keep_vae: bool = False


@dataclass(frozen=True)
class Overhead:
    """What was measured of one model.

    size: of the video. tokens: of the attention sequence, text included. batch: guidance branches in the pass.
    parameters: of the denoiser. layers: those that are read. plain_ms, probed_ms: medians over the pairs. ratio: the
    median of the ratios within a pair. plain_gib, probed_gib: most memory allocated on the device during a pass,
    weights included; NaN on a CPU. build_s: seconds it took to make the weights. error: why nothing was measured; then
    the numbers are NaN or 0.
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
    """What is to be measured of one model; nothing is built yet.

    layers: those that are read.
    """

    model: Part
    probes: Mapping[str, Part]
    layers: frozenset[int]
    hardware: Hardware
    options: BenchOptions

    def run(self) -> Overhead:
        """Builds the model with random weights and times it. What goes wrong, a full device for instance, is told in
        `error`: the models measured before are not lost for it.
        """
        blank = Overhead(self.model.entry.name, self.hardware.name, self.hardware.dtype, ", ".join(self.probes))
        try:
            with torch.no_grad():
                return self._measured(blank)
        except torch.OutOfMemoryError as error:
            return replace(blank, error=f"out of memory: {str(error).splitlines()[0]}")
        except VcorrError as error:
            return replace(blank, error=error.message)
        finally:
            gc.collect()
            if torch.device(self.hardware.device).type == "cuda":
                torch.cuda.empty_cache()

    def _measured(self, blank: Overhead) -> Overhead:
        began = time.perf_counter()
        model = build_model(self.model.create(), self.hardware.device, self.hardware.dtype)
        one = one_pass(model, guidance=self.options.guidance, keep_vae=self.options.keep_vae)
        _settle(self.hardware.device)
        built = replace(blank, build_s=time.perf_counter() - began)
        made = {name: probe.create() for name, probe in self.probes.items()}
        return _compared(built, model, one, self.layers, made, self.options)


def make_bench(spec: RunSpec, registry: Registry, options: BenchOptions) -> Bench:
    """What `spec` names: model, probes, layers, device, dtype and options.

    Raises:
        UsageError: an unknown name, an option, layer or device that is not there, or a model that cannot be timed.
    """
    model = model_part(spec, registry)
    adapter: Any = model.create()
    if not isinstance(adapter, DiffusersVideoModel):
        raise UsageError(
            f"{model.entry.label} is no diffusers video model; there is nothing to build and time.",
            hint="See: vcorr list models",
        )
    sites = adapter.sites()
    adapter.grid(empty_clip(), None)  # sizes the model does not take are told before anything is built
    return Bench(
        model,
        {probe.entry.name: probe for probe in probe_parts(spec, registry, adapter)},
        frozenset(sites[index].layer for index in resolve_layers(spec.layers, len(sites))),
        chosen_hardware(spec),
        options,
    )


def _compared(
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

    def probed(asked: Mapping[str, Any]) -> None:
        recorder = Recorder(asked, queries, layers=layers)
        with recorder.attach(one.module, model.sites(), layout, grids), recorder.step(0, noise=NOISE):
            one()

    counting = _Tokens()
    probed({"tokens": counting})  # also warms the device up
    runs = [
        (_timed(one, model.device), _timed(partial(probed, probes), model.device)) for _ in range(options.pairs + 1)
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
    """Counts the tokens of the attention sequence; answers that nothing moves."""

    needs = frozenset({"k"})
    tokens = 0

    def read(self, capture: Capture, queries: QueryPoints) -> dict[int, Tensor]:
        self.tokens = capture.grid.tokens + capture.k_text.shape[1]
        return {-1: queries.xy[:, None].expand(-1, capture.grid.frames, -1)}


@dataclass(frozen=True)
class _Timed:
    ms: float
    gib: float


def _timed(run: Callable[[], None], device: str) -> _Timed:
    _settle(device)
    forget_peak(device)
    began = time.perf_counter()
    run()
    _settle(device)
    elapsed = 1000 * (time.perf_counter() - began)
    gib = device_peak(device)
    return _Timed(elapsed, math.nan if gib is None else gib)


def _settle(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
