"""Describes a model's layout as data: how pixels and frames become tokens, and where its attention modules are."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.geometry import Span, TokenGrid, latent_frames
from vcorr.contract.records import Attention, BlockAxes, Factorised, Site, Unrotated
from vcorr.contract.rotary import Rotary


@dataclass(frozen=True)
class Sizes:
    """The sizes that a model takes: `first`, then each `step` larger, up to `last`; None for no upper limit."""

    first: int
    step: int
    last: int | None = None

    def __contains__(self, size: int) -> bool:
        return size == self.fitting(size)

    def __str__(self) -> str:
        if self.last == self.first:
            return f"{self.first} and no other"
        more = "and more" if self.last is None else f"to {self.last}"
        return f"{self.first} {more}, in steps of {self.step}"

    def fitting(self, most: int) -> int | None:
        """Returns the largest size of at most `most`; None if all are larger."""
        if most < self.first:
            return None
        within = most if self.last is None else min(most, self.last)
        return self.first + (within - self.first) // self.step * self.step

    def nearest(self, size: int) -> tuple[int, ...]:
        """Returns the next smaller and the next larger size, for a size that the model does not take."""
        below = self.fitting(size)
        above = self.first if below is None else below + self.step
        fits = self.last is None or above <= self.last
        return tuple(found for found in (below, above if fits else None) if found is not None)


@dataclass(frozen=True)
class Compression:
    """How pixels become tokens.

    spatial, temporal: pixels (in x and in y) and frames that one latent of the autoencoder covers. patch,
    temporal_patch: latents that one token covers in space and in time. causal: whether the first latent holds the first
    frame alone. front_padded: whether latents that do not fill the temporal patches are padded in front; if not, their
    number has to divide.
    """

    spatial: int = 8
    temporal: int = 4
    patch: int = 2
    temporal_patch: int = 1
    causal: bool = True
    front_padded: bool = False

    @property
    def stride(self) -> int:
        """Pixels that a token covers, in x and in y."""
        return self.spatial * self.patch

    @property
    def temporal_ratio(self) -> int:
        """Video frames that a token covers."""
        return self.temporal * self.temporal_patch

    @property
    def latents_per_token(self) -> tuple[int, int, int]:
        """Latents that a token covers in time, in y and in x."""
        return (self.temporal_patch, self.patch, self.patch)

    @property
    def frame_step(self) -> int:
        """Difference in video frames between two successive lengths of video that divide into tokens."""
        return self.temporal if self.front_padded else self.temporal_ratio

    @property
    def least_frames(self) -> int:
        """Frames of the shortest video that has a latent to match to: two tokens in time."""
        return self.temporal_ratio + 1 if self.causal else 2 * self.temporal_ratio

    @property
    def encodes_stills(self) -> bool:
        """Whether the autoencoder encodes one frame alone: it is causal, or covers one frame per latent."""
        return self.causal or self.temporal == 1

    def frames_of_stills(self, stills: int) -> int:
        """Returns the frames of a video that has as many latents as this number of stills.

        A still is encoded by itself, and its latent fills a whole token in time.
        """
        latents = stills * self.temporal_patch
        return self.temporal * (latents - 1) + 1 if self.causal else self.temporal * latents

    def padding(self, video_frames: int) -> int:
        """Returns the number of latents to add in front, so that `video_frames` frames fill the temporal patches."""
        if not self.front_padded:
            return 0
        return -latent_frames(video_frames, self.temporal, causal=self.causal) % self.temporal_patch

    def time(self, video_frames: int) -> tuple[int, tuple[Span, ...] | None]:
        """Returns the number of tokens in time, and, only with padding in front, the frames that each one covers.

        Raises:
            UsageError: the number of frames does not divide; the message names the nearest ones that do.
        """
        if not self.front_padded:
            return latent_frames(video_frames, self.temporal_ratio, causal=self.causal), None
        latents, padding = latent_frames(video_frames, self.temporal, causal=self.causal), self.padding(video_frames)
        each = TokenGrid(latents, 1, 1, (1, 1), temporal_ratio=self.temporal, causal=self.causal).time_spans
        ends = range(self.temporal_patch - 1 - padding, latents, self.temporal_patch)
        starts = [max(end - self.temporal_patch + 1, 0) for end in ends]
        spans = tuple((int(each[start, 0]), int(each[end, 1])) for start, end in zip(starts, ends, strict=True))
        return len(spans), spans


def attention_sites(
    pattern: str,
    count: int,
    heads: int,
    attention: Attention = "full3d",
    *,
    first: int = 0,
    block: str = "",
    block_output: int = 0,
    block_axes: BlockAxes = "bnc",
    unrotated: Unrotated | None = None,
    factorised: Factorised | None = None,
    rotary: Rotary | None = None,
) -> tuple[Site, ...]:
    """Returns `count` sites, named `pattern` with the site's number from 0 for "{}", e.g. "blocks.{}.attn1".

    Their layers count from `first`: the number of earlier sites, in models with blocks of several kinds. `block` is the
    pattern of the modules whose outputs are the hidden states. `vcorr.Site` describes the other arguments.
    """
    return tuple(
        Site(
            first + index,
            pattern.format(index),
            heads,
            attention,
            block=block.format(index),
            block_output=block_output,
            block_axes=block_axes,
            unrotated=unrotated,
            factorised=factorised,
            rotary=rotary,
        )
        for index in range(count)
    )
