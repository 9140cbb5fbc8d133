"""How Open-Sora 1.2's autoencoder counts time: chunks of 17 frames, each padded in front and coded by itself."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.geometry import Span
from vcorr.diffusion import Compression

CHUNK = 17
RATIO = 4
CHUNK_LATENTS = -(-CHUNK // RATIO)
"""Latents of a whole chunk."""


def padding_of(frames: int) -> int:
    """Frames put in front of a chunk so that it fills whole latents."""
    return -frames % RATIO


@dataclass(frozen=True)
class ChunkedCompression(Compression):
    """4 x 8 x 8 and patches of 2 x 2. Of each chunk of 17 frames, the first is a latent of its own."""

    @property
    def frame_step(self) -> int:
        """Any number of frames is coded."""
        return 1

    def time(self, video_frames: int) -> tuple[int, tuple[Span, ...] | None]:
        """Latents, and the frames each of them covers."""
        spans: list[Span] = []
        for start in range(0, video_frames, CHUNK):
            length = min(CHUNK, video_frames - start)
            padding = padding_of(length)
            spans += [
                (start + max(first - padding, 0), start + first - padding + RATIO - 1)
                for first in range(0, length + padding, RATIO)
            ]
        return len(spans), tuple(spans)
