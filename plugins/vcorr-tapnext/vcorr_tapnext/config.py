"""Holds the options of the tracker. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vcorr import option

VERSION = 1
NAME = "tapnext"


@dataclass(frozen=True, kw_only=True)
class TapNextConfig:
    """Options of `tapnext`."""

    checkpoint: str = option(
        "",
        "Path of the weights, safetensors or the authors' .pt or .ckpt; empty for the file in the folder of torch.hub "
        "or in ~/.cache/tapnextpp.",
    )
    size: Literal[256, 512] = option(
        256,
        "Height and width to which frames are resized; 512 has weights of its own.",
        unit="pixels",
    )
    device: str = option("auto", '"auto" (cuda if there is one) or a device of torch, such as cuda:1.')
    visibility: float = option(0.5, "A point is visible where its probability is above this.", least=0, most=1)
    points: int = option(
        1024,
        "Largest number of queries that are tracked together; more are tracked in groups of about equal size, and "
        "points of a group influence each other. 1: each query by itself.",
        unit="points",
        least=1,
    )
