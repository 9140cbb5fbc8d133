"""The adapter of the CogVideoX models.

Full 3D attention over text and video tokens, text first; batches guidance as (uncond, cond). The autoencoder is
causal: the first frame is a latent of its own, every four frames after it share one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vcorr import Site, TokenGrid
from vcorr.diffusion import Compression, DiffusersVideoModel, VideoConfig, attention_sites

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CogVideoXConfig(VideoConfig):
    """Options of `cogvideox`; the defaults are CogVideoX-2B's.

    All but height, width, frames and prompt are sizes of the networks: `--weights random` builds them as they are
    given here, and weights from elsewhere must agree with those that decide where the tokens are.

    num_layers, num_attention_heads, attention_head_dim: of the transformer. patch_size: latents a token covers in x
    and y. text_embed_dim: width of the prompt embedding. max_text_seq_length: its tokens, padding included. rotary:
    rotary position embedding in place of sines added to the tokens. vae_channels: one width a resolution level; the
    autoencoder shrinks space by 2 between levels. temporal_compression: frames a latent covers. scaling_factor: what
    latents are multiplied by. snr_shift_scale: of the noise schedule.
    """

    height: int = 480
    width: int = 720
    frames: int = 49
    num_layers: int = 30
    num_attention_heads: int = 30
    attention_head_dim: int = 64
    patch_size: int = 2
    text_embed_dim: int = 4096
    max_text_seq_length: int = 226
    time_embed_dim: int = 512
    rotary: bool = False
    latent_channels: int = 16
    vae_channels: tuple[int, ...] = (128, 256, 256, 512)
    vae_layers_per_block: int = 3
    vae_norm_groups: int = 32
    temporal_compression: int = 4
    scaling_factor: float = 1.15258426
    snr_shift_scale: float = 3.0

    @property
    def spatial_compression(self) -> int:
        """Pixels a latent covers in x and y."""
        return int(2 ** (len(self.vae_channels) - 1))


class CogVideoX(DiffusersVideoModel[CogVideoXConfig]):
    """CogVideoX through diffusers' `CogVideoXPipeline`.

    Random weights come without the text encoder, whose 4.7 billion parameters would only turn the prompt into other
    random numbers: the prompt embedding is then standard normal noise, seeded by the prompt's text.
    """

    pipeline_class: ClassVar[str] = "CogVideoXPipeline"
    card: ClassVar[str] = "vcorr_cogvideox:cards/cogvideox.yaml"
    text = "before"
    branches = ("uncond", "cond")

    def sites(self) -> Sequence[Site]:
        """The joint attention of every block."""
        return attention_sites("transformer_blocks.{}.attn1", self.config.num_layers, self.config.num_attention_heads)

    @property
    def compression(self) -> Compression:
        """4x8x8 and patches of 2x2 at the released sizes."""
        config = self.config
        return Compression(config.spatial_compression, config.temporal_compression, config.patch_size)

    def build(self, seed: int) -> Any:
        """The pipeline with random weights and without text encoder."""
        from vcorr_cogvideox.networks import build_pipeline

        return build_pipeline(self.config)

    def loaded_sizes(self) -> Mapping[str, Any]:
        """The sizes that decide where sites and tokens are."""
        transformer, vae = self.pipe.transformer.config, self.pipe.vae.config
        same_depth = len(vae.block_out_channels) == len(self.config.vae_channels)
        return {
            "num_layers": transformer.num_layers,
            "num_attention_heads": transformer.num_attention_heads,
            "patch_size": transformer.patch_size,
            "temporal_compression": vae.temporal_compression_ratio,
            # The number of levels decides the stride; their widths do not.
            "vae_channels": self.config.vae_channels if same_depth else tuple(vae.block_out_channels),
        }

    def condition(self, prompt: str, grid: TokenGrid) -> Mapping[str, Any]:
        """The prompt embedding and, for models that use them, the rotary tables, both as the pipeline makes them."""
        pipe = self.pipe
        rotary = None
        if pipe.transformer.config.use_rotary_positional_embeddings:
            rotary = pipe._prepare_rotary_positional_embeddings(
                round(grid.height), round(grid.width), grid.frames, self.device
            )
        return {"encoder_hidden_states": self._prompt_embedding(prompt), "image_rotary_emb": rotary}

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the transformer, for a batch of one."""
        return {
            "hidden_states": latents.transpose(1, 2).contiguous(),  # the transformer takes (B, F, C, h, w)
            "timestep": timestep.expand(1),
            "attention_kwargs": None,
            "return_dict": False,
            **condition,
        }

    def _prompt_embedding(self, prompt: str) -> Tensor:
        """(1, n, text_embed_dim), padded to the n text tokens of the transformer."""
        pipe = self.pipe
        tokens = pipe.transformer.config.max_text_seq_length
        if pipe.text_encoder is None:
            from vcorr_cogvideox.networks import random_prompt

            shape = (1, tokens, pipe.transformer.config.text_embed_dim)
            return random_prompt(shape, prompt).to(self.device, pipe.transformer.dtype)
        embedding: Tensor = pipe.encode_prompt(
            prompt, do_classifier_free_guidance=False, max_sequence_length=tokens, device=self.device
        )[0]
        return embedding
