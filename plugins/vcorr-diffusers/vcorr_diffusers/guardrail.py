"""The stand-in for Cosmos' guardrail beside random weights, which make noise and nothing that could be unsafe.

The pipeline refuses to run without a guardrail, rightly: the licence of the released weights asks for it. Pipelines
with released weights keep their own, from the package `cosmos_guardrail`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class NothingToGuard:
    """What the pipeline asks of a guardrail, for videos of noise."""

    def to(self, device: object) -> None:
        """Has nothing to move."""

    def check_text_safety(self, prompt: str) -> bool:
        """Whether the prompt may be used."""
        return True

    def check_video_safety(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The frames, unchanged."""
        return frames
