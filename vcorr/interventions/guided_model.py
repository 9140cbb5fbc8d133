"""What guided sampling needs to know of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from vcorr.capture.captures import TokenLayout
from vcorr.capture.passes import Pass
from vcorr.contract.geometry import TokenGrid
from vcorr.contract.guidance_protocols import GuidedSite
from vcorr.contract.records import Site

TakeBranch = Callable[[Pass], Mapping[str, Any]]
"""Takes a pass that holds the conditional branch; returns the arguments of this branch alone, by name."""


@dataclass(frozen=True)
class GuidedModel:
    """A model that is guided.

    Args:
        denoisers: the denoiser, or several that take turns, compiled or not.
        sites: all attention sites, by ascending layer; their names are paths inside each denoiser.
        layout: where the text tokens and the guidance branches are.
        grid: returns how the tokens of a site lie over the video.
        take_branch: returns the arguments of the conditional branch of a pass.
        joins_rows: whether the perturbed prediction shares the blocks before the first perturbed one with the
            conditional branch. If not, it is a whole pass.
        recommended: the layers that the model's card names for guidance.
        name: of the model, for messages.
    """

    denoisers: Sequence[nn.Module]
    sites: Sequence[Site]
    layout: TokenLayout
    grid: Callable[[Site], TokenGrid]
    take_branch: TakeBranch
    joins_rows: bool = True
    recommended: tuple[int, ...] = ()
    name: str = "the model"

    @property
    def guided_sites(self) -> tuple[GuidedSite, ...]:
        """The sites, as a guidance gets them."""
        return self.sites_of(self.sites, self.recommended)

    @staticmethod
    def sites_of(sites: Sequence[Site], recommended: Sequence[int]) -> tuple[GuidedSite, ...]:
        """Returns the sites of a model, as a guidance gets them. recommended: layers that its card names."""
        return tuple(GuidedSite(site, site.layer in recommended) for site in sites)
