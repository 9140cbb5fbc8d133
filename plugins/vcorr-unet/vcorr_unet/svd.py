"""Stable Video Diffusion: image to video. One batch of two branches, guidance that rises over the frames, EDM noise.

The network sees the latents of the image beside those of every frame, and an embedding of the image by CLIP in place of
a prompt. What it gets as timestep is 0.25 ln(sigma), which may be negative.

Shape legend: T video frames, H x W pixels, C latent channels, F x h x w latents.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from vcorr import Clip, TokenGrid
from vcorr.diffusion import starting_image
from vcorr.records import Factorised
from vcorr_unet.structure import Transformer
from vcorr_unet.unet import UNetConfig, VideoUNet

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SVDConfig(UNetConfig):
    """Options of `svd`; see also those of every video UNet.

    num_attention_heads: of each level. time_embed_dim: width of the embedding of each of the three numbers that follow.
    fps, motion_bucket_id, noise_aug_strength: frames a second, amount of motion and noise on the image that the network
    is told of; the pipeline's defaults. The prompt is not read.
    """

    height: int = 576
    width: int = 1024
    frames: int = 14
    num_attention_heads: tuple[int, ...] = (5, 10, 20, 20)
    time_embed_dim: int = 256
    fps: int = 7
    motion_bucket_id: int = 127
    noise_aug_strength: float = 0.02

    @property
    def spatial_heads(self) -> tuple[int, ...]:
        """Heads of the spatial attention of each level."""
        return self.num_attention_heads


@dataclass(frozen=True, kw_only=True)
class SVDXTConfig(SVDConfig):
    """Options of `svd-xt`: those of `svd`, with more frames."""

    frames: int = 25


class SVD(VideoUNet[SVDConfig]):
    """Stable Video Diffusion through diffusers' `StableVideoDiffusionPipeline`.

    The image is frame 0 of the clip's video, in both modes. Random weights come with a small image encoder.
    """

    pipeline_class: ClassVar[str] = "StableVideoDiffusionPipeline"
    card: ClassVar[str] = "vcorr_unet:cards/svd.yaml"
    guidance_argument: ClassVar[str] = "max_guidance_scale"
    needs_image: ClassVar[bool] = True
    reads_prompt: ClassVar[bool] = False
    latent_axes: ClassVar[str] = "bfchw"
    steps = 25
    transformers = (
        Transformer("attentions.{}.transformer_blocks.0", Factorised("frame")),
        # takes the tokens apart by place, and puts them together again
        Transformer("attentions.{}.temporal_transformer_blocks.0", Factorised("place"), block_axes="fnc"),
    )

    def build(self, seed: int) -> Any:
        """The pipeline with random weights and a small image encoder."""
        from vcorr_unet.networks import svd_pipeline

        return svd_pipeline(self.config)

    def clip_condition(self, clip: Clip, grid: TokenGrid, seed: int) -> Mapping[str, Any]:
        """What the pipeline makes of the image: its embedding, its latents, (1, F, C, h, w), and the three numbers."""
        pipe, image = self.pipe, self._image(clip, grid)
        embedding = pipe._encode_image(image, self.device, 1, False)
        numbers = pipe._get_add_time_ids(
            self.config.fps - 1,  # the network was trained on frames a second less one
            self.config.motion_bucket_id,
            self.config.noise_aug_strength,
            embedding.dtype,
            1,
            1,
            False,
        )
        return {
            "encoder_hidden_states": embedding,
            "added_time_ids": numbers.to(self.device),
            "image": self._image_latents(image, grid, seed).to(embedding.dtype),
        }

    def inputs(self, latents: Tensor, timestep: Tensor, condition: Any) -> Mapping[str, Any]:
        """What the pipeline's loop passes to the UNet, for a batch of one."""
        import torch

        shared = {name: value for name, value in condition.items() if name != "image"}
        sample = torch.cat([latents.transpose(1, 2), condition["image"].to(latents.dtype)], dim=2)
        return {"sample": sample, "timestep": timestep, "return_dict": False, **shared}

    def call_inputs(self, clip: Clip, grid: TokenGrid) -> Mapping[str, Any]:
        """The image and the three numbers."""
        config = self.config
        return {
            "image": self._image(clip, grid),
            "fps": config.fps,
            "motion_bucket_id": config.motion_bucket_id,
            "noise_aug_strength": config.noise_aug_strength,
        }

    def _image(self, clip: Clip, grid: TokenGrid) -> Any:
        return starting_image(clip, grid, self.model_card().title)

    def _image_latents(self, image: Any, grid: TokenGrid, seed: int) -> Tensor:
        """Those of the image with a little noise on it, not scaled as those of a video are, for every frame."""
        from diffusers.utils.torch_utils import randn_tensor

        from vcorr.diffusion.latents import in_float32
        from vcorr.diffusion.sampling import sampling_generator

        pipe = self.pipe
        pixels = pipe.video_processor.preprocess(image, height=round(grid.height), width=round(grid.width))
        pixels = pixels.to(self.device)
        noise = randn_tensor(pixels.shape, generator=sampling_generator(seed), device=pixels.device, dtype=pixels.dtype)
        pixels = pixels + self.config.noise_aug_strength * noise
        with in_float32(pipe.vae):
            latents: Tensor = pipe._encode_vae_image(pixels, self.device, 1, False)
        return latents[:, None].repeat(1, grid.video_frames, 1, 1, 1)


class SVDXT(SVD):
    """Stable Video Diffusion XT: 25 frames."""

    card: ClassVar[str] = "vcorr_unet:cards/svd-xt.yaml"
