"""Options of the trackers; no torch."""

from __future__ import annotations

from dataclasses import dataclass

VERSION = 1
OFFLINE, ONLINE = "cotracker3-offline", "cotracker3-online"


@dataclass(frozen=True, kw_only=True)
class OfflineConfig:
    """Options of `cotracker3-offline`.

    checkpoint: path of the weights, safetensors or the authors' .pth; empty for those that `hf download` or torch.hub
    have put into their caches. device: "auto" (cuda where there is one) or a device of torch. visibility: a point is
    visible where its probability is above this. support_grid: points along one side of a grid that is tracked beside
    the queries to give them context, and thrown away; 0 for none. points: at most so many queries are tracked together,
    more in groups of about equal size; points of a group see each other. window_len: frames of the checkpoint's time
    embedding. iterations: refinements of the tracks.
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

    As those of `cotracker3-offline`, but for two: visibility: a point is visible where the product of its probability
    and the network's confidence is above this. window_len: frames of a window, an even number; the next one begins half
    a window later.
    """

    checkpoint: str = ""
    device: str = "auto"
    visibility: float = 0.6
    support_grid: int = 0
    points: int = 512
    window_len: int = 16
    iterations: int = 6


Config = OfflineConfig | OnlineConfig
