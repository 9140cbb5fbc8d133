"""Maps frames to latent frames of Open-Sora 1.2: chunks of 17 frames, each padded in front and encoded alone."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr import Span
from vcorr.diffusion import Compression

CHUNK = 17
RATIO = 4
CHUNK_LATENTS = -(-CHUNK // RATIO)
"""Latent frames of a whole chunk."""


def padding_of(frames: int) -> int:
    """Returns the number of frames to add in front of a chunk so that its latent frames are complete."""
    return -frames % RATIO


@dataclass(frozen=True)
class ChunkedCompression(Compression):
    """4 x 8 x 8 and patches of 2 x 2. The first frame of each chunk of 17 frames has a latent frame of its own."""

    @property
    def frame_step(self) -> int:
        """1, because the autoencoder takes any number of frames."""
        return 1

    def frames_of_stills(self, stills: int) -> int:
        """Returns the frames of a video that has as many latents as this number of stills."""
        chunks, rest = divmod(stills, CHUNK_LATENTS)
        return CHUNK * chunks + (RATIO * (rest - 1) + 1 if rest else 0)

    def time(self, video_frames: int) -> tuple[int, tuple[Span, ...] | None]:
        """Returns the number of latent frames, and the frames that each of them covers."""
        spans: list[Span] = []
        for start in range(0, video_frames, CHUNK):
            length = min(CHUNK, video_frames - start)
            padding = padding_of(length)
            spans += [
                (start + max(first - padding, 0), start + first - padding + RATIO - 1)
                for first in range(0, length + padding, RATIO)
            ]
        return len(spans), tuple(spans)
