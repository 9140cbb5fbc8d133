"""HunyuanVideo 1.5 pipelines with random weights, at any size, and guidance as an argument of their call."""

from __future__ import annotations

from typing import Any

from diffusers import (
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
)

from vcorr_hunyuanvideo.model15 import HunyuanVideo15Config


class GuidedPipeline(HunyuanVideo15Pipeline):  # type: ignore[misc]  # diffusers is not typed
    """Text to video whose call takes the strength of guidance, which diffusers keeps in a guider."""

    def __call__(self, *args: Any, guidance_scale: float | None = None, **kwargs: Any) -> Any:
        """As the pipeline's, with another strength for this call alone."""
        own = self.guider
        if guidance_scale is not None:
            self.guider = own.new(guidance_scale=guidance_scale)
        try:
            return super().__call__(*args, **kwargs)
        finally:
            self.guider = own


def build_pipeline(config: HunyuanVideo15Config) -> Any:
    """A text-to-video pipeline with random weights from torch's generator, without tokenizers and text encoders."""
    pipe = GuidedPipeline(
        tokenizer=None,
        text_encoder=None,
        tokenizer_2=None,
        text_encoder_2=None,
        vae=build_vae(config).eval(),
        transformer=build_transformer(config).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=config.flow_shift),
        guider=ClassifierFreeGuidance(guidance_scale=config.guidance_scale),
    )
    pipe.vision_num_semantic_tokens = config.image_tokens
    return pipe


def build_vae(config: HunyuanVideo15Config) -> Any:
    """The causal video autoencoder."""
    return AutoencoderKLHunyuanVideo15(
        latent_channels=config.latent_channels,
        block_out_channels=config.vae_channels,
        layers_per_block=config.vae_layers_per_block,
        spatial_compression_ratio=config.spatial_compression,
        temporal_compression_ratio=config.temporal_compression,
        scaling_factor=config.scaling_factor,
    )


def build_transformer(config: HunyuanVideo15Config) -> Any:
    """The diffusion transformer: latents, those of an image, and a mask that tells which frames are given."""
    return HunyuanVideo15Transformer3DModel(
        in_channels=2 * config.latent_channels + 1,
        out_channels=config.latent_channels,
        num_attention_heads=config.num_attention_heads,
        attention_head_dim=config.attention_head_dim,
        num_layers=config.num_layers,
        num_refiner_layers=config.num_refiner_layers,
        text_embed_dim=config.text_embed_dim,
        text_embed_2_dim=config.text_embed_2_dim,
        image_embed_dim=config.image_embed_dim,
        rope_axes_dim=config.rope_axes_dim,
        task_type="t2v",
    )
