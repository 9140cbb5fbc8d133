"""The records that travel between the parts: numpy and plain values only, so that importing them costs nothing.

Arrays: N query points, T video frames, F latent frames. Positions are (x, y) raster pixels (docs/conventions.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vcorr.errors import UsageError
from vcorr.geometry import TokenGrid

Mode = Literal["renoise", "generate"]
Attention = Literal["full3d", "factorised", "linear", "none"]
Readout = Literal["token", "free"]

NO_SITE = -1
"""Layer and step of answers that come from no attention site (baselines), and head of a mean over heads."""
HEAD_MEAN = -1


@dataclass(frozen=True)
class Site:
    """One attention module of a model.

    `layer` counts from 0 in the order of execution, `name` is the module's path inside the denoiser, `heads` the number
    of its attention heads (0 when unknown before loading), `attention` what its tokens can see.
    """

    layer: int
    name: str
    heads: int = 0
    attention: Attention = "full3d"


@dataclass(frozen=True)
class Tracks:
    """Where the query points are in every frame.

    xy: (N, T, 2) float32 pixels, [:, 0] the query itself. visible: (N, T) bool, True where the point can be seen.
    tracker: who says so ("exact" for tracks known by construction). version: of that tracker.
    """

    xy: NDArray[np.float32]
    visible: NDArray[np.bool_]
    tracker: str
    version: int = 1

    def __post_init__(self) -> None:
        if self.xy.ndim != 3 or self.xy.shape[-1] != 2:
            raise UsageError(f"Tracks: xy must have shape (N, T, 2), got {self.xy.shape}.")
        if self.visible.shape != self.xy.shape[:2] or self.visible.dtype != np.bool_:
            raise UsageError(
                f"Tracks: visible must be bool of shape {self.xy.shape[:2]}, got {self.visible.dtype} "
                f"{self.visible.shape}."
            )
        if not np.isfinite(self.xy[self.visible]).all():
            raise UsageError("Tracks: xy is NaN or infinite at a visible point.")


@dataclass(frozen=True)
class Clip:
    """One item of a dataset: a video or a prompt, query points in frame 0, and, where known, their tracks.

    video: (T, H, W, 3) uint8 RGB, or None for prompt-only items. queries: (N, 2) float32 pixels in frame 0.
    """

    id: str
    prompt: str
    queries: NDArray[np.float32]
    video: NDArray[np.uint8] | None = None
    tracks: Tracks | None = None
    fps: float = 8.0

    def __post_init__(self) -> None:
        if self.queries.ndim != 2 or self.queries.shape[1] != 2:
            raise UsageError(f"Clip {self.id}: queries must have shape (N, 2), got {self.queries.shape}.")
        if self.video is not None and (
            self.video.ndim != 4 or self.video.shape[3] != 3 or self.video.dtype != np.uint8
        ):
            raise UsageError(
                f"Clip {self.id}: video must be uint8 of shape (T, H, W, 3), got {self.video.dtype} {self.video.shape}."
            )
        if self.tracks is not None and self.video is not None:
            expected = (len(self.queries), len(self.video), 2)
            if self.tracks.xy.shape != expected:
                raise UsageError(
                    f"Clip {self.id}: tracks have shape {self.tracks.xy.shape}; {expected[0]} queries and "
                    f"{expected[1]} frames need {expected}."
                )

    def with_queries(self, queries: NDArray[np.float32]) -> Clip:
        """The clip with other query points and no tracks."""
        return replace(self, queries=queries, tracks=None)


@dataclass(frozen=True)
class RunSettings:
    """What a model adapter is asked to do with a clip.

    mode: "renoise" (encode the clip's video, add the noise of each chosen step, one forward pass a step) or "generate".
    steps: 0-based indices into the scheduler's `num_steps` timesteps, ascending; 0 is the noisiest.
    seed: of the noise; the same seed and clip give the same noise whatever else is chosen.
    """

    mode: Mode = "renoise"
    steps: tuple[int, ...] = (0,)
    num_steps: int = 1
    seed: int = 42


@dataclass(frozen=True)
class Prediction:
    """What one probe answered at one site: where each query point is at every latent time.

    xy: (N, F, 2) float32 pixels, [:, 0] the query. layer, step, head: -1 where they do not apply
    (docs/results-format.md). noise: sigma / (alpha + sigma) in [0, 1] of the step, NaN without noise. readout: "token"
    when only whole-token motions can be answered (the ceiling then is the token oracle), "free" when any position can.
    """

    probe: str
    xy: NDArray[np.float32]
    grid: TokenGrid
    layer: int = NO_SITE
    layer_name: str = ""
    step: int = NO_SITE
    head: int = HEAD_MEAN
    noise: float = float("nan")
    attention: Attention = "none"
    readout: Readout = "token"


@dataclass(frozen=True)
class Score:
    """A metric's value for one clip and site. `value` is NaN when nothing could be scored; n counts what was."""

    value: float
    n: int


@dataclass(frozen=True)
class ModelCard:
    """Facts about a model, read from its YAML card (docs/model-cards.md lists every field)."""

    name: str
    title: str
    summary: str
    attention: Attention
    licence: str
    hub_id: str | None = None
    revision: str | None = None
    download_gb: float | None = None
    parameters: int | None = None
    resolution: tuple[int, int] | None = None
    frames: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
