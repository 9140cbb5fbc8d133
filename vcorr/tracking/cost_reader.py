"""Keeps, during one pass of a model, what the chosen layers match; the query points come to it later.

Shape legend: F latent frames of a chunk, h x w tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from vcorr.capture.captures import Capture
from vcorr.capture.recorder import Recorder
from vcorr.contract.bases import ProbeBase
from vcorr.contract.errors import UsageError, VcorrError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import LEAST_ROUND_TRIP, Renoise
from vcorr.contract.probe_protocols import Probe, TokenCosts
from vcorr.contract.protocols import VideoModel
from vcorr.contract.records import HEAD_MEAN, NO_QUERIES, Clip, RunSettings, Site
from vcorr.contract.variants import Switches
from vcorr.functional.query_points import QueryPoints


@dataclass(frozen=True)
class ChunkCosts:
    """What one pass over a chunk gave.

    costs: of each chosen layer. grid: the tokens of the chunk, the same at all layers. site: of the first layer.
    noise: noise level of the step, NaN for a model without noise.
    """

    costs: Sequence[TokenCosts]
    grid: TokenGrid
    site: Site
    noise: float


class CostReader(ProbeBase):
    """Stands in a recorder for a probe, and keeps what that probe matches at each site.

    Args:
        probe: the probe.
        variant: under which it matches.
        sites: number of sites to read before the pass is broken off; 0 for a pass that has to reach its end.
    """

    def __init__(self, probe: Probe, variant: Switches, sites: int = 0) -> None:
        self.needs = frozenset(probe.needs)
        self._probe, self._variant, self._sites = takes_costs(probe), variant, sites
        self._seen: list[tuple[Capture, TokenCosts]] = []

    def read(self, capture: Capture, queries: QueryPoints) -> Mapping[int, Tensor]:
        """Keeps a copy of what the probe matches; returns positions of no meaning."""
        costs = self._probe.take_costs(capture, self._variant)
        assert costs is not None  # `takes_costs` has refused such probes
        bare = Capture(capture.site, capture.grid, capture.step, capture.noise)  # without the tensors of the model
        self._seen.append((bare, costs.keep()))
        if len(self._seen) == self._sites:
            raise _EnoughReadError("All layers of the tracker were read.")
        return {HEAD_MEAN: torch.zeros(len(queries), capture.grid.frames, 2)}

    def collect(self) -> ChunkCosts:
        """Returns what was kept.

        Raises:
            UsageError: the layers have different tokens, so their correlations have no mean.
        """
        (first, _), *more = self._seen
        for other, _ in more:
            if other.grid != first.grid:
                raise UsageError(
                    f"Layers {first.site.layer} and {other.site.layer} have tokens of different sizes: "
                    f"{first.grid.stride} and {other.grid.stride} pixels.",
                    hint="Average layers of one resolution, or take one layer.",
                )
        return ChunkCosts([costs for _, costs in self._seen], first.grid, first.site, first.noise)


class _EnoughReadError(VcorrError):
    """Breaks off a pass whose remaining layers nobody reads. An error of vcorr passes through adapters unchanged."""


def read_chunk(
    model: VideoModel, clip: Clip, settings: RunSettings, probe: Probe, layers: Sequence[int], variant: Switches
) -> ChunkCosts:
    """Runs a model on a chunk, which has no queries, and returns what its layers match.

    In mode renoise the pass ends at the last of these layers: what follows would change nothing.

    Raises:
        UsageError: the layers have different tokens, or mode invert does not restore the chunk.
    """
    breaks_off = settings.mode == Renoise.name
    reader = CostReader(probe, variant, sites=max(1, len(set(layers))) if breaks_off else 0)
    recorder = Recorder({"costs": reader}, NO_QUERIES, layers=frozenset(layers))
    with suppress(_EnoughReadError):
        model.run(clip, settings, recorder)
    restored = recorder.reconstruction
    if restored is not None and restored.sampler < LEAST_ROUND_TRIP:
        raise UsageError(
            f"{clip.id}: sampling again from the inverted latents restores it with {restored.sampler:.1f} dB; at least "
            f"{LEAST_ROUND_TRIP:g} dB are needed.",
            hint="More steps invert better: --set num_steps=100. Or take --mode renoise.",
        )
    return reader.collect()


def takes_costs(probe: Probe) -> ProbeBase:
    """Returns a probe that a tracker can read, with all its members.

    Raises:
        UsageError: the probe matches no tokens, so it cannot track.
    """
    own = getattr(type(probe), "take_costs", None)
    if own is None or own is ProbeBase.take_costs:
        raise UsageError(
            f"{type(probe).__name__} cannot track: it does not say what it matches.",
            hint="Probes that match tokens track: qk, kk, qq, vv, latent, feature and hidden, and their -fair and -cos "
            "forms.",
        )
    return probe  # type: ignore[return-value]  # it has the one member that is used
