"""Reads one denoising step: each attention call and block output of it is split once and shown to all probes.

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
from vcorr.capture.needs import HIDDEN, MASK, POSITIONS, UNROTATED
from vcorr.capture.passes import PassWatch
from vcorr.capture.predictions import Answer, ask, joined
from vcorr.capture.split import CONDITIONAL, Split, conditional_rows, hidden_capture
from vcorr.capture.tap import AttentionCall, Tap, unheard
from vcorr.contract.errors import CaptureError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.probe_protocols import Probe
from vcorr.contract.records import Site
from vcorr.contract.variants import NamedVariant
from vcorr.functional.query_points import QueryPoints


@dataclass(frozen=True)
class Asked:
    """Probes by the name their predictions carry, what each needs, the variants it is asked under, and the queries.

    points: those of each frame, with their indices among all queries.
    """

    probes: Mapping[str, Probe]
    needs: Mapping[str, frozenset[str]]
    variants: Mapping[str, Sequence[NamedVariant]]
    points: Sequence[tuple[QueryPoints, NDArray[np.intp]]]

    @property
    def calling(self) -> list[str]:
        """The probes that read an attention call: all but those that want the hidden state alone."""
        return [name for name, needs in self.needs.items() if needs != {HIDDEN}]

    @property
    def hiding(self) -> list[str]:
        """The probes that read the hidden state."""
        return [name for name, needs in self.needs.items() if HIDDEN in needs]

    @property
    def all_needs(self) -> frozenset[str]:
        """What at least one probe needs."""
        return frozenset().union(*self.needs.values())

    def want(self, parts: Collection[str]) -> bool:
        """Whether a probe needs one of the parts."""
        return not self.all_needs.isdisjoint(parts)

    def ask(self, name: str, capture: Capture) -> list[Answer]:
        """The answers of one probe, which is asked once for the points of each frame."""
        probe, shown, variants = self.probes[name], capture.restricted(self.needs[name]), self.variants[name]
        groups = [(index, ask(name, probe, shown, points, variants)) for points, index in self.points]
        shown.leave()
        return joined(groups, sum(len(points) for points, _ in self.points))


@dataclass(frozen=True)
class Watched:
    """What is watched on the denoisers: passes, taps, each tapped site with its grid by module name, and by the name of
    other modules which sites' hidden state (`blocks`), or which site's q or k before the rotary embedding
    (`unrotated`), they put out.
    """

    watch: PassWatch
    taps: Sequence[Tap]
    layout: TokenLayout
    sites: Mapping[str, tuple[Site, TokenGrid]]
    blocks: Mapping[str, Sequence[str]]
    unrotated: Mapping[str, tuple[str, str]]


class StepReader:
    """One denoising step while it runs: what it has read, and what the probes answered.

    Args:
        index: of the step; -1 for a model without noise.
        noise: sigma / (alpha + sigma), NaN without noise.
        watched: what is seen of the denoisers.
        asked: the probes.
    """

    def __init__(self, index: int, noise: float, watched: Watched, asked: Asked) -> None:
        self.index, self.noise = index, noise
        self.answers: list[Answer] = []
        self.masks: list[Tensor] = []
        """0-dimensional bools on the device: whether a mask does nothing else than hide text."""
        self._watched, self._asked = watched, asked
        self._attended, self._passed = FramesSeen(index), FramesSeen(index)
        self._chunks = Chunks()
        self._unrotated: dict[str, dict[str, Tensor]] = {}
        self._positions: dict[str, AttentionCall] = {}
        self._held: dict[str, Capture] = {}

    def missing(self) -> list[str]:
        """The modules that have not run yet, or not for all frames."""
        frames = {name: grid.frames for name, (_, grid) in self._watched.sites.items()}
        calls = [self._attended.missing(name, total) for name, total in frames.items()] if self._asked.calling else []
        blocks = [
            self._passed.missing(name, frames[name]).replace(name, block)
            for block, sites in self._watched.blocks.items()
            for name in sites
        ]
        return [name for name in dict.fromkeys([*calls, *blocks]) if name]

    @property
    def anything(self) -> bool:
        """Whether any module has run for the conditional branch."""
        return bool(self._attended) or bool(self._passed)

    # ----------------------------------------------------------------------------------------------------------- calls

    def see_positions(self, site: str, call: AttentionCall) -> None:
        """Keeps what a site would attend with of positions alone, until its own call comes."""
        self._positions[site] = call

    def see_call(self, call: AttentionCall) -> None:
        """Shows an attention call to the probes, where it holds the conditional branch."""
        if CONDITIONAL not in self._watched.watch.branches_in(call):
            return
        split = self._split(call)
        frames = self._attended.take(call.name, split.frames, split.grid.frames, "computed attention")
        with _quietly(call.q):
            if self._asked.want({MASK}) and split.mask is not None:
                self.masks.append(split.mask.plain)
            part = split.capture(self.index, self.noise)
            capture = self._chunks.join(("call", call.name), part, frames, self._asked.all_needs - {HIDDEN})
            if capture is not None:
                self._ask_about_call(capture)

    def _split(self, call: AttentionCall) -> Split:
        site, grid = self._watched.sites[call.name]
        unrotated = self._unrotated.pop(call.name, {}) if self._asked.want(UNROTATED.keys()) else None
        positions = self._positions.pop(call.name, None)
        if positions is None and self._asked.want(POSITIONS.keys()):
            raise CaptureError(f"{call.name}: what it computes of positions alone was not seen.")
        return Split(call, site, grid, self._watched.layout, unrotated, positions)

    def _ask_about_call(self, capture: Capture) -> None:
        waiting = set(self._asked.hiding)
        for name in self._asked.calling:
            if name not in waiting:
                self.answers.extend(self._asked.ask(name, capture))
        if waiting.intersection(self._asked.calling):
            self._held[capture.site.name] = capture

    # --------------------------------------------------------------------------------------------------------- outputs

    def see_output(self, module: str, output: Any) -> None:
        """Shows what a module put out: q or k before the rotary embedding, or the hidden state of sites."""
        now = self._watched.watch.current
        if now is None or not now.conditional:
            return
        if module in self._watched.unrotated:
            self._see_unrotated(module, output)
        for site in self._watched.blocks.get(module, ()):
            self._see_hidden(site, output)

    def _see_unrotated(self, module: str, output: Any) -> None:
        name, part = self._watched.unrotated[module]
        if not isinstance(output, Tensor):
            raise CaptureError(f"{module}: put out {type(output).__name__} in place of a tensor.")
        site, grid = self._watched.sites[name]
        rows = conditional_rows(module, output, site.factorised, grid, self._watched.layout)
        # a copy: models write the rotated values over these
        self._unrotated.setdefault(name, {})[part] = rows.detach().clone()

    def _see_hidden(self, name: str, output: Any) -> None:
        site, grid = self._watched.sites[name]
        part = hidden_capture(output, site, grid, self._watched.layout, step=self.index, noise=self.noise)
        frames = self._passed.take(name, part.hidden.shape[0], grid.frames, f"ran ({site.block})")
        capture = self._chunks.join(("hidden", name), part, frames, {HIDDEN})
        if capture is None:
            return
        held = self._held.pop(name, None)
        whole = capture if held is None else held.replace(hidden=capture.hidden)
        with unheard(), _quietly(capture.hidden):
            for probe in self._asked.hiding:
                self.answers.extend(self._asked.ask(probe, whole))


@contextmanager
def _quietly(tensor: Tensor) -> Iterator[None]:
    """The probe computes in the precision it chose, whatever the model runs in, and leaves no graph behind."""
    with torch.no_grad(), torch.autocast(tensor.device.type, enabled=False):
        yield
