"""A model's layout as data: how pixels and frames become tokens, and where its attention modules are."""

from __future__ import annotations

from dataclasses import dataclass

from vcorr.contract.geometry import Span, TokenGrid, latent_frames
from vcorr.contract.records import Attention, BlockAxes, Factorised, Site, Unrotated
from vcorr.contract.rotary import Rotary


@dataclass(frozen=True)
class Sizes:
    """Sizes a model takes: `first` and every `step` more, up to `last` where there is an end."""

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
        """The largest of at most `most`; None when all are larger."""
        if most < self.first:
            return None
        within = most if self.last is None else min(most, self.last)
        return self.first + (within - self.first) // self.step * self.step

    def nearest(self, size: int) -> tuple[int, ...]:
        """The next smaller and the next larger ones of a size that is not among them."""
        below = self.fitting(size)
        above = self.first if below is None else below + self.step
        fits = self.last is None or above <= self.last
        return tuple(found for found in (below, above if fits else None) if found is not None)


@dataclass(frozen=True)
class Compression:
    """How pixels become tokens.

    spatial, temporal: of the autoencoder, pixels and frames a latent covers. patch, temporal_patch: latents a token
    covers in space and in time. causal: whether the first latent holds the first frame alone. front_padded: whether
    latents that do not fill the temporal patches are padded in front (else their number has to divide).
    """

    spatial: int = 8
    temporal: int = 4
    patch: int = 2
    temporal_patch: int = 1
    causal: bool = True
    front_padded: bool = False

    @property
    def stride(self) -> int:
        """Pixels a token covers, in x and in y."""
        return self.spatial * self.patch

    @property
    def temporal_ratio(self) -> int:
        """Frames a token covers."""
        return self.temporal * self.temporal_patch

    @property
    def frame_step(self) -> int:
        """Frames by which one length of video and the next longer one differ."""
        return self.temporal if self.front_padded else self.temporal_ratio

    @property
    def least_frames(self) -> int:
        """Frames of the shortest video with a latent to match to: two tokens in time."""
        return self.temporal_ratio + 1 if self.causal else 2 * self.temporal_ratio

    def padding(self, video_frames: int) -> int:
        """Latents put in front of those of `video_frames` frames, so that they fill the temporal patches."""
        if not self.front_padded:
            return 0
        return -latent_frames(video_frames, self.temporal, causal=self.causal) % self.temporal_patch

    def time(self, video_frames: int) -> tuple[int, tuple[Span, ...] | None]:
        """Tokens in time, and the frames each of them covers where that is not one per `temporal_ratio` frames.

        Raises:
            UsageError: the frame count does not divide; the message names the nearest ones that do.
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
    """`count` sites, each named `pattern` with its number from 0 in place of "{}", e.g. "blocks.{}.attn1".

    Their layers count from `first`, which is the number of sites before them in models with blocks of several kinds.
    `block` is the pattern of the modules that put out the hidden states; see `vcorr.Site` for the others.
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
