"""Holds the probe `latent`: nearest tokens of the latents that the denoiser gets (docs/probes.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vcorr.contract.bases import ProbeBase
from vcorr.contract.probe_protocols import TokenCosts
from vcorr.contract.records import HEAD_MEAN
from vcorr.contract.variants import Switches
from vcorr.probes import tensor_functions as on_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from vcorr.capture.captures import Capture
    from vcorr.functional.query_points import QueryPoints


class Latent(ProbeBase):
    """`latent`: the latents of a pass, nearest token by L2 distance: what the network sees, without the network.

    It reads the latents of the conditional branch as the denoiser gets them, with the noise of the step and without
    channels of a condition. Their values are grouped to the tokens of the denoiser. It reads no attention site, so
    there is one prediction per step, with layer -1.
    """

    needs = frozenset({"latent"})

    def answers_per_site(self, heads: int) -> int:
        """Returns 0, because it reads no site."""
        return 0

    def read(self, capture: Capture, queries: QueryPoints) -> dict[int, Tensor]:
        """Returns the positions, under head -1; see `vcorr.Probe`."""
        latent = capture.latent
        return {HEAD_MEAN: on_tensors.match_nearest(latent, capture.grid, queries.locate(capture.grid, latent.device))}

    def take_costs(self, capture: Capture, variant: Switches) -> TokenCosts:
        """Returns the values of the tokens and how they match; see `vcorr.ProbeBase`."""
        return on_tensors.NearestTokens(capture.latent)
