"""Holds `vcorr.record`: probes on a pipeline of the user's own, without plugin or runner (docs/cookbook/record.md).

Shape legend: N query points, F latent frames, T video frames, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
import torch

from vcorr.capture.modules import find_all, run_eagerly
from vcorr.capture.passes import Pass, PassListener, PassWatch, describe_passes
from vcorr.capture.recorder import Recorder
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.protocols import Probe
from vcorr.contract.records import Prediction, Queries, RowsPrediction, Site
from vcorr.contract.variants import DEFAULT_VARIANT
from vcorr.data.query_grids import query_grid
from vcorr.notebook.index_arguments import read_index_argument
from vcorr.notebook.layouts import Layout, Placement, place_by_hand, place_by_plugin
from vcorr.runner.parts import make_part
from vcorr.runner.scored_variants import Readings, readings_of, run_variants

QUERY_SIDE = 20
"""Default number of query points along each side of the frame: the paper's grid for videos of objects."""

Noise = Sequence[float] | Callable[[int], float]


def record(
    module: Any,
    *,
    layout: Layout | str,
    probes: str | Sequence[str] | Mapping[str, Probe],
    layers: Collection[int] | None = None,
    queries: Any = None,
    grid: TokenGrid | None = None,
    size: tuple[int, int, int] | None = None,
    steps: Collection[int] | None = None,
    noise: Noise | None = None,
    variant: str = DEFAULT_VARIANT.text,
) -> Recording:
    """Runs probes at the attention of a model while the block runs the model in any way.

    ::

        with vcorr.record(pipe.transformer, layout="cogvideox", probes=["qk"], layers=[17]) as rec:
            pipe(prompt)
        rec.predictions  # one per layer and step

    Every conditional pass is one step, counted from 0, whichever of several denoisers runs it. A pass is conditional
    unless the pipeline labels it differently, ``cache_context("uncond")``, or the layout's `passes` assigns another
    branch to it. A batch of branches is one pass. `Recording.passes` counts the passes of every branch, read or not.

    Args:
        module: the denoiser, compiled or not, or several that take turns, in a list. With a plugin's layout also the
            whole diffusers pipeline, which shows all its denoisers and the sizes of its autoencoder.
        layout: where the tokens are, as a `vcorr.Layout`, or the name of a model that vcorr knows.
        probes: names as in `vcorr list probes`, or probes by the names that their predictions will carry.
        layers: indices of the sites to read; None for all.
        queries: (N, 2) pixels (x, y) in frame 0, (N, 3) rows of (t, x, y), or a `vcorr.Queries`. None: a grid of 20 x
            20 points over frame 0.
        grid: how the tokens lie over the video, with a plugin's layout. None: it comes from `size`, or from the latents
            that the pipeline gives to the denoiser.
        size: (T, H, W) of the generated video, with a plugin's layout, for models whose latents do not show it.
        steps: the steps to read; None for all.
        noise: sigma / (alpha + sigma) in [0, 1] of every step, by index or as a function of the index; NaN if None.
        variant: as `--set variant=` takes it: "corrected", "difftrack", "both", or one with switches flipped
            (docs/switches.md). Every prediction names its variant. With several variants there is one prediction for
            each that reads differently.

    Raises:
        UsageError: an argument cannot be used; the message names it. Some errors come only when the model first runs,
            or at the end of the block, if a chosen step never ran.
        CaptureError: as `vcorr.capture.Recorder` raises it.
    """
    if isinstance(layout, str):
        placement = place_by_plugin(module, layout, grid=grid, size=size)
    else:
        if grid is not None or size is not None:
            raise UsageError("record(): a vcorr.Layout has its own grid.", hint="Leave out grid and size.")
        placement = place_by_hand(module, layout)
    made = _make_probes(probes)
    readings = readings_of(run_variants(variant), made)
    return Recording(placement, made, layers=layers, queries=queries, steps=steps, noise=noise, readings=readings)


