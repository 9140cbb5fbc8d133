"""Keeps, during one pass of a model, what the chosen layers match; the query points come to it later.

Shape legend: F latent frames of a chunk, h x w tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vcorr.capture.captures import Capture
from vcorr.capture.recorder import Recorder
from vcorr.contract.bases import ProbeBase
from vcorr.contract.errors import UsageError
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.modes import LEAST_ROUND_TRIP
from vcorr.contract.probe_protocols import Probe, TokenCosts
from vcorr.contract.protocols import VideoModel
from vcorr.contract.records import HEAD_MEAN, Clip, Queries, RunSettings, Site
from vcorr.contract.variants import Switches
from vcorr.functional.query_points import QueryPoints

NO_QUERIES = Queries.at(np.zeros((0, 2), np.float32))


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
    """Stands in a recorder for a probe, and keeps what that probe matches at each site."""

    def __init__(self, probe: Probe, variant: Switches) -> None:
        self.needs = frozenset(probe.needs)
        self._probe, self._variant = probe, variant
        self._seen: list[tuple[Site, TokenGrid, TokenCosts]] = []

    def read(self, capture: Capture, queries: QueryPoints) -> Mapping[int, Tensor]:
        """Keeps a copy of what the probe matches; returns positions of no meaning."""
        costs = takes_costs(self._probe).take_costs(capture, self._variant)
        assert costs is not None  # `check_probe` has refused other probes
        self._seen.append((capture.site, capture.grid, costs.keep()))
        return {HEAD_MEAN: torch.zeros(len(queries), capture.grid.frames, 2)}

    def collect(self, noise: float) -> ChunkCosts:
        """Returns what was kept.

        Raises:
            UsageError: the layers have different tokens, so their correlations have no mean.
        """
        (site, grid, _), *more = self._seen
        for other, found, _ in more:
            if found != grid:
                raise UsageError(
                    f"Layers {site.layer} and {other.layer} have tokens of different sizes: {grid.stride} and "
                    f"{found.stride} pixels.",
                    hint="Average layers of one resolution, or take one layer.",
                )
        return ChunkCosts([costs for _, _, costs in self._seen], grid, site, noise)


def read_chunk(
    model: VideoModel, clip: Clip, settings: RunSettings, probe: Probe, layers: Sequence[int], variant: Switches
) -> ChunkCosts:
    """Runs a model on a chunk, which has no queries, and returns what its layers match.

    Raises:
        UsageError: the layers have different tokens, or mode invert does not restore the chunk.
    """
    reader = CostReader(probe, variant)
    recorder = Recorder({"costs": reader}, NO_QUERIES, layers=frozenset(layers))
    model.run(clip, settings, recorder)
    restored = recorder.reconstruction
    if restored is not None and restored.sampler < LEAST_ROUND_TRIP:
        raise UsageError(
            f"{clip.id}: sampling again from the inverted latents restores it with {restored.sampler:.1f} dB; at least "
            f"{LEAST_ROUND_TRIP:g} dB are needed.",
            hint="More steps invert better: --set num_steps=100. Or take --mode renoise.",
        )
    return reader.collect(recorder.predictions[0].noise)


def takes_costs(probe: Probe) -> ProbeBase:
    """Returns a probe that a tracker can read, with all its members.

    Raises:
        UsageError: the probe matches no tokens, so it cannot track.
    """
    own = getattr(type(probe), "take_costs", None)
    if own is None or own is ProbeBase.take_costs:
        raise UsageError(
            f"{type(probe).__name__} cannot track: it does not say what it matches.",
            hint="Probes that match tokens track: qk, kk, qq, vv, feature-fair, feature-cos, hidden-fair, hidden-cos, "
            "latent.",
        )
    return probe  # type: ignore[return-value]  # it has the one member that is used
