"""The recorder: what a model adapter is handed, and where the probes' answers end up.

Shape legend: N query points, F latent frames, T video frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from vcorr.capture.block_outputs import watch_outputs
from vcorr.capture.captures import TokenLayout
from vcorr.capture.latent_sizes import check_latents
from vcorr.capture.modules import denoisers_of, shorten
from vcorr.capture.needs import POSITIONS, UNROTATED, check_sites
from vcorr.capture.passes import Pass, PassListener, PassWatch, arrived
from vcorr.capture.positions import watch_positions
from vcorr.capture.predictions import Answer, probe_needs, to_records
from vcorr.capture.split import check_layout
from vcorr.capture.step_reader import Asked, StepReader, Watched
from vcorr.capture.tap import AttentionCall, Tap, observing
from vcorr.contract.errors import CaptureError, PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.probe_protocols import Probe
from vcorr.contract.records import (
    NO_SITE,
    Attention,
    Prediction,
    Queries,
    Readout,
    Reconstruction,
    RowsPrediction,
    Site,
)
from vcorr.contract.variants import DEFAULT_VARIANT, NamedVariant
from vcorr.functional.query_points import QueryPoints

DIRECT = "direct"
"""The probe named in answers that a model gave itself, without attention."""


class Recorder:
    """Reads the probes at the attention sites of a running model; one recorder a clip.

    The adapter's part, in `run(clip, settings, recorder)`::

        with recorder.attach(self.transformer, self.sites(), TokenLayout("before", ("uncond", "cond")), grid):
            for step in settings.steps:
                with recorder.step(step, noise=0.5):
                    self.transformer(...)

    What runs inside `attach` but outside `step` is not read. Nothing waits for the device before `predictions` is asked
    for.

    Args:
        probes: by the name their predictions carry. Without any, nothing is tapped.
        queries: of the clip, or (N, 2) pixels (x, y) in frame 0.
        layers: the layers to tap; None for all.
        on_step: called as each step ends, for progress.
        variants: under which a probe is asked, by its name; `corrected` when it is not there.

    Attributes:
        reconstruction: set by adapters in mode `invert`: how well the inverted latents give the video again.

    Raises:
        UsageError: the queries have another shape or are not finite.
        PluginError: a probe needs something that cannot be had.
    """

    def __init__(
        self,
        probes: Mapping[str, Probe],
        queries: Queries | NDArray[np.float32],
        *,
        layers: Collection[int] | None = None,
        on_step: Callable[[], None] | None = None,
        variants: Mapping[str, Sequence[NamedVariant]] | None = None,
    ) -> None:
        self.reconstruction: Reconstruction | None = None
        self._on_step = on_step
        made = dict(probes)
        self._queries = _checked_queries(queries)
        self._asked = Asked(
            made,
            {name: probe_needs(name, probe) for name, probe in made.items()},
            {name: (variants or {}).get(name, (DEFAULT_VARIANT,)) for name in made},
            _points(self._queries),
        )
        self._layers = None if layers is None else frozenset(layers)
        self._fitting: set[TokenGrid] = set()
        self._watched: Watched | None = None
        self._step: StepReader | None = None
        self._steps_done: set[int] = set()
        self._answers: list[Answer] = []
        self._masks: list[Tensor] = []
        self._records: list[Prediction | RowsPrediction] = []
        self._noise_frames: dict[int, NDArray[np.float32] | None] = {}

    # -------------------------------------------------------------------------------------------------------- adapters

    @contextmanager
    def attach(
        self,
        denoisers: nn.Module | Sequence[nn.Module],
        sites: Sequence[Site],
        layout: TokenLayout,
        grid: TokenGrid | Callable[[Site], TokenGrid],
        *,
        watch: PassWatch | None = None,
    ) -> Iterator[None]:
        """Taps the chosen layers of a denoiser while the block runs.

        Args:
            denoisers: the denoiser, or several that take turns; the names of the sites are paths inside each.
            sites: all attention sites of the model, by ascending layer.
            layout: where the text tokens and the guidance branches are.
            grid: of all sites, or a function of the site.
            watch: of the denoisers' passes, where one is open already.

        Raises:
            UsageError: something is no module, a chosen layer does not exist, a query lies outside the grid, or a probe
                reads what a site does not say where to find.
            CaptureError: a site's module does not exist, its attention could not be seen, no step ran, or blocks are
                nested.
            PluginError: sites or layout contradict themselves.
        """
        if self._watched is not None:
            raise CaptureError("recorder.attach() is open already: attach one denoiser after the other.")
        check_layout(layout)
        modules = denoisers_of(denoisers, "recorder.attach()")
        chosen = self._chosen_sites(sites, grid, type(modules[0]).__name__)
        before = len(self._steps_done)
        with ExitStack() as stack:
            self._watched = self._watch(stack, modules, layout, chosen, watch)
            stack.callback(setattr, self, "_watched", None)
            yield
        if self._asked.probes and len(self._steps_done) == before:
            raise CaptureError(
                "recorder.attach() was left without a single recorder.step().",
                hint="Run every chosen step of the denoiser inside 'with recorder.step(step, noise=...)'.",
            )

    @property
    def watch(self) -> PassWatch:
        """The passes of the attached denoisers: step, guidance branch and denoiser of each.

        Raises:
            CaptureError: nothing is attached.
        """
        if self._watched is None:
            raise CaptureError("recorder.watch needs a recorder.attach() around it.")
        return self._watched.watch

    @contextmanager
    def step(self, step: int, *, noise: float | Sequence[float] = math.nan) -> Iterator[None]:
        """One denoising step: every tapped site has to run exactly once for the conditional branch.

        Sites whose rows hold a frame each may run several times instead, for some of the frames, in their order.

        Args:
            step: 0-based index into the scheduler's timesteps; -1 for a model without noise, which has no steps.
            noise: sigma / (alpha + sigma) in [0, 1], NaN for a model without noise. F values where latent frames have
                noise of their own: predictions keep them, and as their noise the mean over the target latents, all but
                the one that holds every query.

        Raises:
            CaptureError: a site ran twice or not at all, its attention could not be seen, the step was recorded before,
                or the block is not inside `attach`.
            PluginError: step or noise is out of range.
        """
        level, frames = self._levels(step, noise)
        watched = self._begin(step, level)
        self._noise_frames[int(step)] = frames
        self._step = now = StepReader(int(step), level, watched, self._asked)
        try:
            with watched.watch.at(now.index):
                yield
        finally:
            self._step = None
        self._finish(now, watched)

    def answer(
        self,
        xy: ArrayLike,
        grid: TokenGrid,
        *,
        name: str = "",
        readout: Readout = "token",
        attention: Attention = "none",
    ) -> None:
        """Hands in positions that come from no attention site, as baselines do: layer = step = -1, probe "direct".

        Args:
            xy: (N, F, 2) pixels, F the latent frames of `grid`; the query itself in the latent of its frame.
            grid: the latent times, and the token size the ceiling is taken at.
            readout: "token" when only whole-token motions can be answered, "free" when any position can.
            attention: what the model's tokens can see.
            name: what the answer came from, kept as the prediction's layer_name.

        Raises:
            PluginError: the shape is another, or a position is not finite.
        """
        positions = np.array(xy, dtype=np.float32)
        if positions.shape != (len(self._queries), grid.frames, 2):
            raise PluginError(
                f"recorder.answer(): {len(self._queries)} queries and {grid.frames} latent frames need shape "
                f"{(len(self._queries), grid.frames, 2)}, got {positions.shape}."
            )
        if not np.isfinite(positions).all():
            raise PluginError("recorder.answer(): a position is NaN or infinite.")
        self._collect()
        self._records.append(Prediction(DIRECT, positions, grid, layer_name=name, readout=readout, attention=attention))

    # --------------------------------------------------------------------------------------------------------- results

    @property
    def answers(self) -> list[Prediction | RowsPrediction]:
        """All that was answered so far, in order of execution, brought to the CPU on first use.

        Raises:
            NumericalError: a probe answered NaN or infinity.
            CaptureError: rows were read of attention whose mask hides more than text, so that they are not the model's.
        """
        self._collect()
        return list(self._records)

    @property
    def predictions(self) -> list[Prediction]:
        """The positions among the answers."""
        return [record for record in self.answers if isinstance(record, Prediction)]

    @property
    def rows(self) -> list[RowsPrediction]:
        """The attention rows among the answers."""
        return [record for record in self.answers if isinstance(record, RowsPrediction)]

    def _collect(self) -> None:
        by_device: dict[torch.device, list[Tensor]] = {}
        for plain in self._masks:
            by_device.setdefault(plain.device, []).append(plain)
        if not all(bool(torch.stack(group).all()) for group in by_device.values()):
            raise CaptureError(
                "The attention mask hides video tokens, or not the same text from every video token and head; rows of "
                "such attention cannot be read.",
                hint="Leave out the probe 'attention' for this model.",
            )
        self._masks.clear()
        self._records.extend(
            replace(record, noise_frames=self._noise_frames[record.step]) for record in to_records(self._answers)
        )
        self._answers.clear()

    # ---------------------------------------------------------------------------------------------------------- checks

    def _chosen_sites(
        self, sites: Sequence[Site], grid: TokenGrid | Callable[[Site], TokenGrid], model: str
    ) -> dict[str, tuple[Site, TokenGrid]]:
        """The sites that are read, each with its grid, by name."""
        read = self._choose(sites)
        check_sites(self._asked.needs, read, model)
        chosen = {site.name: (site, grid if isinstance(grid, TokenGrid) else grid(site)) for site in read}
        for _, site_grid in chosen.values():
            self._check_inside(site_grid)
        return chosen

    def _watch(
        self,
        stack: ExitStack,
        modules: Sequence[nn.Module],
        layout: TokenLayout,
        chosen: Mapping[str, tuple[Site, TokenGrid]],
        watch: PassWatch | None,
    ) -> Watched:
        """Opens all that is watched on the modules."""
        asked, read = self._asked, [site for site, _ in chosen.values()]
        blocks, unrotated = self._blocks(read), self._unrotated(read)
        placed = list(chosen.values()) if asked.want(POSITIONS.keys()) else []
        passes = watch or stack.enter_context(PassWatch(modules, layout))
        stack.enter_context(passes.listen(_LatentsFit(modules, [grid for _, grid in chosen.values()])))
        taps = []
        for module in modules:
            taps.append(stack.enter_context(Tap(module, chosen if asked.calling else (), observing(self._see_call))))
            stack.enter_context(watch_outputs(module, {**blocks, **unrotated}, self._see_output))
            stack.enter_context(watch_positions(module, placed, layout, self._reading, self._see_positions))
        return Watched(passes, taps, layout, chosen, blocks, unrotated)

    def _choose(self, sites: Sequence[Site]) -> list[Site]:
        layers, names = [site.layer for site in sites], [site.name for site in sites]
        if layers != sorted(set(layers)) or len(set(names)) != len(names):
            raise PluginError("Sites must have ascending layers and different names, without repetition.")
        if self._layers is None:
            return list(sites)
        unknown = sorted(self._layers.difference(layers))
        if unknown:
            raise UsageError(
                f"The model has no layer {shorten([str(layer) for layer in unknown])}.",
                hint=f"It has {len(layers)} layers" + (f", {layers[0]} to {layers[-1]}." if layers else "."),
            )
        return [site for site in sites if site.layer in self._layers]

    def _check_inside(self, grid: TokenGrid) -> None:
        if grid not in self._fitting:
            grid.check_inside(self._queries.xy)
            grid.latents_at(self._queries.t)
            self._fitting.add(grid)

    def _blocks(self, sites: Sequence[Site]) -> dict[str, list[str]]:
        """The sites of each block whose output a probe reads."""
        blocks: dict[str, list[str]] = {}
        for site in sites if self._asked.hiding else ():
            blocks.setdefault(site.block, []).append(site.name)
        return blocks

    def _unrotated(self, sites: Sequence[Site]) -> dict[str, tuple[str, str]]:
        """The site, and "q" or "k", of each module whose output a probe reads before the rotary embedding."""
        parts = sorted(UNROTATED[part] for part in self._asked.all_needs & UNROTATED.keys())
        return {f"{site.name}.{getattr(site.unrotated, part)}": (site.name, part) for site in sites for part in parts}

    def _levels(self, step: int, noise: float | Sequence[float]) -> tuple[float, NDArray[np.float32] | None]:
        """The noise of a step as one number, and where latent frames differ (F,) of each: their mean over the target
        latents is the one number then.
        """
        if not isinstance(noise, (Sequence, np.ndarray)):
            return float(noise), None
        levels = np.asarray(noise, dtype=np.float32)
        grids = {grid for _, grid in self._watched.sites.values()} if self._watched else set()
        frames = sorted({grid.frames for grid in grids})
        if levels.ndim != 1 or not ((levels >= 0) & (levels <= 1)).all() or any(len(levels) != f for f in frames):
            wanted = " or ".join(map(str, frames)) or "F"
            raise PluginError(
                f"recorder.step({step}): noise of each latent frame must be {wanted} values sigma/(alpha + sigma) in "
                f"[0, 1], got {noise!r}."
            )
        asked = {int(latent) for grid in grids for latent in np.unique(grid.latents_at(self._queries.t))}
        targets = np.delete(levels, asked.pop()) if len(asked) == 1 and len(levels) > 1 else levels
        return float(targets.mean(dtype=np.float64)), levels

    def _begin(self, step: int, noise: float) -> Watched:
        if self._watched is None:
            raise CaptureError("recorder.step() needs a recorder.attach() around it.")
        if self._step is not None:
            raise CaptureError(f"recorder.step({step}) is inside recorder.step({self._step.index}).")
        if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or step < NO_SITE:
            raise PluginError(f"recorder.step(): step must be a whole number of at least 0, got {step!r}.")
        if step == NO_SITE and not math.isnan(noise):
            raise PluginError(
                f"recorder.step(-1) is for models without noise; noise must be NaN, got {noise!r}.",
                hint="Steps count from 0, the noisiest.",
            )
        if not (math.isnan(noise) or 0 <= noise <= 1):
            raise PluginError(
                f"recorder.step({step}): noise must be sigma/(alpha + sigma) in [0, 1] or NaN, got {noise!r}."
            )
        if step in self._steps_done:
            raise CaptureError(f"Step {step} was recorded before; a recorder takes each step of one clip once.")
        return self._watched

    def _finish(self, now: StepReader, watched: Watched) -> None:
        for tap in watched.taps:
            tap.check()
        missing = now.missing()
        if missing and not now.anything:
            raise CaptureError(
                f"Step {now.index}: none of the {len(missing)} tapped modules ran for the conditional branch; "
                f"{arrived(watched.watch)}.",
                hint="Run the denoiser given to recorder.attach() inside recorder.step(), in the same thread; "
                "TokenLayout.branches and TokenLayout.passes say which pass is the conditional one.",
            )
        if missing:
            raise CaptureError(f"Step {now.index}: {len(missing)} tapped module(s) did not run: {shorten(missing)}.")
        self._steps_done.add(now.index)
        self._answers.extend(now.answers)
        self._masks.extend(now.masks)
        if self._on_step is not None:
            self._on_step()

    # --------------------------------------------------------------------------------------------------------- reading

    def _see_call(self, call: AttentionCall) -> None:
        if self._step is not None:
            self._step.see_call(call)

    def _reading(self) -> bool:
        now = None if self._step is None else self.watch.current
        return now is not None and now.conditional

    def _see_positions(self, site: str, call: AttentionCall) -> None:
        if self._step is not None:
            self._step.see_positions(site, call)

    def _see_output(self, module: str, output: Any) -> None:
        if self._step is not None:
            self._step.see_output(module, output)


class _LatentsFit(PassListener):
    """Compares the latents that each denoiser is first called with to the grids that were declared."""

    def __init__(self, modules: Sequence[nn.Module], grids: Sequence[TokenGrid]) -> None:
        self._modules, self._grids = modules, set(grids)
        self._checked: set[int] = set()

    def pass_begins(self, now: Pass) -> None:
        if now.denoiser not in self._checked:
            self._checked.add(now.denoiser)
            for grid in self._grids:
                check_latents(self._modules[now.denoiser], now.args, now.kwargs, grid)


def _checked_queries(queries: Queries | NDArray[np.float32]) -> Queries:
    if isinstance(queries, Queries):
        return queries
    points = np.array(queries, dtype=np.float32)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise UsageError(f"Queries must be finite pixels of shape (N, 2), got {points.shape}.")
    return Queries.at(points)


def _points(queries: Queries) -> list[tuple[QueryPoints, NDArray[np.intp]]]:
    """The queries of each frame, with their indices."""
    if not len(queries):
        return [(QueryPoints(queries.xy), np.zeros(0, dtype=np.intp))]
    return [(QueryPoints(queries.xy[index], frame), index) for frame, index in queries.by_frame()]
