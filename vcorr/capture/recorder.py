"""The recorder: what a model adapter is handed, and where the probes' answers end up.

Shape legend: N query points, F latent frames, T video frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from vcorr.capture.records import Capture, TokenLayout
from vcorr.capture.split import CONDITIONAL, PARTS, check_layout, split_call
from vcorr.capture.tap import AttentionCall, Tap, shorten
from vcorr.errors import CaptureError, NumericalError, PluginError, UsageError
from vcorr.geometry import TokenGrid
from vcorr.protocols import Probe
from vcorr.records import HEAD_MEAN, Attention, Prediction, Readout, Site

DIRECT = "direct"
"""The probe named in answers that a model gave itself, without attention."""


@dataclass(frozen=True)
class _Answer:
    """One probe's answer at one site, still on the device."""

    xy: Tensor
    probe: str
    readout: Readout
    head: int
    site: Site
    grid: TokenGrid
    step: int
    noise: float


@dataclass(frozen=True)
class _Attached:
    """What `attach` watches: the tap, and each tapped site with its grid by module name."""

    tap: Tap
    sites: Mapping[str, tuple[Site, TokenGrid]]
    layout: TokenLayout


@dataclass
class _Step:
    """The denoising step that runs now, the sites it has read and what they answered."""

    index: int
    noise: float
    seen: set[str] = field(default_factory=set)
    answers: list[_Answer] = field(default_factory=list)


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
        queries: (N, 2) pixels (x, y) in frame 0.
        layers: the layers to tap; None for all.
        on_step: called as each step ends, for progress.

    Raises:
        UsageError: the queries have another shape or are not finite.
        PluginError: a probe needs something else than "q", "k", "v", "out".
    """

    def __init__(
        self,
        probes: Mapping[str, Probe],
        queries: NDArray[np.float32],
        *,
        layers: Collection[int] | None = None,
        on_step: Callable[[], None] | None = None,
    ) -> None:
        self._on_step = on_step
        self._probes = dict(probes)
        self._needs = {name: _needs(name, probe) for name, probe in self._probes.items()}
        self._queries = _checked_queries(queries)
        self._points = torch.from_numpy(self._queries)
        self._layers = None if layers is None else frozenset(layers)
        self._fitting: set[TokenGrid] = set()
        self._attached: _Attached | None = None
        self._step: _Step | None = None
        self._steps_done: set[int] = set()
        self._branch = CONDITIONAL
        self._answers: list[_Answer] = []
        self._predictions: list[Prediction] = []

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
            UsageError: a chosen layer does not exist, or a query lies outside the grid.
            CaptureError: a site's module does not exist, its attention could not be seen, no step ran, or blocks are
                nested.
            PluginError: sites or layout contradict themselves.
        """
        if self._attached is not None:
            raise CaptureError("recorder.attach() is open already: attach one denoiser after the other.")
        check_layout(layout)
        grid_of = (lambda site: grid) if isinstance(grid, TokenGrid) else grid
        chosen = {site.name: (site, grid_of(site)) for site in self._choose(sites)}
        for _, site_grid in chosen.values():
            self._check_inside(site_grid)
        before = len(self._steps_done)
        with Tap(module, chosen if self._probes else (), self._observe) as tap:
            self._attached = _Attached(tap, chosen, layout)
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

        Args:
            step: 0-based index into the scheduler's timesteps.
            noise: sigma / (alpha + sigma) in [0, 1], NaN for a model without noise.

        Raises:
            CaptureError: a site ran twice or not at all, its attention could not be seen, the step was recorded before,
                or the block is not inside `attach`.
            PluginError: step or noise is out of range.
        """
        attached = self._begin(step, noise)
        self._step = now = _Step(step, float(noise))
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
        self._predictions.append(
            Prediction(DIRECT, positions, grid, layer_name=name, readout=readout, attention=attention)
        )

    # --------------------------------------------------------------------------------------------------------- results

    @property
    def predictions(self) -> list[Prediction]:
        """All answers so far, in order of execution, brought to the CPU on first use.

        Raises:
            NumericalError: a probe answered NaN or infinity.
        """
        self._collect()
        return list(self._predictions)

    def _collect(self) -> None:
        arrays = _to_numpy([answer.xy for answer in self._answers])
        for answer, xy in zip(self._answers, arrays, strict=True):
            if not np.isfinite(xy).all():
                raise NumericalError(
                    f"Probe {answer.probe!r} answered NaN or infinity at layer {answer.site.layer}, step "
                    f"{answer.step}, head {answer.head}.",
                    hint="The model overflowed, probably: try --dtype bfloat16 or float32.",
                )
            self._predictions.append(_prediction(answer, xy))
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

    def _check_inside(self, grid: TokenGrid) -> None:
        if grid not in self._fitting:
            grid.check_inside(self._queries)
            self._fitting.add(grid)

    def _begin(self, step: int, noise: float) -> _Attached:
        if self._attached is None:
            raise CaptureError("recorder.step() needs a recorder.attach() around it.")
        if self._step is not None:
            raise CaptureError(f"recorder.step({step}) is inside recorder.step({self._step.index}).")
        if isinstance(step, bool) or not isinstance(step, (int, np.integer)) or step < 0:
            raise PluginError(f"recorder.step(): step must be a whole number of at least 0, got {step!r}.")
        if not (math.isnan(noise) or 0 <= noise <= 1):
            raise PluginError(
                f"recorder.step({step}): noise must be sigma/(alpha + sigma) in [0, 1] or NaN, got {noise!r}."
            )
        if step in self._steps_done:
            raise CaptureError(f"Step {step} was recorded before; a recorder takes each step of one clip once.")
        return self._attached

    def _finish(self, now: _Step, attached: _Attached) -> None:
        attached.tap.check()
        missing = [name for name in attached.sites if name not in now.seen] if self._probes else []
        if missing and not now.seen:
            raise CaptureError(
                f"Step {now.index}: none of the {len(missing)} tapped modules ran for the conditional branch.",
                hint="Run the denoiser given to recorder.attach() inside recorder.step(), in the same thread.",
            )
        if missing:
            raise CaptureError(f"Step {now.index}: {len(missing)} tapped module(s) did not run: {shorten(missing)}.")
        self._steps_done.add(int(now.index))
        self._answers.extend(now.answers)
        if self._on_step is not None:
            self._on_step()

    # --------------------------------------------------------------------------------------------------------- reading

    def _observe(self, call: AttentionCall) -> None:
        now, attached = self._step, self._attached
        if now is None or attached is None or self._branch != CONDITIONAL:
            return
        if call.name in now.seen:
            raise CaptureError(
                f"Step {now.index}: {call.name} computed attention twice.",
                hint="One call a site and step is read: put other guidance passes inside recorder.branch('uncond'); "
                "a model that attends sample by sample must be run with a batch of one.",
            )
        now.seen.add(call.name)
        site, grid = attached.sites[call.name]
        # the probe computes in the precision it chose, whatever the model runs in, and leaves no graph behind
        with torch.no_grad(), torch.autocast(call.q.device.type, enabled=False):
            for name, probe in self._probes.items():
                needs = self._needs[name]
                capture = split_call(call, site, grid, attached.layout, step=now.index, noise=now.noise, needs=needs)
                now.answers.extend(self._read(name, probe, capture))

    def _read(self, name: str, probe: Probe, capture: Capture) -> Iterator[_Answer]:
        answers = probe.read(capture, self._points)  # on the CPU, where checking them waits for no device
        if not isinstance(answers, Mapping) or not answers:
            raise PluginError(f"Probe {name!r} must return a mapping of heads to positions, got {answers!r}.")
        readout: Readout = getattr(probe, "readout", "token")
        for head, xy in answers.items():
            self._check_answer(name, head, xy, capture.grid)
            # a copy: an answer that is a view would keep what it is a view of
            positions = xy.detach().to(torch.float32, copy=True)
            yield _Answer(
                positions, name, readout, int(head), capture.site, capture.grid, int(capture.step), capture.noise
            )

    def _check_answer(self, name: str, head: int, xy: Tensor, grid: TokenGrid) -> None:
        if isinstance(head, bool) or not isinstance(head, (int, np.integer)) or head < HEAD_MEAN:
            raise PluginError(f"Probe {name!r}: heads are -1 (the mean) or counted from 0, got {head!r}.")
        expected = (len(self._queries), grid.frames, 2)
        if not isinstance(xy, Tensor) or tuple(xy.shape) != expected:
            got = tuple(xy.shape) if isinstance(xy, Tensor) else type(xy).__name__
            raise PluginError(
                f"Probe {name!r}: {expected[0]} queries and {expected[1]} latent frames need a tensor of shape "
                f"{expected}, got {got}."
            )


def _needs(name: str, probe: Probe) -> frozenset[str]:
    needs = getattr(probe, "needs", None)
    if not isinstance(needs, (frozenset, set)) or not needs <= PARTS:
        raise PluginError(f"Probe {name!r}: needs must be a frozenset of {sorted(PARTS)}, got {needs!r}.")
    return frozenset(needs)


def _checked_queries(queries: NDArray[np.float32]) -> NDArray[np.float32]:
    points = np.array(queries, dtype=np.float32)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise UsageError(f"Queries must be finite pixels of shape (N, 2), got {points.shape}.")
    return points


def _prediction(answer: _Answer, xy: NDArray[np.float32]) -> Prediction:
    return Prediction(
        probe=answer.probe,
        xy=xy,
        grid=answer.grid,
        layer=answer.site.layer,
        layer_name=answer.site.name,
        step=answer.step,
        head=answer.head,
        noise=answer.noise,
        attention=answer.site.attention,
        readout=answer.readout,
    )


def _to_numpy(tensors: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    """One transfer for all tensors of one device and shape, in place of one for each."""
    groups: dict[tuple[torch.device, torch.Size], list[int]] = {}
    for index, tensor in enumerate(tensors):
        groups.setdefault((tensor.device, tensor.shape), []).append(index)
    arrays: dict[int, NDArray[np.float32]] = {}
    for members in groups.values():
        stacked = torch.stack([tensors[index] for index in members]).cpu().numpy()
        arrays.update(zip(members, stacked, strict=True))
    return [arrays[index] for index in range(len(tensors))]
