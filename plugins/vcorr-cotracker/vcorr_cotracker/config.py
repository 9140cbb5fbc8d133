"""Holds the options of the trackers. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

VERSION = 1
OFFLINE, ONLINE = "cotracker3-offline", "cotracker3-online"


@dataclass(frozen=True, kw_only=True)
class OfflineConfig:
    """Options of `cotracker3-offline`.

    checkpoint: path of the weights, safetensors or the authors' .pth; empty for the file in the cache of `hf download`
    or torch.hub. device: "auto" (cuda if there is one) or a device of torch. visibility: a point is visible where its
    probability is above this. support_grid: points along one side of an additional grid, which is tracked with the
    queries as context and then dropped; 0 for none. points: largest number of queries that are tracked together; more
    are tracked in groups of about equal size, and points of a group influence each other. window_len: frames of the
    checkpoint's time embedding. iterations: number of refinements of the tracks.
    """

    checkpoint: str = ""
    device: str = "auto"
    visibility: float = 0.9
    support_grid: int = 0
    points: int = 512
    window_len: int = 60
    iterations: int = 6


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """Options of `cotracker3-online`.

    They equal the options of `cotracker3-offline` except for two. visibility: a point is visible where the product of
    its probability and the network's confidence is above this. window_len: frames of a window, an even number; the next
    window begins half a window later.
    """

    checkpoint: str = ""
    device: str = "auto"
    visibility: float = 0.6
    support_grid: int = 0
    points: int = 512
    window_len: int = 16
    iterations: int = 6


Config = OfflineConfig | OnlineConfig