class Recording(PassListener):
    """The result of `vcorr.record`: a block to run the model in, and the predictions from it."""

    def __init__(
        self,
        placement: Placement,
        probes: Mapping[str, Probe],
        *,
        layers: Collection[int] | None,
        queries: Any,
        steps: Collection[int] | None,
        noise: Noise | None,
        readings: Readings,
    ) -> None:
        self._placement = placement
        self._probes = probes
        self._layers = _indices("layers", layers)
        self._points = None if queries is None else _points(queries)
        self._chosen = _indices("steps", steps)
        self._noise = noise
        self._readings = readings
        self._open, self._step = ExitStack(), ExitStack()
        self._recorder: Recorder | None = None
        self._watch = PassWatch(placement.modules, placement.layout)
        self._steps = 0
        self._used = False

    @property
    def predictions(self) -> list[Prediction]:
        """The predicted positions: one record per step, layer, probe and head."""
        return [] if self._recorder is None else self._recorder.predictions

    @property
    def rows(self) -> list[RowsPrediction]:
        """The attention summaries of the probe `attention`: one record per step, layer and head."""
        return [] if self._recorder is None else self._recorder.rows

    @property
    def sites(self) -> tuple[Site, ...]:
        """The attention modules, by layer."""
        return self._placement.sites

    @property
    def grid(self) -> TokenGrid:
        """How the tokens lie over the video.

        Raises:
            UsageError: the model has not run yet, and only its latents show the grid.
        """
        if self._placement.grid is None:
            raise UsageError("The grid is known once the model has run.", hint="Or give grid= or size= to record().")
        return self._placement.grid

    @property
    def queries(self) -> Queries:
        """The query points, each with its frame."""
        if self._points is None:
            self._points = Queries.at(query_grid(QUERY_SIDE, round(self.grid.height), round(self.grid.width)))
        return self._points

    @property
    def steps(self) -> int:
        """Number of steps that the model has run, read or not."""
        return self._steps

    @property
    def passes(self) -> dict[str, int]:
        """Number of passes of each guidance branch so far, by the branch's name."""
        return dict(self._watch.seen)

    def __enter__(self) -> Recording:
        if self._used:
            raise UsageError("A recording can be used only once.", hint="Call vcorr.record(...) again.")
        self._used = True
        names = ["", *(site.name for site in self._placement.sites)]
        compiled = [find_all(module, names)[1] for module in self._placement.modules]
        with ExitStack() as stack:
            stack.enter_context(run_eagerly(compiled=any(compiled)))
            stack.enter_context(self._watch)
            stack.enter_context(self._watch.listen(self))
            self._watch.start(counted=True)
            if self._placement.grid is not None:
                self._attach(stack)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        mine = None if kind is not None else self._find_fault()
        if mine is not None:
            kind, error = type(mine), mine
        self._step.__exit__(kind, error, trace)
        self._open.__exit__(kind, error, trace)
        if mine is not None:
            raise mine

    def _find_fault(self) -> UsageError | None:
        """Returns the error for a block in which a chosen step or a declared pass did not come, else None."""
        name = self._placement.name
        if not self._steps:
            return UsageError(
                f"record(): {name} ran no conditional pass inside the block; {describe_passes(self._watch)}.",
                hint="Give record() the module that the pipeline itself calls, and run the pipeline inside the block, "
                "in the same thread. Layout.passes says which pass is the conditional one.",
            )
        lacking = self._watch.unfinished
        if lacking:
            passes = self._placement.layout.passes
            return UsageError(
                f"record(): Layout.passes declares {len(passes)} passes per step, {', '.join(passes)}; {lacking} of "
                f"them did not come in the last step, so {name} runs them in another way.",
                hint="Pipelines that switch guidance on or off during sampling have to label their passes: "
                "with denoiser.cache_context('cond').",
            )
        missing = sorted(step for step in self._chosen or () if step >= self._steps)
        if missing:
            return UsageError(f"record(): step {missing[0]} never ran; {name} ran {self._steps} steps, counted from 0.")
        return None

    # --------------------------------------------------------------------------------------------------------- running

    def pass_begins(self, now: Pass) -> None:
        """Opens a step for a conditional pass of a chosen step."""
        if not now.conditional:
            return
        step = self._steps
        self._steps += 1
        if self._chosen is not None and step not in self._chosen:
            return
        self._placement = self._placement.measure(now.args, now.kwargs)
        if self._recorder is None:
            self._attach(self._open)
        assert self._recorder is not None  # just attached
        self._step.enter_context(self._recorder.step(step, noise=self._level(step)))

    def pass_ends(self, now: Pass, *, failed: bool) -> None:
        """Ends the step of a conditional pass."""
        if failed:  # drop what the step has read, because the pass may run again
            self._steps -= now.conditional
            self._step.__exit__(_FailedPassError, _FailedPassError(), None)
        else:
            self._step.close()

    def _attach(self, stack: ExitStack) -> None:
        placement = self._placement
        recorder = Recorder(self._probes, self.queries, layers=self._layers, variants=self._readings)
        stack.enter_context(
            recorder.attach(
                placement.modules,
                placement.sites,
                placement.layout,
                placement.grid_at,
                watch=self._watch,
                latents=placement.latents,
            )
        )
        self._recorder = recorder

    def _level(self, step: int) -> float:
        if self._noise is None:
            return math.nan
        if callable(self._noise):
            return float(self._noise(step))
        if step >= len(self._noise):
            raise UsageError(f"record(): noise has {len(self._noise)} levels, but the model runs step {step} (from 0).")
        return float(self._noise[step])


class _FailedPassError(Exception):
    """Ends the recorder's step after a pass that raised; its own exception is on its way already."""


def _make_probes(probes: str | Sequence[str] | Mapping[str, Probe]) -> dict[str, Probe]:
    if isinstance(probes, Mapping):
        made = dict(probes)
    else:
        from vcorr.plugins.registry import installed

        registry = installed()
        names = [probes] if isinstance(probes, str) else list(probes)
        made = {name: make_part(registry.probes.get(name), {}, "probe").create() for name in names}
    if not made:
        raise UsageError("record(): no probe was given.", hint='For example: probes=["qk"]')
    return made


def _points(queries: Any) -> Queries:
    if isinstance(queries, Queries):
        points = queries
    else:
        try:
            points = Queries.of(np.asarray(queries.detach().cpu() if isinstance(queries, torch.Tensor) else queries))
        except (ValueError, UsageError) as error:  # ragged rows; another shape
            raise UsageError(
                f"record(): {error.message if isinstance(error, UsageError) else error}",
                hint="queries=[[x, y], ...] in pixels of frame 0, rows of [t, x, y], or a vcorr.Queries.",
            ) from error
    if not len(points):
        raise UsageError("record(): there are no queries.", hint="Leave queries out for a grid of points.")
    return points


def _indices(name: str, values: Collection[int] | None) -> frozenset[int] | None:
    return None if values is None else frozenset(read_index_argument("record()", name, values))
