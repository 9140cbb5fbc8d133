"""Reads one denoising step: splits each attention call and block output once, and gives it to all probes.

Shape legend: N query points, F latent frames.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vcorr.capture.captures import Capture, TokenLayout
from vcorr.capture.chunks import Chunks, FramesSeen
from vcorr.capture.latent_tokens import LATENT_SITE, LatentReading
from vcorr.capture.needs import HIDDEN, MASK, POSITIONS, UNROTATED, reads_latents
from vcorr.capture.passes import Pass, PassListener, PassWatch
from vcorr.capture.positions import TOKEN_AXIS
from vcorr.capture.predictions import PackedPrediction, join_points, predict
from vcorr.capture.ranks import ALONE, Ranks
from vcorr.capture.split import CONDITIONAL, Split, conditional_rows, hidden_capture
from vcorr.capture.tap import AttentionCall, Tap, unheard
from vcorr.contract.errors import CaptureError, PluginError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.part_calls import PartName
from vcorr.contract.probe_protocols import Probe
from vcorr.contract.records import Site
from vcorr.contract.variants import NamedVariant
from vcorr.functional.query_points import QueryPoints


@dataclass(frozen=True)
class ProbeSet:
    """The probes of a recorder and the query points of its clip.

    probes: by the name that their predictions carry. needs: of each probe. variants: that each probe predicts under.
    points: the query points of each frame, with their indices among all queries. names: what messages call each probe.
    """

    probes: Mapping[str, Probe]
    needs: Mapping[str, frozenset[str]]
    variants: Mapping[str, Sequence[NamedVariant]]
    points: Sequence[tuple[QueryPoints, NDArray[np.intp]]]
    names: Mapping[str, PartName]

    @property
    def call_readers(self) -> list[str]:
        """The probes that read an attention call: all but those that read the hidden state or the latents alone."""
        return [name for name, needs in self.needs.items() if needs != {HIDDEN} and not reads_latents(needs)]

    @property
    def hidden_readers(self) -> list[str]:
        """The probes that read the hidden state."""
        return [name for name, needs in self.needs.items() if HIDDEN in needs]

    @property
    def latent_readers(self) -> list[str]:
        """The probes that read the latents of the denoiser."""
        return [name for name, needs in self.needs.items() if reads_latents(needs)]

    @property
    def all_needs(self) -> frozenset[str]:
        """The parts that at least one probe needs."""
        return frozenset().union(*self.needs.values())

    def need(self, parts: Collection[str]) -> bool:
        """Returns whether a probe needs at least one of the parts."""
        return not self.all_needs.isdisjoint(parts)

    def predict(self, name: str, capture: Capture) -> list[PackedPrediction]:
        """Returns the predictions of one probe, which runs once for the query points of each frame."""
        probe, shown, variants = self.probes[name], capture.restrict_to(self.needs[name]), self.variants[name]
        before = _settings()
        with self.names[name].calling("read()"):
            groups = [(index, predict(name, probe, shown, points, variants)) for points, index in self.points]
            _check_settings(name, before)
            shown.leave()
            return join_points(groups, sum(len(points) for points, _ in self.points))


@dataclass(frozen=True)
class Watches:
    """Everything that is watched on the denoisers.

    watch: over the passes. taps: one per denoiser. sites: the tapped sites and their grids, by module name. blocks: the
    names of the sites whose hidden state a block puts out, by the block's name. unrotated: the site, and "q" or "k",
    that a module puts out before the rotary embedding, by the module's name. latents: how the denoisers' latents become
    tokens; None if no probe reads them. ranks: the processes that share the passes.
    """

    watch: PassWatch
    taps: Sequence[Tap]
    layout: TokenLayout
    sites: Mapping[str, tuple[Site, TokenGrid]]
    blocks: Mapping[str, Sequence[str]]
    unrotated: Mapping[str, tuple[str, str]]
    latents: LatentReading | None = None
    ranks: Ranks = ALONE


class StepReader(PassListener):
    """Reads one denoising step while it runs, and collects the predictions of the probes.

    Args:
        index: of the step; -1 for a model without noise.
        noise: sigma / (alpha + sigma), NaN without noise.
        watches: on the denoisers.
        probes: the probes to run.
        arguments: of the step's own pass, by name, if the pass that comes holds several steps; None if it holds one.
    """

    def __init__(
        self,
        index: int,
        noise: float,
        watches: Watches,
        probes: ProbeSet,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.index, self.noise = index, noise
        self._arguments = arguments
        self.predictions: list[PackedPrediction] = []
        self.masks: list[Tensor] = []
        """0-dimensional bools on the device, True where a mask only hides text."""
        self._watches, self._probes = watches, probes
        self._calls_seen, self._outputs_seen = FramesSeen(index), FramesSeen(index)
        self._chunks = Chunks()
        self._unrotated: dict[str, dict[str, Tensor]] = {}
        self._positions: dict[str, AttentionCall] = {}
        self._held: dict[str, Capture] = {}
        self._latents_seen = False

    def missing(self) -> list[str]:
        """Returns the names of the modules that have not run yet, or not for all frames."""
        frames = {name: grid.frames for name, (_, grid) in self._watches.sites.items()}
        reads_calls = bool(self._probes.call_readers)
        calls = [self._calls_seen.missing(name, total) for name, total in frames.items()] if reads_calls else []
        blocks = [
            self._outputs_seen.missing(name, frames[name]).replace(name, block)
            for block, sites in self._watches.blocks.items()
            for name in sites
        ]
        latents = [LATENT_SITE.name] if self._watches.latents is not None and not self._latents_seen else []
        return [name for name in dict.fromkeys([*latents, *calls, *blocks]) if name]

    @property
    def anything(self) -> bool:
        """Whether any module has run for the conditional branch."""
        return bool(self._calls_seen) or bool(self._outputs_seen) or self._latents_seen

    # --------------------------------------------------------------------------------------------------------- latents

    def pass_begins(self, now: Pass) -> None:
        """Gives the latents of a pass to the probes that read them, if it holds the conditional branch.

        Raises:
            CaptureError: the step has a second such pass.
        """
        reading = self._watches.latents
        if reading is None or not now.conditional:
            return
        if self._latents_seen:
            raise CaptureError(
                f"Step {self.index}: a second pass of the conditional branch began, so its latents are not unique.",
                hint="Run the denoiser once per recorder.step() for that branch.",
            )
        self._latents_seen = True
        with torch.no_grad():
            args, kwargs = (now.args, now.kwargs) if self._arguments is None else ((), self._arguments)
            latents = reading.take(now.denoiser, args, kwargs)
            capture = reading.capture(latents, step=self.index, noise=self.noise)
        with unheard(), _quietly(capture.latent):
            for name in self._probes.latent_readers:
                self.predictions.extend(self._probes.predict(name, capture))

    # ----------------------------------------------------------------------------------------------------------- calls

    def see_positions(self, site: str, call: AttentionCall) -> None:
        """Keeps a site's attention call from positions alone until its own call comes."""
        self._positions[site] = call

    def see_call(self, call: AttentionCall) -> None:
        """Gives an attention call to the probes if it holds the conditional branch."""
        if CONDITIONAL not in self._watches.watch.branches_in(call):
            return
        split = self._split(call)
        frames = self._calls_seen.take(call.name, split.frames, split.grid.frames, "computed attention")
        with _quietly(call.q):
            if self._probes.need({MASK}) and split.mask is not None:
                self.masks.append(split.mask.plain)
            part = split.capture(self.index, self.noise)
            capture = self._chunks.join(("call", call.name), part, frames, self._probes.all_needs - {HIDDEN})
            if capture is not None:
                self._read_call(capture)

    def _split(self, call: AttentionCall) -> Split:
        site, grid = self._watches.sites[call.name]
        unrotated = self._unrotated.pop(call.name, {}) if self._probes.need(UNROTATED.keys()) else None
        positions = self._positions.pop(call.name, None)
        if positions is None and self._probes.need(POSITIONS.keys()):
            raise CaptureError(f"{call.name}: its attention call from positions alone was not seen.")
        return Split(call, site, grid, self._watches.layout, unrotated, positions, self._watches.ranks)

    def _read_call(self, capture: Capture) -> None:
        waiting = set(self._probes.hidden_readers)
        for name in self._probes.call_readers:
            if name not in waiting:
                self.predictions.extend(self._probes.predict(name, capture))
        if waiting.intersection(self._probes.call_readers):
            self._held[capture.site.name] = capture

    # --------------------------------------------------------------------------------------------------------- outputs

    def see_output(self, module: str, output: Any) -> None:
        """Takes the output of a module: q or k before the rotary embedding, or the hidden state of sites."""
        now = self._watches.watch.current
        if now is None or not now.conditional:
            return
        if module in self._watches.unrotated:
            self._see_unrotated(module, output)
        for site in self._watches.blocks.get(module, ()):
            self._see_hidden(site, output)

    def _see_unrotated(self, module: str, output: Any) -> None:
        name, part = self._watches.unrotated[module]
        if not isinstance(output, Tensor):
            raise CaptureError(f"{module}: its output is {type(output).__name__} in place of a tensor.")
        site, grid = self._watches.sites[name]
        rows = conditional_rows(module, output, site.factorised, grid, self._watches.layout)
        assert site.unrotated is not None
        whole = self._watches.ranks.join_tokens(rows.detach(), TOKEN_AXIS[site.unrotated.axes], grid.tokens)
        # a copy, because models overwrite these values with the rotated ones
        self._unrotated.setdefault(name, {})[part] = whole.clone()

    def _see_hidden(self, name: str, output: Any) -> None:
        site, grid = self._watches.sites[name]
        now = self._watches
        part = hidden_capture(output, site, grid, now.layout, step=self.index, noise=self.noise, ranks=now.ranks)
        frames = self._outputs_seen.take(name, part.hidden.shape[0], grid.frames, f"ran ({site.block})")
        capture = self._chunks.join(("hidden", name), part, frames, {HIDDEN})
        if capture is None:
            return
        held = self._held.pop(name, None)
        whole = capture if held is None else held.replace(hidden=capture.hidden)
        with unheard(), _quietly(capture.hidden):
            for probe in self._probes.hidden_readers:
                self.predictions.extend(self._probes.predict(probe, whole))


def _settings() -> tuple[torch.dtype, Any]:
    return torch.get_default_dtype(), torch.nn.functional.scaled_dot_product_attention


def _check_settings(name: str, before: tuple[torch.dtype, Any]) -> None:
    """Refuses a probe that changed what the rest of the forward pass computes with, and sets it back.

    Raises:
        PluginError: the default dtype or the attention function is not what it was before the probe ran.
    """
    if _settings() == before:
        return
    dtype, attention = before
    torch.set_default_dtype(dtype)
    torch.nn.functional.scaled_dot_product_attention = attention
    raise PluginError(
        f"Probe {name!r} changed torch's default dtype or its attention function in the middle of a forward pass."
    )


@contextmanager
def _quietly(tensor: Tensor) -> Iterator[None]:
    """Lets a probe compute without a graph for gradients and in the precision it chooses, not the model's."""
    with torch.no_grad(), torch.autocast(tensor.device.type, enabled=False):
        yield
