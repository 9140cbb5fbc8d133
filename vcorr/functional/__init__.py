"""Pure functions on tensors: matching, the way from latent times to frames, and accuracy (docs/functional.md).

Any device, no global state, one clip at a time; usable without the rest of vcorr. H heads, F latent frames, h x w
tokens of a frame, d width of a head, N query points, T video frames. Positions are (x, y) raster pixels.
"""

from __future__ import annotations

from typing import Any

from vcorr.functional.api import latent_to_frames, match, match_features, matching_accuracy

__all__ = ["latent_to_frames", "match", "match_features", "matching_accuracy"]

_LATER = frozenset(
    {"attention_rows", "confidence_score", "attention_score", "harmonic_mean", "tapvid", "cross_frame_attention"}
)


def __getattr__(name: str) -> Any:
    if name in _LATER:
        raise AttributeError(f"vcorr.functional.{name} is not part of this version of vcorr; a later one brings it.")
    raise AttributeError(f"module 'vcorr.functional' has no attribute {name!r}")
