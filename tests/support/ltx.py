"""LTX-Video as a plugin would bring it, its random pipeline small enough for tests."""

from dataclasses import dataclass

from vcorr.diffusion import Compression, DiffusersVideoModel, VideoConfig, attention_sites

TEXT_TOKENS, TEXT_WIDTH = 6, 16


@dataclass(frozen=True, kw_only=True)
class LTXConfig(VideoConfig):
    """Options of the model."""

    height: int = 64
    width: int = 96
    frames: int = 9
    num_layers: int = 2
    num_attention_heads: int = 2


class LTX(DiffusersVideoModel[LTXConfig]):
    """Full 3D self-attention over video tokens; text through cross-attention; flow matching shifted by resolution."""

    pipeline_class = "LTXPipeline"
    card = "support:ltx.yaml"
    branches = ("uncond", "cond")
    latent_axes = ""
    steps = 10

    def sites(self):
        return attention_sites("transformer_blocks.{}.attn1", self.config.num_layers, self.config.num_attention_heads)

    @property
    def compression(self):
        return Compression(spatial=4, temporal=4, patch=1)

    def build(self, seed):
        return random_pipeline(self.config)

    def call_inputs(self, clip, grid):
        import torch

        text, mask = torch.ones(1, TEXT_TOKENS, TEXT_WIDTH), torch.ones(1, TEXT_TOKENS)
        return {
            "prompt_embeds": text,
            "prompt_attention_mask": mask,
            "negative_prompt_embeds": -text,
            "negative_prompt_attention_mask": mask,
        }

    def denoiser_input(self, latents, own):
        return self.pipe._pack_latents(latents).to(own.dtype)

    def as_latents(self, output, latents):
        return self.pipe._unpack_latents(output, *latents.shape[2:])


def random_pipeline(config):
    """LTX with random weights and no text encoder."""
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXPipeline,
        LTXVideoTransformer3DModel,
    )

    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5,
        upsample_residual=(False,) * 4,
        upsample_factor=(1,) * 4,
        patch_size=1,
        patch_size_t=1,
    )
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=config.num_attention_heads,
        attention_head_dim=16,
        cross_attention_dim=16 * config.num_attention_heads,
        num_layers=config.num_layers,
        caption_channels=TEXT_WIDTH,
    )
    return LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae.eval(),
        text_encoder=None,
        tokenizer=None,
        transformer=transformer.eval(),
    )
