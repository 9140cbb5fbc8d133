"""Scores how far the look of a generated video drifts, by the class token of an image backbone."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vcorr import MetricBase, Score, VideoTracks
from vcorr.functional import descriptor_drift
from vcorr_vision.drift_options import BackboneDriftConfig

AT_ONCE = 8
"""Frames per pass."""


class BackboneDrift(MetricBase):
    """`backbone_drift`: `subject_drift` with the class tokens of a backbone (arXiv 2311.17982, subject consistency).

    In [0, 2]; less is better; n is the number of later frames. NaN, with n = 0, for a video of one frame. The network
    is loaded with the first video, on the CPU.

    Raises:
        MissingError: its weights are not in reach; the hint has the command that gets them.
    """

    higher_is_better = False
    columns = ("backbone_drift",)
    primary = "backbone_drift"
    lower, upper = 0.0, 2.0

    def __init__(self, config: BackboneDriftConfig) -> None:
        self._config = config

    @cached_property
    def _model(self) -> Any:
        from vcorr_vision.plugin import MODELS

        entry = next(entry for entry in MODELS if entry.name == self._config.backbone)
        options: Any = entry.config_type()
        model = entry.create(options(height=self._config.side, width=self._config.side))
        model.load("cpu", "float32", self._config.weights)
        return model

    def score_video(self, video: NDArray[np.uint8], tracks: VideoTracks) -> dict[str, Score]:
        """Scores the pixels of a video (T, H, W, 3); the tracks are not read."""
        return {self.primary: Score(descriptor_drift(self.describe(video)), len(video) - 1)}

    def describe(self, video: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the class token of every frame, (T, D)."""
        import torch
        from torch.nn import functional

        found, side = [], self._config.side
        with torch.no_grad():
            for start in range(0, len(video), AT_ONCE):
                pixels = self._model.pixels(video[start : start + AT_ONCE], torch.float32)
                small = functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
                found.append(self._model.network(**self._model.inputs(small)).last_hidden_state[:, 0])
        return torch.cat(found).numpy()
