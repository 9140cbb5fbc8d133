"""Holds the options of the trackers. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr import option

VERSION = 1
OFFLINE, ONLINE = "cotracker3-offline", "cotracker3-online"


@dataclass(frozen=True, kw_only=True)
class OfflineConfig:
    """Options of `cotracker3-offline`."""

    checkpoint: str = option(
        "",
        "Path of the weights, safetensors or the authors' .pth; empty for the file in the cache of `hf download` "
        "or torch.hub.",
    )
    device: str = option("auto", '"auto" (cuda if there is one) or a device of torch, such as cuda:1.')
    visibility: float = option(0.9, "A point is visible where its probability is above this.", least=0, most=1)
    support_grid: int = option(
        0,
        "Points along one side of an additional grid, which is tracked with the queries as context and then "
        "dropped; 0 for none.",
        unit="points",
        least=0,
    )
    points: int = option(
        512,
        "Largest number of queries that are tracked together; more are tracked in groups of about equal size, and"
        " points of a group influence each other.",
        unit="points",
        least=1,
    )
    window_len: int = option(60, "Frames of the checkpoint's time embedding.", unit="frames", least=1)
    iterations: int = option(6, "Number of refinements of the tracks.", least=1)


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """Options of `cotracker3-online`."""

    checkpoint: str = option(
        "",
        "Path of the weights, safetensors or the authors' .pth; empty for the file in the cache of `hf download` "
        "or torch.hub.",
    )
    device: str = option("auto", '"auto" (cuda if there is one) or a device of torch, such as cuda:1.')
    visibility: float = option(
        0.6,
        "A point is visible where the product of its probability and the network's confidence is above this.",
        least=0,
        most=1,
    )
    support_grid: int = option(
        0,
        "Points along one side of an additional grid, which is tracked with the queries as context and then "
        "dropped; 0 for none.",
        unit="points",
        least=0,
    )
    points: int = option(
        512,
        "Largest number of queries that are tracked together; more are tracked in groups of about equal size, and"
        " points of a group influence each other.",
        unit="points",
        least=1,
    )
    window_len: int = option(
        16,
        "Frames of a window, an even number; the next window begins half a window later.",
        unit="frames",
        least=2,
    )
    iterations: int = option(6, "Number of refinements of the tracks.", least=1)


Config = OfflineConfig | OnlineConfig
