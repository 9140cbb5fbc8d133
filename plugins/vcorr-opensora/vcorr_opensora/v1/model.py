"""The adapter of Open-Sora 1.2.

Attention that sees space and time apart: in each of 28 pairs of blocks, one among the tokens of a frame and one among
those of a place. Text comes through cross-attention. Batches guidance as (with text, without). The autoencoder codes
chunks of 17 frames, each causally: its first frame is a latent of its own, every four frames after it share one.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vcorr import Clip, Site, TokenGrid
from vcorr.diffusion import Compression, DiffusersVideoModel, Sizes, VideoConfig, WeightsSource
from vcorr.records import Factorised, Unrotated
from vcorr_opensora import released
from vcorr_opensora.v1.chunks import ChunkedCompression

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from vcorr.diffusion.schedule import NoiseSchedule
    from vcorr_opensora.v1.pipeline import MaskedText


@dataclass(frozen=True, kw_only=True)
class OpenSora1Config(VideoConfig):
    """Options of Open-Sora 1.2; the defaults are those of the release, whose width of 426 pixels does not divide into
    tokens.

    fps: what the network is told. aesthetic_score: what the prompt is told, as the released sampler does it; 0 leaves
    it out.

    The rest are sizes of the networks: `--weights random` builds them as they are given here, and weights from
    elsewhere must agree with those that decide where the tokens are. depth: pairs of blocks. num_attention_heads,
    attention_head_dim: of both. text_embed_dim: width of the prompt's embedding. max_text_seq_length: text tokens,
    padding included. vae_channels, vae_layers_per_block, vae_norm_groups: of the autoencoder of frames, one width a
    resolution level. temporal_width, temporal_layers: of the autoencoder of time.
    """

    height: int = 240
    width: int = 432
    frames: int = 51
    fps: int = 24
    aesthetic_score: float = 6.5
    depth: int = 28
    num_attention_heads: int = 16
    attention_head_dim: int = 72
    text_embed_dim: int = 4096
    max_text_seq_length: int = 300
    vae_channels: tuple[int, ...] = (128, 256, 512, 512)
    vae_layers_per_block: int = 2
    vae_norm_groups: int = 32
    temporal_width: int = 128
    temporal_layers: int = 4


class OpenSora1(DiffusersVideoModel[OpenSora1Config]):
    """Open-Sora 1.2, text to video, through a pipeline and networks of this plugin.

    Random weights come without the text encoder: the prompt's embedding is then standard normal noise, seeded by its
    text.
    """

    pipeline_class: ClassVar[str] = "vcorr_opensora.v1.pipeline:OpenSora1Pipeline"
    card: ClassVar[str] = "vcorr_opensora:cards/open-sora-1.2.yaml"
    branches = ("cond", "uncond")
    steps: int = 30

    def sites(self) -> Sequence[Site]:
        """The self-attention of every block in the order they run: layer 2i sees frames, layer 2i + 1 places."""
        kinds = (("spatial_blocks", Factorised("frame"), None), ("temporal_blocks", Factorised("place"), _UNROTATED))
        return tuple(
            Site(
                2 * pair + index,
                f"{blocks}.{pair}.attn",
                self.config.num_attention_heads,
                "factorised",
                block=f"{blocks}.{pair}",
                block_axes="fnc",
                factorised=factorised,
                unrotated=unrotated,
            )
            for pair in range(self.config.depth)
            for index, (blocks, factorised, unrotated) in enumerate(kinds)
        )

    @property
    def compression(self) -> Compression:
        """4x8x8 and patches of 2x2, chunk by chunk."""
        return ChunkedCompression()

    def sizes(self, site: Site | None = None) -> Mapping[str, Sizes]:
        """Any number of frames with two latents."""
        return {**super().sizes(site), "frames": Sizes(5, 1)}

    def build(self, seed: int) -> Any:
        """The pipeline with random weights and without text encoder."""
        from vcorr_opensora.v1.networks import build_pipeline

        return build_pipeline(self.config)

    def locate(self, weights: str) -> WeightsSource:
        """As of every model; a folder has to be laid out as the release is."""
        folder = Path(weights).expanduser()
        if weights == "hub":
            return released.hub_source(released.V1, self.model_card())
        if released.V1.fills(folder):
            return released.folder_source(released.V1, self.model_card(), folder)
        return super().locate(weights)

    def loaded_sizes(self) -> Mapping[str, Any]:
        """The sizes that decide where sites and tokens are."""
        transformer = self.pipe.transformer.config
        names = ("depth", "num_attention_heads", "attention_head_dim", "text_embed_dim", "max_text_seq_length")
        return {name: transformer[name] for name in names}

    def encode(self, video: NDArray[np.uint8]) -> Tensor:
        """(T, H, W, 3) uint8 RGB to (1, C, F, h, w): the means of both posteriors, shifted and scaled."""
        from vcorr.diffusion.latents import to_model_range

        vae = self.pipe.vae
        latents: Tensor = vae.encode(to_model_range(video, self.device, vae.dtype))
        return latents

    def schedule(self, num_steps: int, grid: TokenGrid) -> NoiseSchedule:
        """The scheduler's steps, shifted by the size of the video, and their noise levels."""
        from vcorr.diffusion.schedule import noise_schedule

        size = (grid.frames, round(grid.height), round(grid.width))
        arguments = self.pipe.schedule_arguments(num_steps, *size)
        return noise_schedule(self.pipe.scheduler, num_steps, self.device, **arguments)

    def text_limit(self) -> int:
        """The text tokens of the transformer."""
        return self.config.max_text_seq_length

    def prompt(self, clip: Clip) -> str:
        """The clip's text with what the release appends to it; see the base class."""
        return super().prompt(replace(clip, prompt=scored(clip.prompt, self.config.aesthetic_score)))

    def condition(self, prompt: str, grid: TokenGrid) -> MaskedText:
        """The encoded prompt."""
        return self._text(prompt)

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the transformer, for a batch of one."""
        inputs: Mapping[str, Any] = self.pipe.transformer_inputs(latents, condition, timestep, self.config.fps)
        return inputs

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """The encoded prompt, or its stand-in where there is no text encoder."""
        return {"text": self._text(self.prompt(clip)), "fps": self.config.fps}

    def _text(self, prompt: str) -> MaskedText:
        from vcorr_opensora.v1.networks import random_text
        from vcorr_opensora.v1.pipeline import MaskedText

        if self.pipe.text_encoder is not None:
            encoded: MaskedText = self.pipe.encode_prompt(prompt, self.text_limit())
            return encoded
        text = random_text(self.config, prompt)
        return MaskedText(text.tokens.to(self.device, self.pipe.transformer.dtype), text.real.to(self.device))


_UNROTATED = Unrotated("q_norm", "k_norm", "bhnd")


def scored(prompt: str, score: float) -> str:
    """A prompt as the model was trained to read it: in lower case, with a score of its looks; an empty one stays so."""
    text = prompt.strip().lower()
    return f"{text} aesthetic score: {score:.1f}." if text and score else text
