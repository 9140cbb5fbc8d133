"""Holds a guardrail for Cosmos with random weights, which make only noise and nothing unsafe.

The pipeline refuses to run without a guardrail, because the licence of the released weights requires one. Pipelines
with released weights keep their own guardrail, from the package `cosmos_guardrail`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class NothingToGuard:
    """A guardrail that accepts all prompts and videos."""

    def to(self, device: object) -> None:
        """Accepts any device, because there is nothing to move."""

    def check_text_safety(self, prompt: str) -> bool:
        """Returns True: any prompt may be used."""
        return True

    def check_video_safety(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns the frames unchanged."""
        return frames
