"""The recorder: what a model adapter is handed, and where the probes' answers end up.

Shape legend: N query points, F latent frames, T video frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from vcorr.capture.chunks import Chunks, FramesSeen
from vcorr.capture.modules import shorten
from vcorr.capture.needs import HIDDEN, MASK, POSITIONS, UNROTATED, check_sites
from vcorr.capture.outputs import watch_outputs
from vcorr.capture.positions import watch_positions
from vcorr.capture.reading import Answer, ask, probe_needs, to_records
from vcorr.capture.records import Capture, TokenLayout
from vcorr.capture.rows import holds_conditional
from vcorr.capture.split import (
    CONDITIONAL,
    check_layout,
    conditional_rows,
    frames_in,
    hidden_capture,
    mask_of,
    split_call,
)
from vcorr.capture.tap import AttentionCall, Tap, unheard
from vcorr.errors import CaptureError, PluginError, UsageError
from vcorr.geometry import TokenGrid
from vcorr.protocols import Probe
from vcorr.records import NO_SITE, Attention, Prediction, Queries, Readout, RowsPrediction, Site
from vcorr.variants import DEFAULT_VARIANT, NamedVariant

DIRECT = "direct"
"""The probe named in answers that a model gave itself, without attention."""


@dataclass(frozen=True)
class _Attached:
    """What `attach` watches: the tap, each tapped site with its grid by module name, and by the name of other modules
    which sites' hidden state (`blocks`), or which site's q or k before the rotary embedding (`unrotated`), they put
    out.
    """

    tap: Tap
    layout: TokenLayout
    sites: Mapping[str, tuple[Site, TokenGrid]]
    blocks: Mapping[str, Sequence[str]]
    unrotated: Mapping[str, tuple[str, str]]


@dataclass
class _Step:
    """The denoising step that runs now, what it has read and what that was answered.

    attended, passed: the frames of each site whose attention and whose block have run. chunks: joins those that come
    one part after the other. unrotated, positions: q and k by site, until its attention runs. held: captures by (site,
    probe) of probes that also want the block's output.
    """

    index: int
    noise: float
    attended: FramesSeen
    passed: FramesSeen
    chunks: Chunks = field(default_factory=Chunks)
    unrotated: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    positions: dict[str, AttentionCall] = field(default_factory=dict)
    held: dict[tuple[str, str], Capture] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    masks: list[Tensor] = field(default_factory=list)


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
        self._on_step = on_step
        self._probes = dict(probes)
        self._variants = {name: (variants or {}).get(name, (DEFAULT_VARIANT,)) for name in self._probes}
        self._needs = {name: probe_needs(name, probe) for name, probe in self._probes.items()}
        self._queries = _checked_queries(queries)
        self._points = torch.from_numpy(self._queries)
        self._layers = None if layers is None else frozenset(layers)
        self._fitting: set[TokenGrid] = set()
        self._attached: _Attached | None = None
        self._step: _Step | None = None
        self._steps_done: set[int] = set()
        self._branch = CONDITIONAL
        self._answers: list[Answer] = []
        self._masks: list[Tensor] = []
        self._records: list[Prediction | RowsPrediction] = []

    # -------------------------------------------------------------------------------------------------------- adapters

    @contextmanager
    def attach(
        self,
        module: nn.Module,
        sites: Sequence[Site],
        layout: TokenLayout,
        grid: TokenGrid | Callable[[Site], TokenGrid],
    ) -> Iterator[None]:
        """Taps the chosen layers of `module` while the block runs.

        Args:
            module: the denoiser; the names of the sites are paths inside it.
            sites: all attention sites of the model, by ascending layer.
            layout: where the text tokens and the guidance branches are.
            grid: of all sites, or a function of the site.

        Raises:
            UsageError: a chosen layer does not exist, a query lies outside the grid, or a probe reads what a site does
                not say where to find.
            CaptureError: a site's module does not exist, its attention could not be seen, no step ran, or blocks are
                nested.
            PluginError: sites or layout contradict themselves.
        """
        if self._attached is not None:
            raise CaptureError("recorder.attach() is open already: attach one denoiser after the other.")
        check_layout(layout)
        grid_of = (lambda site: grid) if isinstance(grid, TokenGrid) else grid
        read = self._choose(sites)
        check_sites(self._needs, read, type(module).__name__)
        chosen = {site.name: (site, grid_of(site)) for site in read}
        for _, site_grid in chosen.values():
            self._check_inside(site_grid)
        blocks, unrotated = self._blocks(read), self._unrotated(read)
        before = len(self._steps_done)
        with (
            Tap(module, chosen if self._calling else (), self._observe) as tap,
            watch_outputs(module, {**blocks, **unrotated}, self._see_output),
            watch_positions(module, self._placed(chosen.values()), layout, self._reading, self._see_positions),
        ):
            self._attached = _Attached(tap, layout, chosen, blocks, unrotated)
            try:
                yield
            finally:
                self._attached = None
        if self._probes and len(self._steps_done) == before:
            raise CaptureError(
                "recorder.attach() was left without a single recorder.step().",
                hint="Run every chosen step of the denoiser inside 'with recorder.step(step, noise=...)'.",
            )

    @contextmanager
    def step(self, step: int, *, noise: float = math.nan) -> Iterator[None]:
        """One denoising step: every tapped site has to run exactly once for the conditional branch.

        Sites whose rows hold a frame each may run several times instead, for some of the frames, in their order.

        Args:
            step: 0-based index into the scheduler's timesteps; -1 for a model without noise, which has no steps.
            noise: sigma / (alpha + sigma) in [0, 1], NaN for a model without noise.

        Raises:
            CaptureError: a site ran twice or not at all, its attention could not be seen, the step was recorded before,
                or the block is not inside `attach`.
            PluginError: step or noise is out of range.
        """
        attached = self._begin(step, noise)
        self._step = now = _Step(step, float(noise), FramesSeen(step), FramesSeen(step))
        try:
            yield
        finally:
            self._step = None
        self._finish(now, attached)

    @contextmanager
    def branch(self, name: str) -> Iterator[None]:
        """Marks the passes inside as those of one guidance branch: only "cond" is read.

        For models that run each branch as a pass of its own::

            with recorder.step(step, noise=noise):
                self.transformer(...)
                with recorder.branch("uncond"):
                    self.transformer(...)
        """
        before, self._branch = self._branch, name
        try:
            yield
        finally:
            self._branch = before

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
            xy: (N, F, 2) pixels, F the latent frames of `grid`, [:, 0] the query.
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
        self._records.extend(to_records(self._answers))
        self._answers.clear()

    # ---------------------------------------------------------------------------------------------------------- checks

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

    @property
    def _calling(self) -> list[str]:
        """The probes that read an attention call: all but those that want the hidden state alone."""
        return [name for name, needs in self._needs.items() if needs != {HIDDEN}]

    @property
    def _hiding(self) -> list[str]:
        """The probes that read the hidden state."""
        return [name for name, needs in self._needs.items() if HIDDEN in needs]

    def _blocks(self, sites: Sequence[Site]) -> dict[str, list[str]]:
        """The sites of each block whose output a probe reads."""
        blocks: dict[str, list[str]] = {}
        for site in sites if self._hiding else ():
            blocks.setdefault(site.block, []).append(site.name)
        return blocks

    def _unrotated(self, sites: Sequence[Site]) -> dict[str, tuple[str, str]]:
        """The site, and "q" or "k", of each module whose output a probe reads before the rotary embedding."""
        parts = sorted({UNROTATED[part] for needs in self._needs.values() for part in needs & UNROTATED.keys()})
        return {f"{site.name}.{getattr(site.unrotated, part)}": (site.name, part) for site in sites for part in parts}

    def _placed(self, chosen: Iterable[tuple[Site, TokenGrid]]) -> list[tuple[Site, TokenGrid]]:
        """The sites at which a probe reads positions alone: all or none."""
        return list(chosen) if any(needs & POSITIONS.keys() for needs in self._needs.values()) else []

    def _check_inside(self, grid: TokenGrid) -> None:
        if grid not in self._fitting:
            grid.check_inside(self._queries)
            self._fitting.add(grid)

    def _begin(self, step: int, noise: float) -> _Attached:
        if self._attached is None:
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
        return self._attached

    def _finish(self, now: _Step, attached: _Attached) -> None:
        attached.tap.check()
        missing = self._missing(now, attached)
        if missing and not now.attended and not now.passed:
            raise CaptureError(
                f"Step {now.index}: none of the {len(missing)} tapped modules ran for the conditional branch.",
                hint="Run the denoiser given to recorder.attach() inside recorder.step(), in the same thread.",
            )
        if missing:
            raise CaptureError(f"Step {now.index}: {len(missing)} tapped module(s) did not run: {shorten(missing)}.")
        self._steps_done.add(int(now.index))
        self._answers.extend(now.answers)
        self._masks.extend(now.masks)
        if self._on_step is not None:
            self._on_step()

    def _missing(self, now: _Step, attached: _Attached) -> list[str]:
        frames = {name: grid.frames for name, (_, grid) in attached.sites.items()}
        calls = [now.attended.missing(name, total) for name, total in frames.items()] if self._calling else []
        blocks = [
            now.passed.missing(name, frames[name]).replace(name, block)
            for block, sites in attached.blocks.items()
            for name in sites
        ]
        return [name for name in dict.fromkeys([*calls, *blocks]) if name]

    # --------------------------------------------------------------------------------------------------------- reading

    def _observe(self, call: AttentionCall) -> None:
        now, attached = self._step, self._attached
        if now is None or attached is None or self._branch != CONDITIONAL:
            return
        if not holds_conditional(call, attached.layout):
            return
        site, grid = attached.sites[call.name]
        held = frames_in(call.q, site, grid, attached.layout)
        frames = now.attended.take(call.name, held, grid.frames, "computed attention")
        unrotated, positions = now.unrotated.pop(call.name, {}), now.positions.pop(call.name, None)
        with _quietly(call.q):
            if any(MASK in needs for needs in self._needs.values()):
                mask = mask_of(call, grid, attached.layout)
                now.masks.extend([] if mask is None else [mask.plain])
            for name in self._calling:
                part = split_call(
                    call,
                    site,
                    grid,
                    attached.layout,
                    step=now.index,
                    noise=now.noise,
                    needs=self._needs[name],
                    unrotated=unrotated,
                    positions=positions,
                )
                capture = now.chunks.join(("call", site.name, name), part, frames)
                if capture is None:
                    continue
                if HIDDEN in self._needs[name]:
                    now.held[site.name, name] = capture
                else:
                    now.answers.extend(self._ask(name, capture))

    def _ask(self, name: str, capture: Capture) -> Iterator[Answer]:
        return ask(name, self._probes[name], capture, self._points, self._variants[name])

    def _reading(self) -> bool:
        return self._step is not None and self._branch == CONDITIONAL

    def _see_positions(self, site: str, call: AttentionCall) -> None:
        if self._step is not None:
            self._step.positions[site] = call

    def _see_output(self, module: str, output: Any) -> None:
        now, attached = self._step, self._attached
        if now is None or attached is None or self._branch != CONDITIONAL:
            return
        if module in attached.unrotated:
            site, part = attached.unrotated[module]
            if not isinstance(output, Tensor):
                raise CaptureError(f"{module}: put out {type(output).__name__} in place of a tensor.")
            known, grid = attached.sites[site]
            rows = conditional_rows(module, output, known.factorised, grid, attached.layout)
            # a copy: models write the rotated values over these
            now.unrotated.setdefault(site, {})[part] = rows.detach().clone()
        for name in attached.blocks.get(module, ()):
            self._see_hidden(now, attached, name, output)

    def _see_hidden(self, now: _Step, attached: _Attached, site_name: str, output: Any) -> None:
        site, grid = attached.sites[site_name]
        part = hidden_capture(output, site, grid, attached.layout, step=now.index, noise=now.noise)
        frames = now.passed.take(site_name, part.hidden.shape[0], grid.frames, f"ran ({site.block})")
        capture = now.chunks.join(("hidden", site_name), part, frames)
        if capture is None:
            return
        with unheard(), _quietly(capture.hidden):
            for name in self._hiding:
                held = now.held.pop((site_name, name), None)
                whole = capture if held is None else replace(held, hidden=capture.hidden)
                now.answers.extend(self._ask(name, whole))


@contextmanager
def _quietly(tensor: Tensor) -> Iterator[None]:
    """The probe computes in the precision it chose, whatever the model runs in, and leaves no graph behind."""
    with torch.no_grad(), torch.autocast(tensor.device.type, enabled=False):
        yield


def _checked_queries(queries: Queries | NDArray[np.float32]) -> NDArray[np.float32]:
    if isinstance(queries, Queries):
        return queries.in_first_frame("The recorder").copy()
    points = np.array(queries, dtype=np.float32)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise UsageError(f"Queries must be finite pixels of shape (N, 2), got {points.shape}.")
    return points
