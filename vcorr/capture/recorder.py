"""The recorder: the object that a model adapter gets, and that collects the predictions of the probes.

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
from vcorr.capture.direct_answers import make_answer
from vcorr.capture.latent_sizes import LatentsCheck
from vcorr.capture.latent_tokens import LatentReading
from vcorr.capture.missing_calls import missing_error
from vcorr.capture.modules import denoisers_of, shorten
from vcorr.capture.needs import POSITIONS, UNROTATED, check_sites, latents_error, probe_needs
from vcorr.capture.passes import PassWatch
from vcorr.capture.positions import watch_positions
from vcorr.capture.predictions import PackedPrediction, to_records
from vcorr.capture.queries import split_by_frame, to_queries
from vcorr.capture.ranks import find_ranks
from vcorr.capture.split import CONDITIONAL, check_layout
from vcorr.capture.step_reader import ProbeSet, StepReader, Watches
from vcorr.capture.tap import AttentionCall, Tap, observing
from vcorr.contract.errors import CaptureError, PluginError, UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.part_calls import PartName
from vcorr.contract.probe_protocols import Probe
from vcorr.contract.records import (
    HEAD_MEAN,
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

DIRECT = "direct"
"""The probe's name in predictions that a model made itself, without attention."""


class Recorder:
    """Runs the probes at the attention sites of a running model, with one recorder per clip.

    An adapter uses it in `run(clip, settings, recorder)`::

        with recorder.attach(self.transformer, self.sites(), TokenLayout("before", ("uncond", "cond")), grid):
            for step in settings.steps:
                with recorder.step(step, noise=0.5):
                    self.transformer(...)

    Passes inside `attach` but outside `step` are not read. Nothing synchronises with the device until `predictions` is
    read.

    Args:
        probes: by the name that their predictions carry. Without probes nothing is tapped.
        queries: of the clip, or (N, 2) pixels (x, y) in frame 0.
        layers: the layers to tap; None for all.
        on_step: called at the end of each step, for progress.
        variants: that a probe predicts under, by the probe's name; `corrected` for probes that are not listed.
        names: what messages call a probe, with its plugin; the name alone for probes that are not listed.

    Attributes:
        reconstruction: set by adapters in mode `invert`: how well the inverted latents reproduce the video.

    Raises:
        UsageError: the queries have another shape or are not finite.
        PluginError: a probe needs a part that a capture does not have.
    """

    def __init__(
        self,
        probes: Mapping[str, Probe],
        queries: Queries | NDArray[np.float32],
        *,
        layers: Collection[int] | None = None,
        on_step: Callable[[], None] | None = None,
        variants: Mapping[str, Sequence[NamedVariant]] | None = None,
        names: Mapping[str, PartName] | None = None,
    ) -> None:
        self.reconstruction: Reconstruction | None = None
        self._on_step = on_step
        made = dict(probes)
        self._queries = to_queries(queries)
        self._probes = ProbeSet(
            made,
            {name: probe_needs(name, probe) for name, probe in made.items()},
            {name: (variants or {}).get(name, (DEFAULT_VARIANT,)) for name in made},
            split_by_frame(self._queries),
            {name: (names or {}).get(name, PartName(f"probe {name!r}")) for name in made},
        )
        self._layers = None if layers is None else frozenset(layers)
        self._fitting: set[TokenGrid] = set()
        self._watches: Watches | None = None
        self._now: list[StepReader] = []
        self._steps_done: set[int] = set()
        self._packed: list[PackedPrediction] = []
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
        latents: LatentReading | None = None,
    ) -> Iterator[None]:
        """Taps the chosen layers of a denoiser while the block runs.

        Args:
            denoisers: the denoiser, or several that take turns; the names of the sites are paths inside each.
            sites: all attention sites of the model, by ascending layer.
            layout: where the text tokens and the guidance branches are.
            grid: one for all sites, or a function of the site.
            watch: an open watch over the denoisers' passes; None to open one here.
            latents: how the latents of a pass become tokens, for probes that read them; None if the model shows none.

        Raises:
            UsageError: a denoiser is not a module, a chosen layer does not exist, or a query lies outside the grid; or
                a probe needs something that a site or the model does not declare.
            CaptureError: a site's module does not exist, its attention could not be seen, no step ran, or blocks are
                nested.
            PluginError: the sites or the layout contradict themselves.
        """
        if self._watches is not None:
            raise CaptureError("recorder.attach() is open already: attach one denoiser after the other.")
        check_layout(layout)
        modules = denoisers_of(denoisers, "recorder.attach()")
        chosen = self._choose(sites, grid, type(modules[0]).__name__)
        read = self._choose_latents(latents, type(modules[0]).__name__)
        before = len(self._steps_done)
        with ExitStack() as stack:
            self._watches = self._open_watches(stack, modules, layout, chosen, read, watch)
            stack.callback(setattr, self, "_watches", None)
            yield
        if self._probes.probes and len(self._steps_done) == before:
            raise CaptureError(
                "recorder.attach() ended without a single recorder.step().",
                hint="Run every chosen step of the denoiser inside 'with recorder.step(step, noise=...)'.",
            )

    @property
    def is_reading(self) -> bool:
        """Whether any probe reads the passes; without one, nothing is tapped."""
        return bool(self._probes.probes)

    @property
    def watch(self) -> PassWatch:
        """The watch over the passes of the attached denoisers: step, guidance branch and denoiser of each pass.

        Raises:
            CaptureError: nothing is attached.
        """
        if self._watches is None:
            raise CaptureError("recorder.watch needs a recorder.attach() around it.")
        return self._watches.watch

    @contextmanager
    def step(self, step: int, *, noise: float | Sequence[float] = math.nan) -> Iterator[None]:
        """Reads one denoising step, in which every tapped site has to run exactly once for the conditional branch.

        Sites of spatial attention may run several times instead, each time for some of the frames, in order.

        Args:
            step: 0-based index into the scheduler's timesteps; -1 for a model without noise, which has no steps.
            noise: sigma / (alpha + sigma) in [0, 1], NaN for a model without noise. F values if the latent frames have
                different noise levels. Predictions then carry all of them, and as their `noise` the mean over the
                target latents: all latents but the one that holds every query.

        Raises:
            CaptureError: a site ran twice or not at all, or its attention could not be seen. Also if the step was
                recorded before, or if the block is not inside `attach`.
            PluginError: step or noise is out of range.
        """
        with self._read_steps([step], [noise], [None]):
            yield

    @contextmanager
    def steps(
        self, steps: Sequence[int], *, noise: Sequence[float], arguments: Sequence[Mapping[str, Any]]
    ) -> Iterator[None]:
        """Reads several denoising steps in one pass, whose batch holds the conditional branch of each step in turn.

        The predictions come in the order of the steps, as if each had its own `step`. A denoiser whose batch rows
        influence each other, or that takes them one by one (`TokenLayout.per_sample`), cannot be read so.

        Args:
            steps: 0-based indices into the scheduler's timesteps, in the order of the batch.
            noise: sigma / (alpha + sigma) of each step.
            arguments: the arguments that the denoiser would have in a pass of each step alone, by name.

        Raises:
            CaptureError, PluginError: as `step`.
        """
        with self._read_steps(steps, noise, arguments):
            yield

    def answer(
        self,
        xy: ArrayLike,
        grid: TokenGrid,
        *,
        name: str = "",
        readout: Readout = "token",
        attention: Attention = "none",
        visible: ArrayLike | None = None,
        confidence: ArrayLike | None = None,
        probe: str = DIRECT,
        layer: int = NO_SITE,
        step: int = NO_SITE,
        head: int = HEAD_MEAN,
        noise: float = math.nan,
        variant: NamedVariant = DEFAULT_VARIANT,
    ) -> None:
        """Records positions that no probe read here, as baselines and trackers do: layer = step = -1, probe "direct".

        Args:
            xy: (N, F, 2) pixels, F the latent frames of `grid`; the query itself in the latent of its frame.
            grid: the latent times, and the token size for the ceiling.
            readout: "token" if only whole-token motions can be predicted, "free" if any position can.
            attention: what the model's tokens can see.
            name: where the prediction comes from, kept as its layer_name.
            visible: (N, F) bool, whether the point can be seen; None if that is not known.
            confidence: (N, F) in [0, 1], how sure the model is; None if it does not say.
            probe: name of the probe that read attention elsewhere.
            layer: of its site.
            step: of its site.
            head: of its site.
            noise: noise level of the step.
            variant: under which the positions were read.

        Raises:
            PluginError: a shape is wrong, a position is not finite, or a confidence is outside [0, 1].
        """
        site = {"layer": layer, "layer_name": name, "step": step, "head": head, "noise": noise}
        seen = {"readout": readout, "attention": attention, "variant": variant}
        points = len(self._queries)
        made = make_answer(points, probe, xy, grid, visible=visible, confidence=confidence, **seen, **site)
        self._collect()
        self._records.append(made)

    # --------------------------------------------------------------------------------------------------------- results

    @property
    def answers(self) -> list[Prediction | RowsPrediction]:
        """All predictions so far, in order of execution, brought to the CPU on first use.

        Raises:
            NumericalError: a probe returned NaN or infinity.
            CaptureError: the probe `attention` read attention whose mask hides more than text, so its summaries would
                not describe the model.
        """
        self._collect()
        return list(self._records)

    @property
    def predictions(self) -> list[Prediction]:
        """The predicted positions."""
        return [record for record in self.answers if isinstance(record, Prediction)]

    @property
    def rows(self) -> list[RowsPrediction]:
        """The attention summaries."""
        return [record for record in self.answers if isinstance(record, RowsPrediction)]

    def _collect(self) -> None:
        by_device: dict[torch.device, list[Tensor]] = {}
        for plain in self._masks:
            by_device.setdefault(plain.device, []).append(plain)
        if not all(bool(torch.stack(group).all()) for group in by_device.values()):
            raise CaptureError(
                "The attention mask hides video tokens, or hides different text from different video tokens or heads; "
                "such attention cannot be summarised.",
                hint="Leave out the probe 'attention' for this model.",
            )
        self._masks.clear()
        self._records.extend(
            replace(record, noise_frames=self._noise_frames[record.step])
            for record in to_records(self._packed, self._probes.names)
        )
        self._packed.clear()

    # ---------------------------------------------------------------------------------------------------------- checks

    def _choose(
        self, sites: Sequence[Site], grid: TokenGrid | Callable[[Site], TokenGrid], model: str
    ) -> dict[str, tuple[Site, TokenGrid]]:
        """Returns the sites to read, each with its grid, by name."""
        read = self._choose_layers(sites)
        check_sites(self._probes.needs, read, model)
        chosen = {site.name: (site, grid if isinstance(grid, TokenGrid) else grid(site)) for site in read}
        for _, site_grid in chosen.values():
            self._check_inside(site_grid)
        return chosen

    def _choose_latents(self, latents: LatentReading | None, model: str) -> LatentReading | None:
        """Returns how latents are read, if a probe reads them."""
        readers = self._probes.latent_readers
        if not readers:
            return None
        if latents is None:
            raise latents_error(readers[0], model)
        self._check_inside(latents.grid)
        return latents

    def _open_watches(
        self,
        stack: ExitStack,
        modules: Sequence[nn.Module],
        layout: TokenLayout,
        chosen: Mapping[str, tuple[Site, TokenGrid]],
        latents: LatentReading | None,
        watch: PassWatch | None,
    ) -> Watches:
        """Opens all watches on the modules."""
        probes, read = self._probes, [site for site, _ in chosen.values()]
        blocks, unrotated = self._find_blocks(read), self._find_unrotated(read)
        positions = list(chosen.values()) if probes.need(POSITIONS.keys()) else []
        ranks = find_ranks(modules, layout)
        passes = watch or stack.enter_context(PassWatch(modules, layout))
        stack.enter_context(passes.listen(LatentsCheck(modules, [grid for _, grid in chosen.values()])))
        taps = []
        for module in modules:
            tapped = chosen if probes.call_readers else ()
            taps.append(stack.enter_context(Tap(module, tapped, observing(self._see_call))))
            stack.enter_context(watch_outputs(module, {**blocks, **unrotated}, self._see_output))
            stack.enter_context(
                watch_positions(module, positions, layout, self._is_reading, self._see_positions, ranks)
            )
        return Watches(passes, taps, layout, chosen, blocks, unrotated, latents, ranks)

    def _choose_layers(self, sites: Sequence[Site]) -> list[Site]:
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

    def _find_blocks(self, sites: Sequence[Site]) -> dict[str, list[str]]:
        """Returns the sites of each block whose output a probe reads."""
        blocks: dict[str, list[str]] = {}
        for site in sites if self._probes.hidden_readers else ():
            blocks.setdefault(site.block, []).append(site.name)
        return blocks

    def _find_unrotated(self, sites: Sequence[Site]) -> dict[str, tuple[str, str]]:
        """Returns the site, and "q" or "k", of each module whose output a probe reads before the rotary embedding."""
        parts = sorted(UNROTATED[part] for part in self._probes.all_needs & UNROTATED.keys())
        return {f"{site.name}.{getattr(site.unrotated, part)}": (site.name, part) for site in sites for part in parts}

    @contextmanager
    def _read_steps(
        self,
        steps: Sequence[int],
        noise: Sequence[float | Sequence[float]],
        arguments: Sequence[Mapping[str, Any] | None],
    ) -> Iterator[None]:
        """Reads steps that share a pass. arguments: of a pass of each step alone; None if the pass holds one step."""
        readers = []
        for row, (step, level, own) in enumerate(zip(steps, noise, arguments, strict=True)):
            mean, frames = self._read_noise(step, level)
            watches = self._begin(step, mean)
            self._noise_frames[int(step)] = frames
            rows = replace(watches, layout=_layout_of_row(watches.layout, row, len(steps)))
            readers.append(StepReader(int(step), mean, rows, self._probes, own))
        self._now = readers
        try:
            with ExitStack() as stack:
                stack.enter_context(watches.watch.at(readers[0].index))
                for reader in readers:
                    stack.enter_context(watches.watch.listen(reader))
                yield
        finally:
            self._now = []
        for reader in readers:
            self._finish(reader, watches)

    def _read_noise(self, step: int, noise: float | Sequence[float]) -> tuple[float, NDArray[np.float32] | None]:
        """Returns the noise level of a step as one number, and the (F,) levels if the latent frames differ.

        The one number is then the mean over the target latents.
        """
        if not isinstance(noise, (Sequence, np.ndarray)):
            return float(noise), None
        levels = np.asarray(noise, dtype=np.float32)
        grids = {grid for _, grid in self._watches.sites.values()} if self._watches else set()
        frames = sorted({grid.frames for grid in grids})
        if levels.ndim != 1 or not ((levels >= 0) & (levels <= 1)).all() or any(len(levels) != f for f in frames):
            wanted = " or ".join(map(str, frames)) or "F"
            raise PluginError(
                f"recorder.step({step}): noise of each latent frame must be {wanted} values sigma/(alpha + sigma) in "
                f"[0, 1], got {noise!r}."
            )
        holders = {int(latent) for grid in grids for latent in np.unique(grid.latents_at(self._queries.t))}
        targets = np.delete(levels, holders.pop()) if len(holders) == 1 and len(levels) > 1 else levels
        return float(targets.mean(dtype=np.float64)), levels

    def _begin(self, step: int, noise: float) -> Watches:
        if self._watches is None:
            raise CaptureError("recorder.step() needs a recorder.attach() around it.")
        if self._now:
            raise CaptureError(f"recorder.step({step}) is inside recorder.step({self._now[0].index}).")
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
        return self._watches

    def _finish(self, now: StepReader, watches: Watches) -> None:
        for tap in watches.taps:
            tap.check()
        missing = now.missing()
        if missing:
            raise missing_error(now, missing, watches.watch)
        self._steps_done.add(now.index)
        self._packed.extend(now.predictions)
        self._masks.extend(now.masks)
        if self._on_step is not None:
            self._on_step()

    # --------------------------------------------------------------------------------------------------------- reading

    def _see_call(self, call: AttentionCall) -> None:
        for reader in self._now:
            reader.see_call(call)

    def _is_reading(self) -> bool:
        now = self.watch.current if self._now else None
        return now is not None and now.conditional

    def _see_positions(self, site: str, call: AttentionCall) -> None:
        for reader in self._now:
            reader.see_positions(site, call)

    def _see_output(self, module: str, output: Any) -> None:
        for reader in self._now:
            reader.see_output(module, output)


def _layout_of_row(layout: TokenLayout, row: int, rows: int) -> TokenLayout:
    """Returns the layout that takes one of several steps in a batch for the conditional branch."""
    if rows == 1:
        return layout
    return replace(layout, branches=tuple(CONDITIONAL if each == row else f"step {each}" for each in range(rows)))
