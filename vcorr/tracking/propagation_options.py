"""Options of label propagation. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.option_notes import option


@dataclass(frozen=True, kw_only=True)
class PropagationOptions:
    """Options of label propagation; the defaults are DINO's on DAVIS-17 (arXiv 2104.14294)."""

    context: int = option(
        7,
        "Frames just before a frame that give it labels, in addition to the frame of the mask. A model that reads few "
        "frames per pass takes as many as fit.",
        unit="frames",
        least=0,
    )
    radius: int = option(
        12,
        "Farthest row and column from which a token takes labels; 0 for the whole frame.",
        unit="tokens",
        least=0,
    )
    top_k: int = option(5, "Tokens with the largest affinity that give a token its labels.", unit="tokens", least=1)
