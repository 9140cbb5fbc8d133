"""Wan 2.1 as a plugin would bring it: guidance as two passes, labelled by the pipeline, conditional first."""

from dataclasses import dataclass

from vcorr.diffusion import Compression, DiffusersVideoModel, VideoConfig, attention_sites

TEXT_TOKENS, TEXT_WIDTH = 6, 16


@dataclass(frozen=True, kw_only=True)
class WanConfig(VideoConfig):
    """Options of the model."""

    height: int = 32
    width: int = 48
    frames: int = 9
    num_layers: int = 2
    num_attention_heads: int = 2


class Wan(DiffusersVideoModel[WanConfig]):
    """Full 3D self-attention over video tokens; text through cross-attention; flow matching by UniPC."""

    pipeline_class = "WanPipeline"
    card = "support:wan.yaml"
    steps = 4

    def sites(self):
        return attention_sites("blocks.{}.attn1", self.config.num_layers, self.config.num_attention_heads)

    @property
    def compression(self):
        return Compression(spatial=8, temporal=4, patch=2)

    def build(self, seed):
        return random_pipeline(self.config)

    def call_inputs(self, clip, grid):
        import torch

        text = torch.ones(1, TEXT_TOKENS, TEXT_WIDTH)
        return {"prompt_embeds": text, "negative_prompt_embeds": -text}


class TwoStageWan(Wan):
    """Two transformers that take turns, as in Wan 2.2: the first one down to a timestep of 900."""

    steps = 6
    denoisers = ("transformer", "transformer_2")

    def build(self, seed):
        return random_pipeline(self.config, boundary_ratio=0.9)

    def denoiser_at(self, timestep):
        return "transformer" if timestep >= 900 else "transformer_2"


def random_pipeline(config, boundary_ratio=None):
    """Wan with random weights and no text encoder; with a second transformer where there is a boundary."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel

    vae = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    )

    def transformer():
        return WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=config.num_attention_heads,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=TEXT_WIDTH,
            freq_dim=32,
            ffn_dim=32,
            num_layers=config.num_layers,
            cross_attn_norm=True,
            rope_max_seq_len=32,
        ).eval()

    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return WanPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae.eval(),
        transformer=transformer(),
        transformer_2=transformer() if boundary_ratio else None,
        boundary_ratio=boundary_ratio,
        scheduler=scheduler,
    )
