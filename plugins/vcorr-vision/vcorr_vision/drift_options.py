"""The options of the metric `backbone-drift`, apart from its code: listing options then loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vcorr import UsageError, option

TOKENS = {"dino-s16": 16, "dino-b16": 16, "dinov2-b14": 14}
"""The backbones, with the sides of their tokens in pixels; each has a class token in front."""


@dataclass(frozen=True, kw_only=True)
class BackboneDriftConfig:
    """Options of `backbone-drift`."""

    backbone: Literal["dino-s16", "dino-b16", "dinov2-b14"] = option("dino-b16", "The backbone; VBench takes dino-b16.")
    weights: str = option("hub", "As --weights: hub, random or a folder. Nothing is downloaded.")
    side: int = option(224, "Side of the square to which frames are resized.", unit="pixels", least=14, most=2048)

    def __post_init__(self) -> None:
        if self.side % TOKENS[self.backbone]:
            raise UsageError(
                f"metric.side={self.side} is no multiple of {TOKENS[self.backbone]}, the token of {self.backbone}."
            )
